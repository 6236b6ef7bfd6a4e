import SkeinMedium

/// Reads and writes of a medium, many under way at a time, for one thread that waits for none of them.
protocol MediumQueue: AnyObject {
    /// Becomes readable each time that something has ended. It is watched for changes.
    var descriptor: Int32 { get }
    /// Has actions performed, in any order.
    func submit(_ actions: [MediumHost.Action])
    /// What has ended since the last call.
    func collect() -> [EndedAction]
    /// Nothing more will be submitted or collected.
    func end()
}

/// What has become of an action.
struct EndedAction: Sendable {
    let tag: UInt64
    let outcome: MediumHost.Outcome
    let unit: UInt64
    let isWrite: Bool
    /// Nanoseconds that it took.
    let duration: UInt64
    /// Zero, or the errno.
    let error: Int32
}

extension MediumHost.Action {
    /// Bytes of the largest: a batch of a ring, or the rows of 64 hosts.
    static let largest = 1 << 20

    /// Where on the medium it begins.
    var unit: UInt64 {
        switch operation {
        case .read(let unit, _), .write(let unit, _): unit
        }
    }

    /// How many bytes it moves.
    var size: Int {
        switch operation {
        case .read(_, let count): count * unitSize
        case .write(_, let bytes): bytes.count
        }
    }

    var isWrite: Bool { if case .write = operation { true } else { false } }

    /// How it has ended. What was read lies in `memory`.
    func ended(_ error: Int32, in memory: UnsafeMutableRawBufferPointer, duration: UInt64) -> EndedAction {
        let outcome: MediumHost.Outcome =
            unsafe error != 0 ? .failed : isWrite ? .written : .read([UInt8](memory.prefix(size)))
        return EndedAction(
            tag: tag, outcome: outcome, unit: unit, isWrite: isWrite, duration: duration, error: error)
    }
}
