import SkeinDevice
import Synchronization

/// Threads that wait for devices in place of one worker.
///
/// The worker submits slots and collects them when they are answered; `wake` tells it of the first.
@safe
final class Helpers: Sendable {
    private struct State: ~Copyable {
        var waiting = SlotList()
        var answered = SlotList()
        /// Slots that were submitted and are not answered.
        var outstanding = 0
        var threads = 0
        var isEnding = false
    }

    private let state = Mutex(State())
    /// Counts submissions, for the threads to sleep on.
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
        let needsThread = state.withLock { state in
            unsafe state.waiting.append(handed.slot)
            state.outstanding += 1
            guard state.outstanding > state.threads, state.threads < limit else { return false }
            state.threads += 1
            return true
        }
        if needsThread { Thread.start { self.serve() } }
        bell.ring()
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

    private func serve() {
        while true {
            bell.take()
            guard let handed = next() else { return }
            unsafe handed.slot.pointee.answer = unsafe handed.slot.pointee.iop!.perform(&handed.slot.pointee.message)
            let isFirst = state.withLock { state in
                let isFirst = state.answered.isEmpty
                unsafe state.answered.append(handed.slot)
                state.outstanding -= 1
                return isFirst
            }
            if isFirst { wake() }
        }
    }

    /// Nil where the thread is to end.
    private func next() -> Handed? {
        state.withLock { state in
            guard let slot = unsafe state.waiting.removeFirst() else {
                precondition(state.isEnding, "each ring of the bell has a slot")
                return nil
            }
            return unsafe Handed(slot: slot)
        }
    }

    /// A slot between two threads: one of them has it at a time.
    @safe private struct Handed: @unchecked Sendable {
        let slot: UnsafeMutablePointer<Slot>
    }

    @safe private struct Found: @unchecked Sendable {
        let list: SlotList
    }
}
