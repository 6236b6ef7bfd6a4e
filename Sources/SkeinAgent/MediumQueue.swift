import CSystem
import Glibc
import SkeinDevice
import SkeinMedium
import Synchronization

/// Reads and writes of a medium, many under way at a time, for one thread that waits for none of them.
///
/// Threads do them, each with memory that the device takes as it is. `bell` tells that something has ended.
final class MediumQueue: Sendable {
    /// A pair of hosts has six actions under way, and leases one.
    private static let threadLimit = 8
    /// Bytes of the largest read or write: a batch of a ring, or the rows of 64 hosts.
    private static let largest = 1 << 20

    /// What has become of an action.
    struct Ended: Sendable {
        let tag: UInt64
        let outcome: MediumHost.Outcome
        let unit: UInt64
        let isWrite: Bool
        /// Nanoseconds that it took.
        let duration: UInt64
        /// Zero, or the errno.
        let error: Int32
    }

    private struct State {
        /// Leases go before all else: the host's life hangs on them.
        var leases: [MediumHost.Action] = []
        var others: [MediumHost.Action] = []
        var ended: [Ended] = []
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
    let bell = Bell()
    private let file: UnitFile
    private let firstRow: UInt64
    private let state = Mutex(State())
    /// Rung once for each thread that is to wake.
    private let work = Bell(isSemaphore: true)

    init(_ device: MediumDevice, _ geometry: Geometry) {
        file = device.file
        firstRow = geometry.rows.start
    }

    /// Has actions performed.
    func submit(_ actions: [MediumHost.Action]) {
        if actions.isEmpty { return }
        let (toWake, toStart) = state.withLock { state in
            for action in actions {
                if action.unit < firstRow { state.leases.append(action) } else { state.others.append(action) }
            }
            let waiting = state.leases.count + state.others.count
            let toWake = min(waiting, state.sleeping)
            state.sleeping -= toWake
            let toStart = min(waiting - toWake, MediumQueue.threadLimit - state.threads)
            state.threads += toStart
            return (toWake, toStart)
        }
        for _ in 0..<toWake { work.ring() }
        for _ in 0..<toStart { Thread.start { self.serve() } }
    }

    /// What has ended since the last call.
    func collect() -> [Ended] {
        bell.take()
        return state.withLock { state in
            defer { state.ended = [] }
            return state.ended
        }
    }

    /// The threads end once they have nothing to do.
    func end() {
        let threads = state.withLock { state in
            state.isEnding = true
            return state.threads
        }
        for _ in 0..<threads { work.ring() }
    }

    // MARK: A thread

    private func serve() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: MediumQueue.largest, alignment: unitSize)
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

    private func perform(_ action: MediumHost.Action, _ memory: UnsafeMutableRawBufferPointer) -> Ended {
        let start = sk_now()
        let error: Int32
        var outcome = MediumHost.Outcome.failed
        var isWrite = false
        switch action.operation {
        case .read(let unit, let count):
            let part = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<(count * unitSize)])
            error = unsafe file.read(unit, into: part)
            if error == 0 { outcome = unsafe .read([UInt8](part)) }
        case .write(let unit, let bytes):
            isWrite = true
            let part = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<bytes.count])
            unsafe part.copyBytes(from: bytes)
            error = unsafe file.write(unit, from: UnsafeRawBufferPointer(part))
            if error == 0 { outcome = .written }
        }
        return Ended(
            tag: action.tag, outcome: outcome, unit: action.unit, isWrite: isWrite, duration: sk_now() - start,
            error: error)
    }
}

extension MediumHost.Action {
    /// Where on the medium it begins.
    var unit: UInt64 {
        switch operation {
        case .read(let unit, _), .write(let unit, _): unit
        }
    }
}
