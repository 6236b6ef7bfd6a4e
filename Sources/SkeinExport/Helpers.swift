import CSystem
import SkeinDevice
import Synchronization

/// Threads that wait for devices in place of one worker.
///
/// The worker submits slots and collects them when they are answered; `wake` tells it of the first. Threads are woken one
/// after the other, and while the device is quick one of them does it all: waking another takes longer than
/// a request that the page cache answers.
@safe
final class Helpers: Sendable {
    /// Nanoseconds; a request that takes longer has waited for something.
    private static let quick: UInt64 = 50_000
    /// So many quick requests in a row make a device quick.
    private static let run = 32

    private struct State: ~Copyable {
        var waiting = SlotList()
        var answered = SlotList()
        var threads = 0
        /// Threads that sleep; the bell has not been rung for them.
        var sleeping = 0
        /// A thread was woken or made, and hasn't come yet.
        var isOneComing = false
        /// Requests that were quick, since the last one that wasn't.
        var quickRun = 0
        var isEnding = false

        /// Whether a device keeps the threads waiting that are at work.
        var isSlow: Bool { quickRun < Helpers.run }

        /// The next slot for a thread, which counts as a sleeper without one.
        mutating func next() -> UnsafeMutablePointer<Slot>? {
            let slot = unsafe waiting.removeFirst()
            if unsafe slot == nil { sleeping += 1 }
            return unsafe slot
        }

        /// What is to be done so that somebody sees to the slots that wait.
        mutating func call(_ limit: Int) -> Call {
            guard !waiting.isEmpty, !isOneComing, isSlow || sleeping == threads else { return .nobody }
            guard sleeping > 0 || threads < limit else { return .nobody }
            isOneComing = true
            if sleeping > 0 {
                sleeping -= 1
                return .sleeper
            }
            threads += 1
            return .newThread
        }
    }

    private enum Call {
        case nobody, sleeper, newThread
    }

    private let state = Mutex(State())
    /// Rung once for each sleeper that is to wake.
    private let bell = Bell(isSemaphore: true)
    private let wake: @Sendable () -> Void
    private let limit: Int

    /// At most `limit` threads, made when they are needed.
    init(limit: Int, wake: @escaping @Sendable () -> Void) {
        self.limit = limit
        self.wake = wake
    }

    /// Gives a slot to the threads.
    func submit(_ slot: UnsafeMutablePointer<Slot>) {
        let handed = unsafe Handed(slot: slot)
        perform(
            state.withLock { state in
                unsafe state.waiting.append(handed.slot!)
                return state.call(limit)
            })
    }

    /// The slots that have been answered since the last time.
    func collect() -> SlotList {
        let found = state.withLock { state in
            var list = SlotList()
            list.take(&state.answered)
            return Found(list: list)
        }
        return found.list
    }

    /// The threads end; none may have a slot.
    func end() {
        let threads = state.withLock { state in
            state.isEnding = true
            return state.threads
        }
        for _ in 0..<threads { bell.ring() }
    }

    private func perform(_ call: Call) {
        switch call {
        case .nobody: break
        case .sleeper: bell.ring()
        case .newThread: Thread.start { self.serve() }
        }
    }

    // MARK: - A thread

    private func serve() {
        while true {
            let (arrived, call) = state.withLock { state in
                state.isOneComing = false
                return unsafe (Handed(slot: state.next()), state.call(limit))
            }
            perform(call)
            var handed = arrived
            while let slot = unsafe handed.slot { handed = unsafe answer(slot) }
            bell.take()
            if state.withLock({ $0.isEnding }) { return }
        }
    }

    /// Has the device answer, and returns the next slot. Without one the thread counts as a sleeper.
    private func answer(_ slot: UnsafeMutablePointer<Slot>) -> Handed {
        let done = unsafe Handed(slot: slot)
        let begin = sk_now()
        unsafe slot.pointee.answer = unsafe slot.pointee.iop!.perform(&slot.pointee.message)
        let isQuick = sk_now() - begin < Helpers.quick
        let (next, isFirst, call) = state.withLock { state in
            let isFirst = state.answered.isEmpty
            unsafe state.answered.append(done.slot!)
            state.quickRun = isQuick ? state.quickRun + 1 : 0
            return unsafe (Handed(slot: state.next()), isFirst, state.call(limit))
        }
        if isFirst { wake() }
        perform(call)
        return next
    }

    /// A slot between two threads: one of them has it at a time.
    @safe private struct Handed: @unchecked Sendable {
        let slot: UnsafeMutablePointer<Slot>?
    }

    @safe private struct Found: @unchecked Sendable {
        let list: SlotList
    }
}
