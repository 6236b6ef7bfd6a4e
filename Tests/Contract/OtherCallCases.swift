import CContract
import Glibc

/// The C library's other spellings of the same calls, and what only the kernel's own sockets know.
///
/// A library that interposes calls by name meets these names too.
enum OtherCallCases {
    static let cases: [Case] = spellings + kernelThings + lifetimes

    private static let spellings: [Case] =
        paired("the fortified read, recv and recvfrom receive as the plain ones do") { first, second in
            var room = [UInt8](repeating: 0, count: 8)
            try expect(second.write("abcdef"), 6)
            while first.unreadCount() != 6 { pause(milliseconds: 1) }
            try expect(Received(cx_fortified_read(first.fd, &room, 2, 8), room), "ab")
            try expect(Received(cx_fortified_recv(first.fd, &room, 2, 8, 0), room), "cd")
            try expect(Received(cx_fortified_recvfrom(first.fd, &room, 2, 8, 0, nil, nil), room), "ef")
            second.close()
            try first.awaitReadable()
            try expect(cx_fortified_read(first.fd, &room, 8, 8), 0)
        }
        + paired("the fortified poll and ppoll report as the plain ones do") { first, second in
            var wait = pollfd(fd: first.fd, events: 0x2005, revents: 0)
            let size = MemoryLayout<pollfd>.size
            try expect(cx_fortified_poll(&wait, 1, 0, size), 1)
            try expect(Int32(wait.revents), Int32(POLLOUT))
            second.close()
            first.settle([.readable, .writable, .peerHalfClosed])
            try expect(cx_fortified_ppoll(&wait, 1, nil, nil, size), 1)
            try expect(wait.revents, 0x2005)
        }
        + paired("epoll_pwait reports data, and lets in a blocked signal while it waits") { first, second in
            var blocked = sigset_t(), open = sigset_t()
            sigemptyset(&blocked)
            sigaddset(&blocked, SIGUSR1)
            sigemptyset(&open)
            sigprocmask(SIG_BLOCK, &blocked, nil)
            SignalCount.start(SIGUSR1, flags: 0)
            raise(SIGUSR1)
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable), 0)
            var events: UInt32 = 0
            try expect(Outcome(cx_epoll_pwait(set.fd, &events, -1, &open)), .failed(EINTR))
            try expect(SignalCount.value, 1)
            try expect(second.write("x"), 1)
            try expect(Outcome(cx_epoll_pwait(set.fd, &events, -1, nil)), 1)
            try expect(Events(rawValue: events), .readable)
        }
        + paired("pselect waits for data in its time and leaves its time-out as it was") { first, second in
            var set = fd_set()
            cx_zero(&set)
            cx_set(first.fd, &set)
            var time = timespec(tv_sec: 0, tv_nsec: 20_000_000)
            try expect(Outcome(pselect(first.fd + 1, &set, nil, nil, &time, nil)), 0)
            try expect(time.tv_nsec, 20_000_000)
            try expect(second.write("x"), 1)
            cx_set(first.fd, &set)
            try expect(Outcome(pselect(first.fd + 1, &set, nil, nil, nil, nil)), 1)
            try expect(cx_isset(first.fd, &set) != 0, true)
        }
        + paired("preadv2 and pwritev2 at offset -1 are readv and writev") { first, second in
            var bytes = Array("hello".utf8)
            let sent = bytes.withUnsafeMutableBytes { room in
                var part = iovec(iov_base: room.baseAddress, iov_len: 5)
                return pwritev2(first.fd, &part, 1, -1, 0)
            }
            try expect(sent, 5)
            try second.awaitReadable()
            var room = [UInt8](repeating: 0, count: 9)
            let got = room.withUnsafeMutableBytes { room in
                var part = iovec(iov_base: room.baseAddress, iov_len: 9)
                return preadv2(second.fd, &part, 1, -1, 0)
            }
            try expect(Received(got, room), "hello")
        }
        + paired("the C library's second names of calls are the calls") { first, second in
            var room = [UInt8](repeating: 0, count: 9)
            try expect(cx_alias_write(first.fd, "ab", 2), 2)
            try expect(cx_alias_send(first.fd, "cd", 2, 0), 2)
            while second.unreadCount() != 4 { pause(milliseconds: 1) }
            var wait = pollfd(fd: second.fd, events: Int16(POLLIN), revents: 0)
            try expect(cx_alias_poll(&wait, 1, -1), 1)
            try expect(Received(cx_alias_read(second.fd, &room, 9), room), "abcd")
            var bytes = Array("hello".utf8)
            let moved = bytes.withUnsafeMutableBytes { room in
                var part = iovec(iov_base: room.baseAddress, iov_len: 5)
                return [pwritev64v2(first.fd, &part, 1, -1, 0), preadv64v2(second.fd, &part, 1, -1, 0)]
            }
            try expect(moved, [5, 5])
            try expect(cx_alias_close(first.fd), 0)
            try expect(second.read(), .end)
        }
        + paired("dprintf prints into the stream, in its place") { first, second in
            try expect(first.write("a"), 1)
            try expect(cx_dprintf(first.fd, "b", 1), 4)
            try expect(first.write("c"), 1)
            try expect(cx_fortified_dprintf(first.fd, "d", 2), 4)
            try expect(second.readFully(10), "ab 1\ncd 2\n")
        }
        + paired("dup3 sets close-on-exec, and onto itself is EINVAL") { first, second in
            let target = try first.duplicate()
            try expect(Outcome(dup3(first.fd, target.fd, O_CLOEXEC)), .value(Int(target.fd)))
            try expect(Outcome(first.face.fcntl(target.fd, F_GETFD, 0)), .value(Int(FD_CLOEXEC)))
            try expect(Outcome(dup3(first.fd, first.fd, 0)), .failed(EINVAL))
            first.close()
            try expect(second.write("x"), 1)
            try expect(target.read(), "x")
        }
        + paired("close_range is a close") { first, second in
            try expect(Outcome(close_range(UInt32(first.fd), UInt32(first.fd), 0)), 0)
            try expect(second.read(), .end)
        }

    private static let kernelThings: [Case] =
        paired("O_ASYNC sends SIGIO when data comes") { first, second in
            SignalCount.start(SIGIO, flags: SA_RESTART)
            try expect(Outcome(first.face.fcntl(first.fd, F_SETOWN, getpid())), 0)
            try expect(Outcome(first.face.fcntl(first.fd, F_SETFL, O_RDWR | 0o20000)), 0)
            try expect(second.write("x"), 1)
            let deadline = seconds() + 2
            while SignalCount.value == 0 && seconds() < deadline { pause(milliseconds: 1) }
            try expect(SignalCount.value > 0, "SIGIO", got: "none")
            try expect(first.read(), "x")
        }
        + paired("the descriptor's link in /proc names a socket") { first, _ in
            var target = [UInt8](repeating: 0, count: 64)
            let count = target.withUnsafeMutableBytes {
                readlink("/proc/self/fd/\(first.fd)", $0.baseAddress!.assumingMemoryBound(to: CChar.self), 64)
            }
            let text = String(decoding: target.prefix(max(0, count)), as: UTF8.self)
            try expect(text.hasPrefix("socket:["), "socket:[…]", got: text)
        }
        + eachFamily("FIONREAD of a listener is EINVAL") { face, family in
            try expect(face.listener(family).sock.unreadCount(), .failed(EINVAL))
        }

    private static let lifetimes: [Case] =
        paired("a read that sleeps keeps the connection, though its descriptor is closed meanwhile") { first, second in
            let worker = Worker { first.read() }
            worker.waitUntilAsleep()
            first.close()
            try expect(second.poll([.readable, .peerHalfClosed], milliseconds: 20), [])
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
            try expect(second.read(), .end)
        }
        + paired(
            "a poll that sleeps keeps the connection, and reports NVAL when it wakes and finds its descriptor closed"
        ) { first, second in
            let worker = Worker { first.poll(.readable, milliseconds: -1) }
            worker.waitUntilAsleep()
            first.close()
            try expect(second.poll([.readable, .peerHalfClosed], milliseconds: 20), [])
            try expect(second.write("x"), 1)
            try expect(worker.join(), .invalid)
        }
        + paired("a process that exits without closing ends the connection in order") { first, second in
            let child = Child { _ in
                second.close()
                try expect(first.write("last words"), 10)
                _exit(0)
            }
            first.close()
            try expect(second.readFully(10), "last words")
            try expect(second.read(), .end)
            try child.join()
        }
}
