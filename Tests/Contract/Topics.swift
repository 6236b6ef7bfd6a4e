import CContract
import Glibc
import Synchronization

/// A case about one connection, once each way: the first family with `first` the client, the second with `first` the
/// accepted end.
func paired(
    _ sentence: String, watchdogSeconds: Int = 10,
    _ body: @escaping @Sendable (_ first: Sock, _ second: Sock) throws -> Void
) -> [Case] {
    [
        Case(sentence, Setting(family: .first, words: "seen from the client"), watchdogSeconds: watchdogSeconds) {
            face in
            let pair = try Pair(face, face.family(.first))
            try body(pair.client, pair.server)
        },
        Case(sentence, Setting(family: .second, words: "seen from the accepted end"), watchdogSeconds: watchdogSeconds)
        {
            face in
            let pair = try Pair(face, face.family(.second))
            try body(pair.server, pair.client)
        },
    ]
}

/// A case about one connection whose second end lives in a forked process, once each way.
///
/// `theirs` runs in the child, `ours` here; they take turns where order matters.
func forked(
    _ sentence: String, watchdogSeconds: Int = 10, theirs: @escaping @Sendable (Sock, Turns) throws -> Void,
    ours: @escaping @Sendable (Sock, Child) throws -> Void
) -> [Case] {
    [
        Case(sentence, Setting(family: .first, words: "the child connects"), watchdogSeconds: watchdogSeconds) { face in
            let listener = try face.listener(face.family(.first))
            let child = Child { turns in
                let sock = try listener.connect()
                listener.close()
                try theirs(sock, turns)
            }
            let sock = try listener.accept()
            listener.close()
            try ours(sock, child)
            try child.join()
        },
        Case(sentence, Setting(family: .second, words: "the child accepts"), watchdogSeconds: watchdogSeconds) { face in
            let listener = try face.listener(face.family(.second))
            let child = Child { turns in
                let sock = try listener.accept()
                listener.close()
                try theirs(sock, turns)
            }
            let sock = try listener.connect()
            listener.close()
            try ours(sock, child)
            try child.join()
        },
    ]
}

/// The same for each family.
func eachFamily(_ sentence: String, _ body: @escaping @Sendable (Face, Family) throws -> Void) -> [Case] {
    [FamilyChoice.first, .second].map { choice in
        Case(sentence, Setting(family: choice)) { try body($0, $0.family(choice)) }
    }
}

/// A thread of a case; what it returns comes out of `join`.
final class Worker<Result: Sendable>: Sendable {
    private let thread: pthread_t
    private let box: Box

    fileprivate final class Box: @unchecked Sendable {
        /// The kernel's number of the thread; 0 until it runs.
        let number = Atomic<Int32>(0)
        // Written by the thread before its end, read after pthread_join: that orders the two.
        var result: Swift.Result<Result, any Error>?
        let body: @Sendable () throws -> Result
        init(_ body: @escaping @Sendable () throws -> Result) { self.body = body }
    }

    init(_ body: @escaping @Sendable () throws -> Result) {
        box = Box(body)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(box).toOpaque()
        let failure = pthread_create(
            &thread, nil,
            { context in
                let box = Unmanaged<AnyObject>.fromOpaque(context!).takeRetainedValue() as! any Runnable
                box.run()
                return nil
            }, context)
        precondition(failure == 0, "no thread: \(errorName(failure))")
        self.thread = thread
    }

    func join() throws -> Result {
        pthread_join(thread, nil)
        return try box.result!.get()
    }

    /// Sends the thread a signal once it sleeps: one that comes before the call that it is to interrupt is lost.
    func interrupt(_ signal: Int32) {
        waitUntilAsleep()
        pthread_kill(thread, signal)
    }

    /// Returns when the thread sleeps, in the call that it is to make.
    func waitUntilAsleep() {
        while !isAsleep() || !isStillAsleep() { pause(milliseconds: 1) }
    }

    /// A thread that begins may sleep for an instant, for a lock of the allocator.
    private func isStillAsleep() -> Bool {
        pause(milliseconds: 2)
        return isAsleep()
    }

    private func isAsleep() -> Bool {
        let file = open("/proc/self/task/\(box.number.load(ordering: .acquiring))/stat", O_RDONLY)
        guard file >= 0 else { return false }
        defer { close(file) }
        var text = [UInt8](repeating: 0, count: 256)
        let count = read(file, &text, text.count)
        // The state follows the name, which is in brackets.
        guard let bracket = text.prefix(max(0, count)).lastIndex(of: UInt8(ascii: ")")) else { return false }
        return text[bracket...].dropFirst(2).first == UInt8(ascii: "S")
    }
}

fileprivate protocol Runnable: AnyObject {
    func run()
}

extension Worker.Box: Runnable {
    func run() {
        number.store(gettid(), ordering: .releasing)
        result = Swift.Result { try body() }
    }
}

/// A byte that depends on its position, so that a lost, doubled or swapped piece shows.
func pattern(_ position: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: (position &* 2_654_435_761) >> 13)
}

func pattern(from position: Int, count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { room, initialized in
        for index in 0..<count { room.initializeElement(at: index, to: pattern(position + index)) }
        initialized = count
    }
}
