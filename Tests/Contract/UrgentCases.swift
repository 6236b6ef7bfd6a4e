import CContract
import Glibc

/// Urgent data: the one byte beside the stream, and the mark that it leaves there.
enum UrgentCases {
    static let cases: [Case] = received + peeked + marked + roomless + ended

    private static let all: Events = [.readable, .priority, .writable, .peerHalfClosed]

    private static let received: [Case] =
        paired("urgent data shows as POLLPRI and in select's third set, and is read with MSG_OOB") { first, second in
            try expect(second.send("!", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(first.poll(all), [.priority, .writable])
            try expect(select(first, [.read, .exceptional]).ready, .exceptional)
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
        }
        + paired("a read stops before the urgent byte and steps over it next") { first, second in
            try expect(second.send("ab!", Msg.outOfBand), 3)
            try expect(second.write("cd"), 2)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            while first.unreadCount() == 0 { pause(milliseconds: 1) }
            pause(milliseconds: 20)
            try expect(first.read(), "ab")
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(first.readFully(2), "cd")
        }
        + paired("only the last byte of an urgent send is urgent") { first, second in
            try expect(second.send("abc", Msg.outOfBand), 3)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(first.recv(9, Msg.outOfBand), "c")
            try expect(first.read(), "ab")
            try expect(first.recv(1, Msg.dontWait), .failed(EAGAIN))
        }
        + paired("FIONREAD counts up to the urgent byte, and nothing where that comes next") { first, second in
            try expect(second.send("ab!", Msg.outOfBand), 3)
            try expect(second.write("cd"), 2)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            pause(milliseconds: 20)
            try expect(first.unreadCount(), 2)
            try expect(first.read(), "ab")
            try expect(first.unreadCount(), 0)
            try expect(first.read(), "cd")
        }
        + paired("an urgent byte that a read has stepped over is gone") { first, second in
            try expect(second.send("ab!", Msg.outOfBand), 3)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(first.recv(9, Msg.dontWait), "ab")
            try expect(first.recv(9, Msg.dontWait), .failed(EAGAIN))
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
            try expect(second.shutdown(.write), 0)
            try expect(first.read(), .end)
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
        }
        + paired("an urgent byte at which the reader stands is dropped when another one comes") { first, second in
            try expect(second.send("A", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(second.send("B", Msg.outOfBand), 1)
            try expect(second.send("C", Msg.outOfBand), 1)
            try expect(second.write("xyz"), 3)
            try expect(first.poll(.readable, milliseconds: 5000), .readable)
            try expect(first.unreadCount(), 0)
            try expect(first.recv(9, Msg.dontWait), "xyz")
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
        }
        + paired("an urgent byte that was received is not read again when another one comes") { first, second in
            try expect(second.send("A", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(first.recv(1, Msg.outOfBand), "A")
            try expect(second.send("B", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(first.poll(all), [.priority, .writable])
            try expect(first.recv(1, Msg.outOfBand), "B")
            try expect(second.write("xyz"), 3)
            try expect(first.poll(.readable, milliseconds: 5000), .readable)
            try expect(first.recv(9, Msg.dontWait), "xyz")
        }
        + paired("an urgent byte is dropped for another one that comes behind data, too") { first, second in
            try expect(second.send("A", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(second.write("mid"), 3)
            try expect(second.send("B", Msg.outOfBand), 1)
            while first.unreadCount() != 3 { pause(milliseconds: 1) }
            try expect(first.read(), "mid")
            try expect(first.recv(1, Msg.outOfBand), "B")
        }
        + paired("with SO_OOBINLINE the urgent byte is read in its place") { first, second in
            try expect(first.setOption(SOL_SOCKET, SO_OOBINLINE, 1), 0)
            try expect(second.send("ab!", Msg.outOfBand), 3)
            try expect(second.write("cd"), 2)
            try expect(first.readFully(5), "ab!cd")
        }

    /// What comes is there when this returns: bytes, an urgent one, more bytes.
    private static func send(_ before: String, _ urgent: String, _ after: String, from: Sock, to: Sock) throws {
        for (text, flags) in [(before, 0), (urgent, Msg.outOfBand), (after, 0)] where !text.isEmpty {
            try expect(from.send(text, flags), .value(text.utf8.count))
        }
        try expect(to.poll(.priority, milliseconds: 5000), .priority)
        pause(milliseconds: 20)
    }

    private static func isAtMark(_ sock: Sock) -> Outcome {
        var answer: Int32 = -1
        let result = Outcome(sock.face.ioctl(sock.fd, UInt(SIOCATMARK), &answer))
        return result == 0 ? .value(Int(answer)) : result
    }

    private static let peeked: [Case] =
        paired("a peek at the urgent byte looks past it, and changes nothing") { first, second in
            try send("abc", "!", "def", from: second, to: first)
            try expect(first.recv(9, Msg.peek), "abc")
            try expect(first.read(3), "abc")
            for _ in 1...2 {
                try expect(first.recv(9, Msg.peek), "def")
                try expect(first.recv(2, Msg.peek | Msg.waitAll), "de")
                try expect(first.poll(all), [.readable, .priority, .writable])
                try expect(select(first, [.read, .exceptional]).ready, [.read, .exceptional])
                try expect(first.unreadCount(), 0)
                try expect(isAtMark(first), 1)
                try expect(first.recv(1, Msg.outOfBand | Msg.peek), "!")
            }
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(first.recv(9, Msg.peek), "def")
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
            try expect(first.read(), "def")
        }
        + paired("an urgent byte that was peeked past and read past never comes for a newer one") { first, second in
            try send("abc", "!", "def", from: second, to: first)
            try expect(first.read(3), "abc")
            try expect(first.recv(9, Msg.peek), "def")
            try expect(first.read(), "def")
            try expect(first.poll(all), .writable)
            try send("xy", "?", "z", from: second, to: first)
            try expect(first.recv(1, Msg.outOfBand), "?")
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
            try expect(first.readFully(3), "xyz")
        }
        + paired("a read of no bytes at the urgent byte changes nothing") { first, second in
            try send("", "!", "", from: second, to: first)
            try expect(first.recv(0), .end)
            try expect(first.recv(0, Msg.peek), .end)
            try expect(first.poll(all), [.priority, .writable])
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(second.write("ab"), 2)
            try expect(first.read(), "ab")
        }
        + paired("a peek finds nothing behind an urgent byte that is the last, and waits") { first, second in
            try send("", "!", "", from: second, to: first)
            try expect(first.recv(9, Msg.peek | Msg.dontWait), .failed(EAGAIN))
            try expect(first.poll(all), [.priority, .writable])
            let worker = Worker { first.recv(9, Msg.peek) }
            pause(milliseconds: 30)
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(first.read(), "x")
            try send("", "?", "", from: second, to: first)
            try expect(second.shutdown(.write), 0)
            try first.awaitReadable()
            try expect(first.recv(9, Msg.peek), .end)
            try expect(first.recv(1, Msg.outOfBand), "?")
            try expect(first.read(), .end)
        }

    private static let marked: [Case] =
        paired("the mark is gone once the urgent byte was stepped over, even if it was the last") { first, second in
            try send("ab", "!", "", from: second, to: first)
            try expect(isAtMark(first), 0)
            try expect(first.read(), "ab")
            try expect(isAtMark(first), 1)
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(isAtMark(first), 1, "received beside the stream")
            try expect(first.recv(9, Msg.dontWait), .failed(EAGAIN))
            try expect(isAtMark(first), 0)
        }
        + paired("MSG_WAITALL ends before an urgent byte, also one that it has waited for") { first, second in
            try send("ab", "!", "cd", from: second, to: first)
            try expect(first.recv(9, Msg.waitAll), "ab")
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(first.readFully(2), "cd")
            let worker = Worker { first.recv(9, Msg.waitAll) }
            try expect(second.write("ef"), 2)
            pause(milliseconds: 30)
            try expect(second.send("?", Msg.outOfBand), 1)
            try expect(worker.join(), "ef")
            try expect(first.recv(1, Msg.outOfBand), "?")
        }
        + paired("SO_OOBINLINE brings back no urgent byte that another one has overtaken") { first, second in
            try send("", "A", "", from: second, to: first)
            try send("", "B", "xyz", from: second, to: first)
            try expect(first.setOption(SOL_SOCKET, SO_OOBINLINE, 1), 0)
            try expect(first.unreadCount(), 4)
            try expect(first.readFully(4), "Bxyz")
        }
        + paired("an urgent byte that was overtaken under SO_OOBINLINE stays in the stream without it") {
            first, second in
            try expect(first.setOption(SOL_SOCKET, SO_OOBINLINE, 1), 0)
            try send("", "A", "", from: second, to: first)
            try send("", "B", "xyz", from: second, to: first)
            try expect(first.setOption(SOL_SOCKET, SO_OOBINLINE, 0), 0)
            try expect(first.unreadCount(), 1)
            try expect(first.read(), "A")
            try expect(first.recv(1, Msg.outOfBand), "B")
            try expect(first.read(), "xyz")
        }

    private static let roomless: [Case] =
        paired("recvmsg stores the urgent byte in the first vector that has room") { first, second in
            try send("", "!", "", from: second, to: first)
            try expect(
                first.receive(into: [0, 4], Msg.outOfBand), Message(count: 1, bytes: "!...", flags: Msg.outOfBand))
        }
        + paired("an urgent byte without room is lost, and MSG_TRUNC says so") { first, second in
            try send("", "!", "", from: second, to: first)
            let lost = Message(count: 0, bytes: "", flags: Msg.outOfBand | Msg.truncate)
            try expect(first.receive(into: [], Msg.outOfBand | Msg.peek), lost)
            try expect(first.receive(into: [0, 0], Msg.outOfBand), lost)
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
        }
        + paired("an urgent byte that MSG_TRUNC throws away is stored nowhere") { first, second in
            try send("", "!", "", from: second, to: first)
            try expect(
                first.receive(into: [4], Msg.outOfBand | Msg.truncate),
                Message(count: 1, bytes: "....", flags: Msg.outOfBand))
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
        }
        + paired("recvmmsg ends with a message that is urgent") { first, second in
            try send("", "!", "", from: second, to: first)
            var byte: UInt8 = 0
            let result = withUnsafeMutablePointer(to: &byte) { byte in
                var part = iovec(iov_base: byte, iov_len: 1)
                return withUnsafeMutablePointer(to: &part) { part in
                    var message = cx_mmsghdr()
                    message.header.msg_iov = part
                    message.header.msg_iovlen = 1
                    var messages = [message, message]
                    return first.face.recvmmsg(first.fd, &messages, 2, Msg.outOfBand | Msg.peek, nil)
                }
            }
            try expect(Outcome(result), 1)
            try expect(byte, 33)
        }

    private static let ended: [Case] =
        paired("a waiting urgent byte is received after the peer's end, too") { first, second in
            try send("", "!", "", from: second, to: first)
            try expect(second.shutdown(.write), 0)
            try first.awaitReadable()
            try expect(first.recv(1, Msg.outOfBand), "!")
        }
        + paired("after a reset a waiting urgent byte is ENOTCONN, and EINVAL where none waits") { first, second in
            try send("", "!", "", from: second, to: first)
            try second.lingerZero()
            second.close()
            try expect(first.poll([], milliseconds: 5000).contains(.error), true)
            try expect(first.recv(1, Msg.outOfBand), .failed(ENOTCONN))
            try expect(first.setOption(SOL_SOCKET, SO_OOBINLINE, 1), 0)
            try expect(first.recv(1, Msg.outOfBand), .failed(EINVAL))
        }
}
