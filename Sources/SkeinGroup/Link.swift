import SkeinConduit
import SkeinMedium

/// The conduit to one incarnation of another host.
final class Link {
    /// Counts the links of this incarnation: a host that comes back gets another one.
    let number: UInt64
    let name: String
    var conduit: Conduit
    /// When credits that nobody waits for go out, if nothing else takes them along before.
    var creditDue: UInt64?

    init(_ number: UInt64, name: String, conduit: consuming Conduit) {
        self.number = number
        self.name = name
        self.conduit = conduit
    }
}

/// The links of a host, by their host's number: where its blocks come from.
struct Links: PayloadSource {
    /// Nanoseconds that a credit waits for a block which takes it along.
    private static let creditDelay: UInt64 = 3_000_000

    let limits: Conduit.Limits
    var all: [Link?]
    private var now: UInt64 = 0
    /// Frames of one block are written here first: how many there are is known afterwards. One unit of a block has room
    /// for any frame.
    private var room = [UInt8](repeating: 0, count: DataBlock.room(units: DataBlock.unitsAllowed))

    init(hosts: Int, limits: Conduit.Limits) {
        precondition(DataBlock.room(units: 1) >= Limit.leastRoom, "a block of one unit has room for any frame")
        self.limits = limits
        all = [Link?](repeating: nil, count: hosts)
    }

    /// The first credit that is to go out by itself.
    var creditDue: UInt64? { all.lazy.compactMap { $0?.creditDue }.min() }

    mutating func beginSending(at now: UInt64) { self.now = now }

    /// Notes until when credits that are left may wait.
    func endSending(at now: UInt64) {
        for case .some(let link) in all {
            guard link.conduit.demand == .later else {
                link.creditDue = nil
                continue
            }
            // One that is due already found no room, and is tried again.
            if let due = link.creditDue, due > now { continue }
            link.creditDue = now + Links.creditDelay
        }
    }

    mutating func fill(_ payload: inout [UInt8], room most: Int, for host: Int) {
        guard let link = all[host] else { return }
        switch link.conduit.demand {
        case .none: return
        case .later: guard let due = link.creditDue, due <= now else { return }
        case .now: break
        }
        var span = room.mutableSpan
        var bytes = unsafe span.mutableBytes
        var part = bytes._mutatingExtracting(first: min(most, bytes.byteCount))
        let count = link.conduit.fill(&part)
        payload += room[..<count]
    }
}
