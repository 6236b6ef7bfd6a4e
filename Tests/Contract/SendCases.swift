import CContract
import Glibc

/// Sending on an open connection: lengths, full buffers, gathering, and errors that come back later.
enum SendCases {
    static let cases: [Case] = small + full + errors

    private static let small: [Case] =
        paired("a write of no bytes gives 0 and sends nothing") { first, second in
            try expect(first.write(""), 0)
            try expect(first.send(""), 0)
            try expect(first.writev(["", ""]), 0)
            try expect(first.writev([]), 0)
            try expect(second.recv(1, Msg.dontWait), .failed(EAGAIN))
        }
        + paired("a write of no bytes after the own half-close is EPIPE") { first, _ in
            cx_ignore_signal(SIGPIPE)
            try expect(first.shutdown(.write), 0)
            try expect(first.write(""), .failed(EPIPE))
            try expect(first.send("", Msg.noSignal), .failed(EPIPE))
        }
        + paired("writev sends its pieces in order, empty ones among them") { first, second in
            try expect(first.writev(["ab", "", "c", "def", ""]), 6)
            try expect(second.readFully(6), "abcdef")
        }
        + paired("writev takes 1024 pieces, and 1025 are EINVAL") { first, second in
            let pieces = (0..<1024).map { String($0 % 10) }
            try expect(first.writev(pieces), 1024)
            try expect(second.readFully(1024), pieces.joined())
            try expect(first.writev(pieces + ["x"]), .failed(EINVAL))
        }
        + paired("readv fills its pieces in order") { first, second in
            try expect(second.write("abcdef"), 6)
            try first.awaitReadable()
            try expect(first.readv(4), "abcd")
            try expect(first.readv(4), "ef")
        }
        + paired("each sending call takes all of a small piece") { first, second in
            try expect(first.write("a"), 1)
            try expect(first.send("b"), 1)
            try expect(first.sendto("c"), 1)
            try expect(first.sendmsg("d"), 1)
            try expect(first.writev(["e", "f"]), 2)
            try expect(second.readFully(6), "abcdef")
        }
        + paired("sendto with an address on a connected stream ignores the address") { first, second in
            let sent = first.face.address(first.face.families[0], 9).with { address, length in
                Outcome(first.face.sendto(first.fd, "x", 1, 0, address, length))
            }
            try expect(sent, 1)
            try expect(second.read(), "x")
        }
        + paired("MSG_FASTOPEN on a connection is EISCONN, and sends nothing") { first, second in
            let fastOpen = Int32(0x2000_0000)
            try expect(first.send("x", fastOpen), .failed(EISCONN))
            let sent = first.face.address(first.face.families[0], 9).with { address, length in
                Outcome(first.face.sendto(first.fd, "x", 1, fastOpen, address, length))
            }
            try expect(sent, .failed(EISCONN))
            try expect(first.write("y"), 1)
            try expect(second.read(), "y")
        }
        + paired("data held back with MSG_MORE goes out with the next write or with the end") { first, second in
            try expect(first.send("ab", Msg.more), 2)
            try expect(first.write("cd"), 2)
            try expect(second.readFully(4), "abcd")
            try expect(first.send("ef", Msg.more), 2)
            try expect(first.shutdown(.write), 0)
            try expect(second.readFully(3), "ef")
        }

