import CContract
import Glibc

/// Receiving from an open connection: flags, lengths, time-outs, and what is counted as unread.
enum ReceiveCases {
    static let cases: [Case] = peeking + waiting + lengths + timing + refusing

    private static let peeking: [Case] =
        paired("a peek leaves the data for the next read") { first, second in
            try expect(second.write("hello"), 5)
            try first.awaitReadable()
            try expect(first.recv(2, Msg.peek), "he")
            try expect(first.recv(4096, Msg.peek), "hello")
            try expect(first.recvmsg(4096, Msg.peek), "hello")
            try expect(first.unreadCount(), 5, "FIONREAD")
            try expect(first.read(), "hello")
            try expect(first.recv(1, Msg.peek | Msg.dontWait), .failed(EAGAIN))
        }
        + paired("a peek sees data that arrived in two writes as one") { first, second in
            try expect(second.write("ab"), 2)
            try expect(second.write("cd"), 2)
            while first.unreadCount() != 4 { pause(milliseconds: 1) }
            try expect(first.recv(4096, Msg.peek), "abcd")
            try expect(first.read(), "abcd")
        }
        + paired("a peek at the end of file gives the end, again and again") { first, second in
            second.close()
            try first.awaitReadable()
            try expect(first.recv(10, Msg.peek), .end)
            try expect(first.recv(10, Msg.peek), .end)
            try expect(first.read(), .end)
        }
        + paired("a peek at a reset takes the error away") { first, second in
            try second.lingerZero()
            second.close()
            try first.awaitReadable()
            try expect(first.recv(10, Msg.peek), .failed(ECONNRESET))
            try expect(first.read(), .end)
        }
        + paired("a blocking peek waits for the first byte") { first, second in
            let worker = Worker { first.recv(10, Msg.peek) }
            pause(milliseconds: 30)
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
            try expect(first.read(), "x")
        }

    private static let waiting: [Case] =
        paired("MSG_DONTWAIT on a blocking socket gives EAGAIN and leaves it blocking") { first, second in
            try expect(first.recv(1, Msg.dontWait), .failed(EAGAIN))
            try expect(Outcome(first.face.fcntl(first.fd, F_GETFL, 0)), .value(Int(O_RDWR)))
            try expect(second.write("x"), 1)
            try expect(first.read(), "x")
        }
        + paired("MSG_WAITALL waits for the last byte") { first, second in
            let worker = Worker { first.recv(6, Msg.waitAll) }
            for piece in ["ab", "cd", "ef"] {
                pause(milliseconds: 10)
                try expect(second.write(piece), 2)
            }
            try expect(worker.join(), "abcdef")
        }
        + paired("MSG_WAITALL ends early at the end of file") { first, second in
            try expect(second.write("abc"), 3)
            try expect(second.shutdown(.write), 0)
            try expect(first.recv(6, Msg.waitAll), "abc")
            try expect(first.recv(6, Msg.waitAll), .end)
        }
        + paired("MSG_WAITALL ends early at a reset, which the next read then reports") { first, second in
            try expect(second.write("abc"), 3)
            try first.awaitReadable()
            let worker = Worker { first.recv(6, Msg.waitAll) }
            pause(milliseconds: 20)
            try second.lingerZero()
            second.close()
            try expect(worker.join(), "abc")
            try expect(first.read(), .failed(ECONNRESET))
        }
        + paired("MSG_WAITALL on more than any buffer holds returns all of it") { first, second in
            let count = 8 << 20
            let worker = Worker { second.write(bytes: pattern(from: 0, count: count)) }
            var bytes = [UInt8](repeating: 0, count: count)
            try expect(Outcome(first.face.recv(first.fd, &bytes, count, Msg.waitAll)), .value(count))
            try expect(bytes == pattern(from: 0, count: count), "the bytes that were sent", got: "others")
            try expect(worker.join(), .value(count))
        }
        + paired("MSG_PEEK with MSG_WAITALL waits for all and takes nothing") { first, second in
            let worker = Worker { first.recv(4, Msg.waitAll | Msg.peek) }
            try expect(second.write("ab"), 2)
            pause(milliseconds: 20)
            try expect(second.write("cd"), 2)
            try expect(worker.join(), "abcd")
            try expect(first.unreadCount(), 4)
        }
        + paired("a blocking read returns what is there and does not wait for more") { first, second in
            let worker = Worker { first.read() }
            pause(milliseconds: 20)
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
        }

