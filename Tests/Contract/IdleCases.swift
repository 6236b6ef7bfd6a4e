import CContract
import Glibc

/// A wait that has nothing to report uses no processor, whatever lies unread or was reported before.
enum IdleCases {
    static let cases: [Case] =
        paired("a poll for nothing but POLLOUT sleeps while bytes come and nothing can be written") { first, second in
            try fill(first)
            try whileWriting(second) { try expect(first.poll(.writable, milliseconds: 300), Events()) }
        }
        + paired("a poll with no events sleeps while bytes come") { first, second in
            try whileWriting(second) { try expect(first.poll([], milliseconds: 300), Events()) }
        }
        + paired("an edge-triggered wait sleeps while what it reported stays unread") { first, second in
            let set = try EpollSet(first.face)
            defer { set.close() }
            try expect(set.add(first, [.readable, .edge]), 0)
            try expect(try writeLater(second) { try set.wait(milliseconds: 1000).count }, 1)
            try sleeps { try expect(set.wait(milliseconds: 300), []) }
        }
        + paired("a one-shot that has been reported sleeps while bytes come") { first, second in
            let set = try EpollSet(first.face)
            defer { set.close() }
            try expect(set.add(first, [.readable, .oneShot]), 0)
            try expect(try writeLater(second) { try set.wait(milliseconds: 1000).count }, 1)
            try whileWriting(second) { try expect(set.wait(milliseconds: 300), []) }
        }
        + paired("a wait for nothing but EPOLLOUT sleeps while bytes come and nothing can be written") {
            first, second in
            let set = try EpollSet(first.face)
            defer { set.close() }
            try fill(first)
            try expect(set.add(first, .writable), 0)
            try whileWriting(second) { try expect(set.wait(milliseconds: 300), []) }
        }

        + ["read", "poll"].flatMap { way in
            paired("two threads of one socket, one of them in \(way), sleep until bytes come, and then both wake up") {
                first, second in
                let other = Worker<Bool> {
                    if way == "read" { return first.read(1) == "x" }
                    return first.poll(.readable, milliseconds: -1) == .readable
                }
                pause(milliseconds: 20)
                let before = switches()
                try expect(first.poll(.readable, milliseconds: 1000), [])
                let count = switches() - before
                try expect(count <= 20, "at most 20 wake-ups in a second", got: "\(count)")
                try expect(second.write("xy"), 2)
                try expect(first.poll(.readable, milliseconds: 5000), .readable)
                try expect(other.join(), true)
            }
        }

    /// Times that this thread has gone to sleep.
    private static func switches() -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(1 /* RUSAGE_THREAD */), &usage)
        return usage.ru_nvcsw
    }

    private static func fill(_ sock: Sock) throws {
        let block = String(repeating: "f", count: 60_000)
        while case .value = sock.send(block, Msg.dontWait) {}
    }

    /// Runs the wait and checks that it slept: a wait that spins uses all of its time.
    static func sleeps(_ wait: () throws -> Void) throws {
        let before = cpuMilliseconds()
        try wait()
        let used = cpuMilliseconds() - before
        try expect(used <= 100, "a wait of 300 ms that uses at most 100 ms of processor time", got: "\(used) ms")
    }

    /// A thread writes now and then, so that a bell that is left behind would be found.
    private static func whileWriting(_ sock: Sock, _ wait: @escaping () throws -> Void) throws {
        let writer = Worker {
            for _ in 0..<20 {
                _ = sock.write("y")
                pause(milliseconds: 5)
            }
        }
        try sleeps(wait)
        try writer.join()
    }

    /// Writes while the wait sleeps, so that a bell comes.
    private static func writeLater(_ sock: Sock, _ wait: () throws -> Int) throws -> Int {
        let writer = Worker {
            pause(milliseconds: 50)
            _ = sock.write("x")
        }
        let result = try wait()
        try writer.join()
        return result
    }

    private static func cpuMilliseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}