    private static let full: [Case] =
        paired("a non-blocking socket takes writes until EAGAIN, loses POLLOUT, and regains it when the peer reads") {
            first, second in
            try first.setNonBlocking()
            var sent = 0
            let piece = pattern(from: 0, count: 65536)
            filling: while true {
                switch first.write(bytes: piece) {
                case .value(let count): sent += count
                case .failed(let code):
                    try expect(code, EAGAIN)
                    break filling
                }
                try expect(sent < 1 << 30, "EAGAIN", got: "a gigabyte in flight")
            }
            try expect(sent > 0, "some bytes", got: "none")
            try expect(first.poll([.writable, .readable]), [])
            try expect(select(first, .write).ready, [])
            try expect(first.send("x", Msg.dontWait), .failed(EAGAIN))
            try drain(second, sent)
            try expect(first.poll(.writable, milliseconds: 5000), .writable)
            try expect(first.write("x"), 1)
        }
        + paired("MSG_DONTWAIT on a blocking socket fills up to EAGAIN too") { first, second in
            let text = String(repeating: "x", count: 65536)
            var sent = 0
            while case .value(let count) = first.send(text, Msg.dontWait) { sent += count }
            try expect(first.send(text, Msg.dontWait), .failed(EAGAIN))
            try drain(second, sent)
        }
        + paired("a non-blocking write of 8 MiB takes a part of it") { first, second in
            try first.setNonBlocking()
            let sent = try first.write(bytes: pattern(from: 0, count: 8 << 20)).value
            try expect(sent > 0 && sent <= 8 << 20, "1 to 8 MiB", got: "\(sent)")
            try drain(second, sent)
        }
        + paired("a blocking write of 8 MiB returns when all of it is taken") { first, second in
            let worker = Worker { first.write(bytes: pattern(from: 0, count: 8 << 20)) }
            try drain(second, 8 << 20)
            try expect(worker.join(), .value(8 << 20))
        }
        + forked("a blocking writev of 8 MiB in 128 pieces reaches another process whole") { sock, _ in
            try drain(sock, 8 << 20)
        } ours: { sock, _ in
            let bytes = pattern(from: 0, count: 8 << 20)
            let sent = bytes.withUnsafeBytes { room in
                let parts = (0..<128).map { index in
                    iovec(
                        iov_base: UnsafeMutableRawPointer(mutating: room.baseAddress! + index << 16), iov_len: 1 << 16)
                }
                return Outcome(sock.face.writev(sock.fd, parts, 128))
            }
            try expect(sent, .value(8 << 20))
        }
        + paired("SO_SNDTIMEO ends a blocking write with what was taken, and the next one with EAGAIN") {
            first, second in
            try first.setTimeout(SO_SNDTIMEO, milliseconds: 50)
            let bytes = pattern(from: 0, count: 64 << 20)
            let sent = try first.write(bytes: bytes).value
            try expect(sent > 0 && sent < bytes.count, "a part of 64 MiB", got: "\(sent)")
            var more = 0
            // What the receiver's window still takes is no failure; it ends with EAGAIN.
            while case .value(let count) = first.write(bytes: pattern(from: sent + more, count: 1 << 20)) {
                more += count
            }
            try expect(Outcome(first.face.write(first.fd, bytes, 1)), .failed(EAGAIN))
            try drain(second, sent + more)
        }
        + paired("a blocked write ends with what was taken when the peer closes, and then with an error") {
            first, second in
            cx_ignore_signal(SIGPIPE)
            let worker = blockedWrite(first)
            second.close()
            let sent = try worker.join().value
            try expect(sent > 0 && sent < 64 << 20, "a part of 64 MiB", got: "\(sent)")
            try expect(first.write("x"), .failed(ECONNRESET))
            try expect(first.write("x"), .failed(EPIPE))
        }
        + paired("the data of a writer that closes at once all arrives before the end") { first, second in
            let worker = Worker {
                let sent = first.write(bytes: pattern(from: 0, count: 1 << 20))
                first.close()
                return sent
            }
            pause(milliseconds: 20)
            try drain(second, 1 << 20)
            try expect(second.read(), .end)
            try expect(worker.join(), .value(1 << 20))
        }

