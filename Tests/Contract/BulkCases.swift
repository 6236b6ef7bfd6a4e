import CContract
import Glibc

/// Much data in random pieces, every byte checked by a running hash.
enum BulkCases {
    static let cases: [Case] =
        [(Manner.blocking, 64), (.poll, 64), (.epoll, 64)].flatMap { manner, mebibytes in
            oneWay(manner, mebibytes << 20) + bothWays(manner, mebibytes << 19)
        } + small

    /// How one side waits.
    private enum Manner: String, Sendable {
        case blocking = "blocking"
        case poll = "non-blocking with poll"
        case epoll = "non-blocking with edge-triggered epoll"
    }

    /// A small generator with a seed, so that a failure comes again.
    private struct Dice: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
        /// Mostly small, sometimes large: each power of two is as likely as the next.
        mutating func length(upTo limit: Int) -> Int {
            min(limit, 1 + Int.random(in: 0..<(1 << Int.random(in: 0...18, using: &self)), using: &self))
        }
    }

    /// FNV over bytes in the order of the stream: position matters.
    private struct Hash: Equatable, Sendable {
        var value: UInt64 = 0xCBF2_9CE4_8422_2325
        mutating func add(_ bytes: UnsafeRawBufferPointer) {
            var running = value
            for byte in bytes { running = (running ^ UInt64(byte)) &* 0x100_0000_01B3 }
            value = running
        }
    }

    /// Waits for one direction in the manner of the case.
    private struct Waiter {
        let sock: Sock
        let manner: Manner
        let events: Events
        let set: EpollSet?

        init(_ sock: Sock, _ manner: Manner, _ events: Events) throws {
            self.sock = sock
            self.manner = manner
            self.events = events
            set = manner == .epoll ? try EpollSet(sock.face) : nil
            if let set { try expect(set.add(sock, [events, .edge]), 0) }
        }

        func wait() throws {
            if let set { _ = try set.wait(milliseconds: -1) } else { _ = sock.poll(events, milliseconds: -1) }
        }
    }

    private static func send(_ sock: Sock, _ manner: Manner, _ count: Int, seed: UInt64) throws -> Hash {
        let waiter = try Waiter(sock, manner, .writable)
        // A prime length keeps the source out of step with every buffer.
        let source = pattern(from: Int(seed), count: 1_000_003)
        var dice = Dice(state: seed), hash = Hash(), sent = 0
        while sent < count {
            let start = sent % 500_009
            let length = min(dice.length(upTo: count - sent), source.count - start)
            let taken = source.withUnsafeBytes { sock.face.write(sock.fd, $0.baseAddress! + start, length) }
            if taken < 0 {
                try expect(Outcome(taken), .failed(EAGAIN))
                try waiter.wait()
                continue
            }
            source.withUnsafeBytes { hash.add(UnsafeRawBufferPointer(rebasing: $0[start..<start + taken])) }
            sent += taken
        }
        return hash
    }

    private static func receive(_ sock: Sock, _ manner: Manner, _ count: Int, seed: UInt64) throws -> Hash {
        let waiter = try Waiter(sock, manner, .readable)
        var dice = Dice(state: seed), hash = Hash(), received = 0
        var room = [UInt8](repeating: 0, count: 1 << 19)
        while received < count {
            let got = sock.face.read(sock.fd, &room, dice.length(upTo: count - received))
            if got < 0 {
                try expect(Outcome(got), .failed(EAGAIN))
                try waiter.wait()
                continue
            }
            try expect(got > 0, "\(count) bytes", got: "the end after \(received)")
            room.withUnsafeBytes { hash.add(UnsafeRawBufferPointer(rebasing: $0[..<got])) }
            received += got
        }
        return hash
    }

    private static func oneWay(_ manner: Manner, _ count: Int) -> [Case] {
        let sentence = "\(count >> 20) MiB in random pieces arrive intact, \(manner.rawValue)"
        return paired("\(sentence), between threads", watchdogSeconds: 90) { first, second in
            if manner != .blocking {
                try first.setNonBlocking()
                try second.setNonBlocking()
            }
            let sender = Worker { try send(first, manner, count, seed: 1) }
            try expect(receive(second, manner, count, seed: 2) == sender.join(), "equal hashes", got: "different ones")
        }
            + forked("\(sentence), between processes", watchdogSeconds: 90) { sock, turns in
                if manner != .blocking { try sock.setNonBlocking() }
                let hash = try send(sock, manner, count, seed: 3)
                try sock.setNonBlocking(false)
                let text = String(hash.value, radix: 16)
                try expect(sock.write(text + "\n"), .value(text.utf8.count + 1))
            } ours: { sock, _ in
                if manner != .blocking { try sock.setNonBlocking() }
                let hash = try receive(sock, manner, count, seed: 4)
                try sock.setNonBlocking(false)
                try expect(sock.readFully(17), String(hash.value, radix: 16) + "\n", "the sender's hash")
                try expect(sock.read(), .end)
            }
    }

    private static func bothWays(_ manner: Manner, _ count: Int) -> [Case] {
        forked("\(count >> 20) MiB each way at once arrive intact, \(manner.rawValue)", watchdogSeconds: 90) {
            sock, _ in
            try exchange(sock, manner, count, seed: 5)
        } ours: { sock, _ in
            try exchange(sock, manner, count, seed: 6)
            try expect(sock.read(), .end)
        }
    }

    /// Sends in a thread and receives in this one, then both sides tell their hashes.
    private static func exchange(_ sock: Sock, _ manner: Manner, _ count: Int, seed: UInt64) throws {
        if manner != .blocking { try sock.setNonBlocking() }
        let sender = Worker { try send(sock, manner, count, seed: seed) }
        let received = try receive(sock, manner, count, seed: seed + 10)
        let sent = try sender.join()
        try sock.setNonBlocking(false)
        let text = String(sent.value, radix: 16)
        try expect(sock.write(text + String(repeating: " ", count: 16 - text.utf8.count)), 16)
        let told = try sock.readFully(16)
        try expect(told.prefix { $0 != " " } == String(received.value, radix: 16), "the sender's hash", got: told)
    }

    private static let small: [Case] =
        paired("both ends may write 64 KB, after a few bytes, before either reads") { first, second in
            for sock in [first, second] {
                try sock.setNonBlocking()
                try expect(sock.write(String(repeating: "a", count: 100)), 100)
                try expect(sock.write(String(repeating: "b", count: 64_000)), 64_000)
            }
            for sock in [first, second] {
                try sock.setNonBlocking(false)
                try expect(
                    try sock.readFully(64_100),
                    String(repeating: "a", count: 100) + String(repeating: "b", count: 64_000))
            }
        }
        + forked("a hundred thousand single bytes arrive in order", watchdogSeconds: 60) { sock, _ in
            for position in 0..<100_000 { try expect(sock.write(bytes: [pattern(position)]), 1) }
        } ours: { sock, _ in
            var position = 0
            var room = [UInt8](repeating: 0, count: 999)
            while position < 100_000 {
                let got = try Outcome(sock.face.read(sock.fd, &room, 999)).value
                try expect(got > 0, "100000 bytes", got: "the end after \(position)")
                for index in 0..<got where room[index] != pattern(position + index) {
                    throw Mismatch(
                        expected: "\(pattern(position + index))", got: "\(room[index])", "byte \(position + index)")
                }
                position += got
            }
            try expect(sock.read(), .end)
        }
        + [
            Case("a thousand short connections in a row each carry a request and an answer", watchdogSeconds: 60) {
                face in
                let listener = try face.listener(backlog: 64)
                let child = Child { _ in
                    for _ in 0..<1000 {
                        let sock = try listener.accept()
                        let request = try sock.readFully(7)
                        try expect(sock.write(request), 7)
                        sock.close()
                    }
                }
                for number in 1_000_000..<1_001_000 {
                    let sock = try listener.connect()
                    try expect(sock.write("\(number)"), 7)
                    try expect(sock.readFully(7), "\(number)")
                    try expect(sock.read(), .end)
                    sock.close()
                }
                try child.join()
            },
            Case("three hundred connections at once each keep their own data", watchdogSeconds: 60) { face in
                let listener = try face.listener(backlog: 64)
                var pairs: [(Sock, Sock)] = []
                for _ in 0..<300 { pairs.append((try listener.connect(), try listener.accept())) }
                for (index, pair) in pairs.enumerated() { try expect(pair.0.write("\(1000 + index)"), 4) }
                for (index, pair) in pairs.enumerated() { try expect(pair.1.write("\(5000 + index)"), 4) }
                for (index, pair) in pairs.enumerated() {
                    try expect(pair.1.readFully(4), "\(1000 + index)")
                    try expect(pair.0.readFully(4), "\(5000 + index)")
                }
            },
        ]
}
