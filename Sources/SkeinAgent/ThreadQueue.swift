import CSystem
import Glibc
import SkeinDevice
import SkeinMedium
import Synchronization

/// A medium's queue by threads, each with memory that the device takes as it is: where there is no io_uring.
final class ThreadQueue: MediumQueue, Sendable {
    /// A pair of hosts has ten actions under way, and leases one.
    private static let threadLimit = 12

    private struct State {
        /// Leases go before all else: the host's life hangs on them.
        var leases: [MediumHost.Action] = []
        var others: [MediumHost.Action] = []
        var ended: [EndedAction] = []
        var threads = 0
        var sleeping = 0
        var isEnding = false

        /// What a thread does next; one that sleeps is counted.
        mutating func turn() -> Turn {
            if !leases.isEmpty { return .perform(leases.removeFirst()) }
            if !others.isEmpty { return .perform(others.removeFirst()) }
            if isEnding { return .end }
            sleeping += 1
            return .sleep
        }
    }

    private enum Turn {
        case perform(MediumHost.Action)
        case sleep
        case end
    }

    /// Rung when something has ended.
    private let bell = Bell()
    private let file: UnitFile
    private let firstRow: UInt64
    private let state = Mutex(State())
    /// Rung once for each thread that is to wake.
    private let work = Bell(isSemaphore: true)

    init(_ device: MediumDevice, _ geometry: Geometry) {
        file = device.file
        firstRow = geometry.rows.start
    }

    var descriptor: Int32 { bell.descriptor }

    func submit(_ actions: [MediumHost.Action]) {
        if actions.isEmpty { return }
        let (toWake, toStart) = state.withLock { state in
            for action in actions {
                if action.unit < firstRow { state.leases.append(action) } else { state.others.append(action) }
            }
            let waiting = state.leases.count + state.others.count
            let toWake = min(waiting, state.sleeping)
            state.sleeping -= toWake
            let toStart = min(waiting - toWake, ThreadQueue.threadLimit - state.threads)
            state.threads += toStart
            return (toWake, toStart)
        }
        for _ in 0..<toWake { work.ring() }
        for _ in 0..<toStart { Thread.start { self.serve() } }
    }

    func collect() -> [EndedAction] {
        bell.take()
        return state.withLock { state in
            defer { state.ended = [] }
            return state.ended
        }
    }

    func end() {
        let threads = state.withLock { state in
            state.isEnding = true
            return state.threads
        }
        for _ in 0..<threads { work.ring() }
    }

    // MARK: A thread

    private func serve() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: MediumHost.Action.largest, alignment: unitSize)
        defer { unsafe memory.deallocate() }
        while true {
            switch state.withLock({ $0.turn() }) {
            case .perform(let action):
                let ended = unsafe perform(action, memory)
                let isFirst = state.withLock { state in
                    state.ended.append(ended)
                    return state.ended.count == 1
                }
                if isFirst { bell.ring() }
            case .sleep: work.take()
            case .end: return
            }
        }
    }

    private func perform(_ action: MediumHost.Action, _ memory: UnsafeMutableRawBufferPointer) -> EndedAction {
        let start = sk_now()
        let part = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<action.size])
        let error: Int32
        switch action.operation {
        case .read(let unit, _): error = unsafe file.read(unit, into: part)
        case .write(let unit, let bytes):
            unsafe part.copyBytes(from: bytes)
            error = unsafe file.write(unit, from: UnsafeRawBufferPointer(part))
        }
        return unsafe action.ended(error, in: part, duration: sk_now() - start)
    }
}