    private static let errors: [Case] =
        paired("a write from an address that is not mapped is EFAULT and sends nothing") { first, second in
            let nowhere = UnsafeRawPointer(bitPattern: 16)
            try expect(Outcome(first.face.write(first.fd, nowhere, 3)), .failed(EFAULT))
            try expect(Outcome(first.face.send(first.fd, nowhere, 3, 0)), .failed(EFAULT))
            try expect(second.recv(1, Msg.dontWait), .failed(EAGAIN))
        }
        + paired("one write after the peer closed leaves SO_ERROR EPIPE, because its end had been seen") {
            first, second in
            second.close()
            first.settle([.readable, .writable, .peerHalfClosed])
            try expect(first.write("x"), 1)
            let expected: Events = [.readable, .writable, .peerHalfClosed, .hangup, .error]
            try expect(first.settle(expected), expected)
            try expect(first.pendingError(), "EPIPE")
            try expect(first.pendingError(), "0")
            try expect(first.read(), .end)
        }
        + paired("a read takes no EPIPE away: it gives the end after data was lost to a closed peer") { first, second in
            second.close()
            first.settle([.readable, .writable, .peerHalfClosed])
            try expect(first.write("x"), 1)
            first.settle([.readable, .writable, .peerHalfClosed, .hangup, .error])
            try expect(first.read(), .end)
            try expect(first.pendingError(), "EPIPE")
        }
        + paired("SIGPIPE kills a process that does not care for it") { first, second in
            try expect(first.shutdown(.write), 0)
            let child = Child { _ in
                cx_default_signal(SIGPIPE)
                _ = first.write("x")
            }
            var status: Int32 = 0
            waitpid(child.pid, &status, 0)
            try expect(cx_death_signal(status), SIGPIPE)
            try expect(second.read(), .end)
        }
        + eachFamily("the second write to a killed peer is EPIPE, though nothing was waited for in between") {
            face, family in
            cx_ignore_signal(SIGPIPE)
            let listener = try face.listener(family)
            let child = Child { turns in
                _ = try listener.connect()
                turns.stay()
            }
            let sock = try listener.accept()
            child.kill()
            try expect(sock.write("x"), 1)
            pause(milliseconds: 20)
            try expect(sock.write("x"), .failed(EPIPE))
        }
        + paired("SO_ERROR tells of a reset that nothing has waited for") { first, second in
            try expect(first.write("unread"), 6)
            try second.awaitReadable()
            second.close()
            pause(milliseconds: 20)
            try expect(first.pendingError(), "ECONNRESET")
        }
        + paired("a read after the own reading side is shut tells of a reset that nothing has waited for") {
            first, second in
            try expect(first.shutdown(.read), 0)
            try expect(first.write("unread"), 6)
            try second.awaitReadable()
            second.close()
            pause(milliseconds: 20)
            try expect(first.read(), .failed(ECONNRESET))
            try expect(first.read(), .end)
        }
        + paired("what comes after both sides were shut, one after the other, is answered by a reset") {
            first, second in
            cx_ignore_signal(SIGPIPE)
            try expect(first.shutdown(.read), 0)
            try expect(first.shutdown(.write), 0)
            try expect(second.read(), .end)
            try expect(second.write("x"), 1)
            try expect(second.settle([.readable, .writable, .peerHalfClosed, .error, .hangup]).contains(.hangup), true)
            try expect(second.write("x"), .failed(EPIPE))
        }.holding(for: [.tcp], DifferenceCases.refused)
        + paired("after SO_LINGER 0 behind a half-close reading ends well, and the next write is refused") {
            first, second in
            cx_ignore_signal(SIGPIPE)
            try expect(second.write("x"), 1)
            try second.lingerZero()
            try expect(second.shutdown(.write), 0)
            second.close()
            try expect(first.settle([.readable, .writable, .peerHalfClosed, .error, .hangup]).contains(.hangup), true)
            try expect(first.read(), "x")
            try expect(first.read(), .end)
            try expect(first.write("x"), .failed(EPIPE))
        }
        + paired("data for a peer that has shut both sides resets both ends") { first, second in
            try expect(first.write("before"), 6)
            try second.awaitReadable()
            try expect(second.shutdown(.both), 0)
            try expect(first.write("late"), 4)
            let ended: Events = [.readable, .writable, .error, .hangup, .peerHalfClosed]
            try expect(second.settle(ended), ended)
            try expect(second.shutdown(.both), .failed(ENOTCONN))
            try expect(second.peerName().result, .failed(ENOTCONN))
            try expect(second.read(), "before")
            try expect(second.read(), .failed(ECONNRESET))
            try expect(second.read(), .end)
            try expect(first.settle(ended), ended)
            try expect(first.pendingError(), "EPIPE")
        }.holding(for: [.tcp], DifferenceCases.released)
        + paired("a second shutdown of the same side is no error while the peer is open") { first, _ in
            try expect(first.shutdown(.write), 0)
            try expect(first.shutdown(.write), 0)
            try expect(first.shutdown(.read), 0)
            try expect(first.shutdown(.both), 0)
        }
        + paired("shutdown after a reset is ENOTCONN, and with a wrong number EINVAL") { first, second in
            try expect(Outcome(first.face.shutdown(first.fd, 3)), .failed(EINVAL))
            try second.lingerZero()
            second.close()
            try first.awaitReadable()
            try expect(first.shutdown(.write), .failed(ENOTCONN))
        }

    /// A thread in a write of 64 MiB, seen to have filled what there is to fill.
    static func blockedWrite(_ sock: Sock) -> Worker<Outcome> {
        let bytes = [UInt8](repeating: 7, count: 64 << 20)
        let worker = Worker { sock.write(bytes: bytes) }
        while !sock.poll(.writable).isEmpty { pause(milliseconds: 1) }
        pause(milliseconds: 20)
        return worker
    }

    /// Takes that many bytes; what they are is the matter of BulkCases.
    static func drain(_ sock: Sock, _ count: Int) throws {
        var position = 0
        var bytes = [UInt8](repeating: 0, count: 1 << 17)
        while position < count {
            let got = try Outcome(sock.face.read(sock.fd, &bytes, min(bytes.count, count - position))).value
            try expect(got > 0, "\(count) bytes", got: "the end after \(position)")
            position += got
        }
    }
}