    private static let lengths: [Case] =
        paired("a reader sees end of file after the peer half-closes with data still unread") { first, second in
            try expect(second.write("data"), 4)
            try expect(second.shutdown(.write), 0)
            try expect(first.read(3), "dat")
            try expect(first.read(3), "a")
            try expect(first.read(3), .end)
            try expect(first.write("back"), 4)
            try expect(second.read(), "back")
        }
        + paired("message boundaries are not kept") { first, second in
            try expect(second.write("abc"), 3)
            try expect(second.write("def"), 3)
            while first.unreadCount() != 6 { pause(milliseconds: 1) }
            try expect(first.read(4), "abcd")
            try expect(first.read(4), "ef")
        }
        + paired("MSG_TRUNC throws bytes away and counts them") { first, second in
            try expect(second.write("abcdef"), 6)
            try first.awaitReadable()
            try expect(Outcome(first.face.recv(first.fd, nil, 4, Msg.truncate)), 4)
            try expect(first.read(), "ef")
        }
        + paired("MSG_TRUNC leaves the room as it was, with MSG_PEEK too") { first, second in
            try expect(second.write("abc"), 3)
            try first.awaitReadable()
            var bytes = Array("....".utf8)
            try expect(Outcome(first.face.recv(first.fd, &bytes, 4, Msg.truncate | Msg.peek)), 3)
            try expect(Outcome(first.face.recv(first.fd, &bytes, 4, Msg.truncate)), 3)
            try expect(String(decoding: bytes, as: UTF8.self), "....")
        }
        + paired("MSG_TRUNC never counts more than there is room for") { first, second in
            try expect(second.write("abcdef"), 6)
            try first.awaitReadable()
            var bytes = [UInt8](repeating: 0, count: 2)
            try expect(Outcome(first.face.recv(first.fd, &bytes, 2, Msg.truncate)), 2)
            try expect(first.read(), "cdef")
        }
        + paired("a read of no bytes returns at once and takes nothing") { first, second in
            try expect(first.read(0), .end)
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(first.read(0), .end)
            try expect(first.read(), "x")
        }
        + paired("a recv of no bytes is EAGAIN while nothing is unread, and 0 when something is") { first, second in
            try expect(first.recv(0, Msg.dontWait), .failed(EAGAIN))
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(first.recv(0, Msg.dontWait), .end)
            try expect(first.read(), "x")
        }
        + paired("FIONREAD counts the unread bytes, and 0 at the end of file") { first, second in
            try expect(first.unreadCount(), 0)
            try expect(second.write("hello"), 5)
            try first.awaitReadable()
            try expect(first.unreadCount(), 5)
            try expect(first.read(2), "he")
            try expect(first.unreadCount(), 3)
            second.close()
            first.settle([.readable, .writable, .peerHalfClosed])
            try expect(first.unreadCount(), 3)
            try expect(first.read(), "llo")
            try expect(first.unreadCount(), 0)
        }
        + paired("recvfrom and recvmsg name no source on a connected stream") { first, second in
            try expect(second.write("ab"), 2)
            try first.awaitReadable()
            var bytes: UInt8 = 0
            let named = Address.filled { first.face.recvfrom(first.fd, &bytes, 1, 0, $0, $1) == 1 ? 0 : -1 }
            try expect(named.address.bytes.count, 0, "length of the source address")
        }
        + paired("recvmsg gives back empty control data and no flags") { first, second in
            try expect(second.write("ab"), 2)
            try first.awaitReadable()
            var bytes = [UInt8](repeating: 0, count: 4), control = [UInt8](repeating: 0, count: 64)
            let (count, flags, length) = bytes.withUnsafeMutableBytes { room in
                control.withUnsafeMutableBytes { control in
                    var part = iovec(iov_base: room.baseAddress, iov_len: 4)
                    return withUnsafeMutablePointer(to: &part) { part in
                        var message = msghdr()
                        message.msg_iov = part
                        message.msg_iovlen = 1
                        message.msg_control = control.baseAddress
                        message.msg_controllen = 64
                        let count = first.face.recvmsg(first.fd, &message, 0)
                        return (count, message.msg_flags, message.msg_controllen)
                    }
                }
            }
            try expect(count, 2)
            try expect(flags, 0, "msg_flags")
            try expect(length, 0, "msg_controllen")
        }

