import CContract
import Glibc

/// A waiter that already sleeps, and everything that must wake it.
enum WakeCases {
    static let cases: [Case] =
        wakers.flatMap { waker in
            waiters.map { waiter in wake(waiter, waker) }
        } + threads

    private struct Waiter: Sendable {
        let name: String
        /// Sleeps until something is to be read, and says what it saw.
        let wait: @Sendable (Sock) throws -> String
    }

    private struct Waker: Sendable {
        let name: String
        let leavesUnread: Bool
        let revents: Events
        let read: String
        let act: @Sendable (Sock) throws -> Void
    }

    private static let everything: Events = [.readable, .peerHalfClosed]

    private static let waiters: [Waiter] = [
        Waiter(name: "poll") { "\($0.poll(everything, milliseconds: -1))" },
        Waiter(name: "ppoll") { sock in
            var wait = pollfd(fd: sock.fd, events: Int16(truncatingIfNeeded: everything.rawValue), revents: 0)
            _ = sock.face.ppoll(&wait, 1, nil, nil)
            return "\(Events(rawValue: UInt32(UInt16(bitPattern: wait.revents))))"
        },
        Waiter(name: "poll without events") { sock in "\(sock.poll([], milliseconds: 3000))" },
        Waiter(name: "epoll_wait") { sock in
            let set = try EpollSet(sock.face)
            try expect(set.add(sock, everything), 0)
            return "\(try set.wait(milliseconds: -1).first?.events ?? [])"
        },
        Waiter(name: "edge-triggered epoll_wait") { sock in
            let set = try EpollSet(sock.face)
            try expect(set.add(sock, [.readable, .peerHalfClosed, .edge]), 0)
            return "\(try set.wait(milliseconds: -1).first?.events ?? [])"
        },
        Waiter(name: "poll of an epoll descriptor") { sock in
            let set = try EpollSet(sock.face)
            try expect(set.add(sock, everything), 0)
            return "\(set.asSock.poll(.readable, milliseconds: -1))"
        },
        Waiter(name: "select") { "\(select($0, .read, milliseconds: nil).ready)" },
        Waiter(name: "read") { "\($0.read())" },
        Waiter(name: "recvmsg") { "\($0.recvmsg())" },
        Waiter(name: "recv with MSG_PEEK") { "\($0.recv(9, Msg.peek))" },
        Waiter(name: "readv") { "\($0.readv())" },
    ]

    private static let reset: Events = [.readable, .peerHalfClosed, .error, .hangup]

    private static let wakers: [Waker] = [
        Waker(name: "the peer's data", leavesUnread: false, revents: .readable, read: "x") {
            try expect($0.write("x"), 1)
        },
        Waker(name: "the peer's half-close", leavesUnread: false, revents: everything, read: "end") {
            try expect($0.shutdown(.write), 0)
        },
        Waker(name: "the peer's close", leavesUnread: false, revents: everything, read: "end") { $0.close() },
        Waker(name: "the peer's close with data unread", leavesUnread: true, revents: reset, read: "ECONNRESET") {
            $0.close()
        },
        Waker(name: "the peer's reset", leavesUnread: false, revents: reset, read: "ECONNRESET") {
            try $0.lingerZero()
            $0.close()
        },
        Waker(name: "the peer's death", leavesUnread: false, revents: everything, read: "end") { _ in
            kill(getpid(), SIGKILL)
        },
    ]

    /// The peer is another process, so that the wake-up crosses from one to the other.
    private static func wake(_ waiter: Waiter, _ waker: Waker) -> Case {
        let expected: String
        switch waiter.name {
        case "poll without events": expected = "\(waker.revents.intersection([.error, .hangup]))"
        case "poll of an epoll descriptor": expected = "IN"
        case "select": expected = "read"
        case "read", "recvmsg", "readv", "recv with MSG_PEEK": expected = waker.read
        default: expected = "\(waker.revents)"
        }
        if expected == "0" {
            return Case("\(waiter.name) sleeps through \(waker.name)") { face in
                try expect(sleep(face, waker) { sock in "\(sock.poll([], milliseconds: 60))" }, "0")
            }
        }
        return Case("a sleeping \(waiter.name) is woken by \(waker.name) and reports \(expected)") { face in
            try expect(sleep(face, waker, waiter.wait), expected)
        }
    }

