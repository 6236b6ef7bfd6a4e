/// What a peer wrote that proves itself, and that no honest host writes. Nothing more is taken from that incarnation.
package enum PeerFault: Error, Equatable, CustomStringConvertible {
    /// A row names a ring that isn't the writer's.
    case ring(start: UInt64, units: UInt32)
    /// A cursor says that more was taken than was ever made.
    case cursor(said: UInt64, made: UInt64)
    /// A bell tells of more blocks than the ring has room for.
    case bell(said: UInt64, taken: UInt64)
    /// A newer row says less than an older one.
    case backwards
    /// A data block has no payload, is too large, or crosses the ring's end.
    case block(position: UInt64)

    package var description: String {
        switch self {
        case .ring(let start, let units): "it names \(units) units from unit \(start) as its ring, which aren't its own"
        case .cursor(let said, let made): "it says that it took blocks up to position \(said), and there are \(made)"
        case .bell(let said, let taken): "it rang for position \(said), and only \(taken) were taken"
        case .backwards: "its cursors went back"
        case .block(let position): "its block at position \(position) has a size that none can have"
        }
    }
}