    private static let timing: [Case] =
        paired("SO_RCVTIMEO makes a blocking read give EAGAIN, not before its time") { first, second in
            try first.setTimeout(SO_RCVTIMEO, milliseconds: 50)
            for read in [
                { first.read() }, { first.recv() }, { first.recvmsg() }, { first.readv() },
                { first.recv(9, Msg.waitAll) },
            ] {
                let start = seconds()
                try expect(read(), .failed(EAGAIN))
                try expect(seconds() - start > 0.045, "50 ms of waiting", got: "\(seconds() - start) s")
            }
            try expect(second.write("x"), 1)
            try expect(first.read(), "x")
        }
        + paired("SO_RCVTIMEO ends MSG_WAITALL with what has come") { first, second in
            try first.setTimeout(SO_RCVTIMEO, milliseconds: 50)
            try expect(second.write("abc"), 3)
            try expect(first.recv(9, Msg.waitAll), "abc")
        }
        + paired("SO_RCVTIMEO is read back, and zero means for ever") { first, second in
            try first.setTimeout(SO_RCVTIMEO, milliseconds: 1500)
            var time = timeval()
            var length = socklen_t(MemoryLayout<timeval>.size)
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, SO_RCVTIMEO, &time, &length)), 0)
            try expect(time.tv_sec, 1)
            try expect(time.tv_usec >= 500_000, "at least 500000 us", got: "\(time.tv_usec)")
            try first.setTimeout(SO_RCVTIMEO, milliseconds: 0)
            let worker = Worker { first.read() }
            pause(milliseconds: 50)
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
        }
        + paired("SO_RCVLOWAT holds back poll until so much is there") { first, second in
            try expect(first.setOption(SOL_SOCKET, SO_RCVLOWAT, 6), 0)
            try expect(second.write("abc"), 3)
            while first.unreadCount() != 3 { pause(milliseconds: 1) }
            try expect(first.poll(.readable), [])
            try expect(second.write("def"), 3)
            try expect(first.poll(.readable, milliseconds: 5000), .readable)
            try expect(first.read(), "abcdef")
        }
        + paired("SO_RCVLOWAT holds back a blocking read until so much is there, or its time has passed") {
            first, second in
            try expect(first.setOption(SOL_SOCKET, SO_RCVLOWAT, 6), 0)
            let worker = Worker { first.read() }
            try expect(second.write("abc"), 3)
            pause(milliseconds: 30)
            try expect(second.write("defghi"), 6)
            try expect(worker.join(), "abcdefghi")
            try expect(second.write("gh"), 2)
            while first.unreadCount() != 2 { pause(milliseconds: 1) }
            try expect(first.read(2), "gh")
            try expect(second.write("ij"), 2)
            while first.unreadCount() != 2 { pause(milliseconds: 1) }
            try expect(first.recv(9, Msg.dontWait), "ij")
            try first.setTimeout(SO_RCVTIMEO, milliseconds: 50)
            try expect(second.write("kl"), 2)
            while first.unreadCount() != 2 { pause(milliseconds: 1) }
            let start = seconds()
            try expect(first.read(), "kl")
            try expect(seconds() - start > 0.045, "50 ms of waiting", got: "\(seconds() - start) s")
        }

    private static let refusing: [Case] =
        paired("a read into an address that is not mapped is EFAULT and loses nothing") { first, second in
            try expect(second.write("abc"), 3)
            try first.awaitReadable()
            let nowhere = UnsafeMutableRawPointer(bitPattern: 16)
            try expect(Outcome(first.face.read(first.fd, nowhere, 3)), .failed(EFAULT))
            try expect(Outcome(first.face.recv(first.fd, nowhere, 3, 0)), .failed(EFAULT))
            try expect(first.read(), "abc")
        }
        + paired("MSG_OOB without urgent data is EINVAL, and MSG_ERRQUEUE without errors EAGAIN") { first, second in
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
            try expect(first.recv(1, 0x2000), .failed(EAGAIN))
            try expect(second.write("x"), 1)
            try expect(first.read(), "x")
        }
        + paired("lseek, pread and pwrite are ESPIPE") { first, second in
            var byte: UInt8 = 0
            try expect(Outcome(Int(lseek(first.fd, 0, SEEK_CUR))), .failed(ESPIPE))
            try expect(Outcome(pread(first.fd, &byte, 1, 0)), .failed(ESPIPE))
            try expect(Outcome(pwrite(first.fd, &byte, 1, 0)), .failed(ESPIPE))
            try expect(second.write("x"), 1)
        }
        + paired("every call on a closed descriptor is EBADF") { first, second in
            first.close()
            try expect(first.read(), .failed(EBADF))
            try expect(first.write("x"), .failed(EBADF))
            try expect(first.recv(), .failed(EBADF))
            try expect(first.shutdown(.both), .failed(EBADF))
            try expect(first.option(SOL_SOCKET, SO_ERROR), .failed(EBADF))
            try expect(first.name().result, .failed(EBADF))
            try expect(first.poll(.readable), .invalid)
            try expect(Outcome(first.face.close(first.fd)), .failed(EBADF))
        }
}