    private static func sleep(
        _ face: Face, _ waker: Waker, _ wait: @escaping @Sendable (Sock) throws -> String
    ) throws -> String {
        let listener = try face.listener()
        let child = Child { turns in
            let peer = try listener.connect()
            listener.close()
            try turns.takeTurn()
            if waker.leavesUnread { try peer.awaitReadable() }
            pause(milliseconds: 15)
            try waker.act(peer)
            turns.stay()
        }
        let sock = try listener.accept()
        listener.close()
        if waker.leavesUnread { try expect(sock.write("left"), 4) }
        child.signal()
        defer { child.kill() }
        return try wait(sock)
    }

    private static let threads: [Case] =
        paired("two threads blocked in read on one socket are both woken, one byte each") { first, second in
            let workers = (0..<2).map { _ in Worker { first.read(1) } }
            pause(milliseconds: 30)
            try expect(second.write("x"), 1)
            try expect(second.write("x"), 1)
            for worker in workers { try expect(worker.join(), "x") }
        }
        + paired("two threads blocked in read on one socket both see the end") { first, second in
            let workers = (0..<2).map { _ in Worker { first.read(1) } }
            pause(milliseconds: 30)
            second.close()
            for worker in workers { try expect(worker.join(), .end) }
        }
        + paired("two threads blocked in poll on one socket are both woken by one byte") { first, second in
            let workers = (0..<2).map { _ in Worker { first.poll(.readable, milliseconds: -1) } }
            pause(milliseconds: 30)
            try expect(second.write("x"), 1)
            for worker in workers { try expect(worker.join(), .readable) }
        }
        + paired("a reader, a poller, a selecter and an epoll waiter on one socket are all woken by the end") {
            first, second in
            let workers: [Worker<String>] = [
                Worker { "\(first.read())" },
                Worker { "\(first.poll(.readable, milliseconds: -1))" },
                Worker { "\(select(first, .read, milliseconds: nil).ready)" },
                Worker {
                    let set = try EpollSet(first.face)
                    try expect(set.add(first, .readable), 0)
                    return "\(try set.wait(milliseconds: -1))"
                },
            ]
            pause(milliseconds: 30)
            try expect(second.shutdown(.write), 0)
            try expect(workers.map { try $0.join() }, ["end", "IN", "read", "[IN with data 0]"])
        }
        + paired("two threads reading one socket lose nothing") { first, second in
            let count = 1 << 20
            let workers = (0..<2).map { _ in
                Worker {
                    var sum = 0, total = 0
                    var bytes = [UInt8](repeating: 0, count: 1000)
                    while true {
                        let got = first.face.read(first.fd, &bytes, bytes.count)
                        if got <= 0 { return [total, sum] }
                        total += got
                        for byte in bytes.prefix(got) { sum += Int(byte) }
                    }
                }
            }
            let bytes = pattern(from: 0, count: count)
            try expect(second.write(bytes: bytes), .value(count))
            second.close()
            let results = try workers.map { try $0.join() }
            try expect(results[0][0] + results[1][0], count)
            try expect(results[0][1] + results[1][1], bytes.reduce(0) { $0 + Int($1) })
        }
        + paired("two threads writing one socket keep each small write whole") { first, second in
            let workers = ["aaaaaaaa", "bbbbbbbb"].map { text in
                Worker { for _ in 0..<2000 { try expect(first.write(text), 8) } }
            }
            let text = Worker { try second.readFully(32_000) }
            for worker in workers { _ = try worker.join() }
            let pieces = Array(try text.join().utf8)
            for start in stride(from: 0, to: pieces.count, by: 8) {
                try expect(Set(pieces[start..<start + 8]).count, 1, "kinds of letters in one write")
            }
        }
        + paired("the own shutdown of the reading side wakes a blocked read with the end") { first, _ in
            let worker = Worker { first.read() }
            pause(milliseconds: 30)
            try expect(first.shutdown(.read), 0)
            try expect(worker.join(), .end)
        }
        + paired("the own half-close wakes a blocked write with what it had taken") { first, second in
            cx_ignore_signal(SIGPIPE)
            let worker = SendCases.blockedWrite(first)
            try expect(first.shutdown(.write), 0)
            let sent = try worker.join().value
            try SendCases.drain(second, sent)
            try expect(second.read(), .end)
        }
        + paired("a sleeping poll for POLLOUT is woken when the peer reads") { first, second in
            try first.setNonBlocking()
            var sent = 0
            while case .value(let count) = first.write(bytes: pattern(from: sent, count: 65536)) { sent += count }
            let worker = Worker { first.poll(.writable, milliseconds: -1) }
            pause(milliseconds: 20)
            try SendCases.drain(second, sent)
            try expect(worker.join(), .writable)
        }
}
