/// One incarnation of a host on a medium: its membership, and what it exchanges with every other member.
///
/// A state machine without I/O. Its owner calls `advance` when `deadline` comes, performs all that `takeActions`
/// says, in whatever order and as many at a time as it likes, and reports how each ended. After each call it looks at
/// `takeEvents`, and calls `send` when it has payloads. Times are CLOCK_BOOTTIME in nanoseconds. Whatever other hosts
/// write, what is kept is bounded by the rings.
package struct MediumHost {
    /// What the owner is to do. The tag is for `ended`.
    package struct Action: Equatable {
        package enum Operation: Equatable {
            case read(unit: UInt64, count: Int)
            case write(unit: UInt64, bytes: [UInt8])
        }

        package let tag: UInt64
        package let operation: Operation
    }

    /// How an action ended.
    package enum Outcome {
        /// All units that were asked for.
        case read([UInt8])
        case written
        case failed
    }

    package enum Event: Equatable {
        case membership(Membership.Event)
        /// The next payload from that host, in the order in which it sent them.
        case received(host: Int, payload: ArraySlice<UInt8>)
        /// Nothing more goes to or comes from that incarnation.
        case broken(host: Int, incarnation: Identifier, fault: PeerFault)
    }

    /// What an action is for. Rows and rings name the pair by its number.
    enum Request {
        case leases
        case lease
        case rows
        case row(host: Int, pair: UInt64)
        case ringRead(host: Int, pair: UInt64, number: UInt64)
        case ringWrite(host: Int, pair: UInt64, positions: Range<UInt64>)
    }

    var membership: Membership
    let timing: Timing
    /// By the host's number; one for each peer that lives. No dictionary: that would copy a pair to look at it.
    var pairs: [Pair?]
    /// Writes of earlier pairs, by the peer's number. A new pair uses the same units, and waits for their end.
    var leftover: [Int: Int] = [:]
    var pairCount: UInt64 = 0
    var rowPoller: Poller
    var isReadingRow = false
    var requests: [UInt64: Request] = [:]
    private var lastTag: UInt64 = 0
    var actions: [Action] = []
    var events: [Event] = []

    /// A host that begins to look for its slot.
    package init(_ host: Membership.Host, on superblock: Superblock, timing: Timing, seal: any Seal, at now: UInt64) {
        membership = Membership(host, on: superblock, timing: timing, seal: seal, at: now)
        self.timing = timing
        pairs = [Pair?](repeating: nil, count: superblock.geometry.hosts)
        rowPoller = Poller(timing: timing, at: now)
    }

    /// This host's number on the medium.
    package var slot: Int? { membership.slot }

    /// Whether this incarnation may still report outcomes.
    package func holds(at now: UInt64) -> Bool { membership.holds(at: now) }

    /// When `advance` has something to do, if nothing else happens before.
    package var deadline: UInt64? {
        guard membership.isJoined else { return membership.deadline }
        var first = membership.deadline ?? .max
        for host in pairs.indices where pairs[host] != nil {
            if !isReadingRow { first = min(first, rowPoller.next) }
            if isSettled(host) { first = min(first, pairs[host]?.deadline ?? .max) }
        }
        return first
    }

    /// What went to that host, as far as it is known; nil where it doesn't live.
    package func flow(to host: Int) -> Flow? { pairs[host]?.writer.flow }

    /// What is to be done now, each once.
    package mutating func takeActions() -> [Action] {
        defer { actions = [] }
        return actions
    }

    /// What happened since the last call.
    package mutating func takeEvents() -> [Event] {
        defer { events = [] }
        return events
    }

    /// Does what is due.
    package mutating func advance(at now: UInt64) {
        membership.advance(at: now)
        heed(at: now)
        work(at: now)
    }

    /// An action has ended.
    package mutating func ended(_ tag: UInt64, _ outcome: Outcome, at now: UInt64) {
        guard let request = requests.removeValue(forKey: tag) else { preconditionFailure("an action ends once") }
        var bytes: [UInt8]?
        var isDone = false
        switch outcome {
        case .read(let content): bytes = content
        case .written: isDone = true
        case .failed: break
        }
        switch request {
        case .leases: membership.leasesRead(bytes, at: now)
        case .lease: membership.leaseWritten(isDone, at: now)
        case .rows, .row, .ringRead, .ringWrite: membership.advance(at: now)
        }
        // Who is fenced, or whose peer is gone, takes nothing any more.
        heed(at: now)
        switch request {
        case .leases, .lease: break
        case .rows: rowsRead(bytes, at: now)
        case .row(let host, let pair): rowWritten(host, pair, isDone, at: now)
        case .ringRead(let host, let pair, let number): ringRead(host, pair, number, bytes, at: now)
        case .ringWrite(let host, let pair, let positions): ringWritten(host, pair, positions, isDone, at: now)
        }
        work(at: now)
    }

    /// Asks `source` for what it has for each peer that has room.
    package mutating func send(from source: inout some PayloadSource, at now: UInt64) {
        membership.advance(at: now)
        heed(at: now)
        guard holds(at: now) else { return }
        for host in pairs.indices where isSettled(host) {
            while let write = pairs[host]?.write(from: &source, at: now) {
                issue(write, to: host)
                // An answer comes in the ring, an acknowledgement soon.
                rowPoller.expect(in: timing.expectation, at: now)
            }
        }
        work(at: now)
    }

    /// Gives the slot back: a later incarnation takes it without waiting. What was not yet taken is dropped.
    package mutating func stop(at now: UInt64) {
        membership.stop(at: now)
        for host in pairs.indices { close(host) }
        heed(at: now)
    }

    /// Hands an action to the owner.
    mutating func issue(_ operation: Action.Operation, _ request: Request) {
        lastTag += 1
        requests[lastTag] = request
        actions.append(Action(tag: lastTag, operation: operation))
    }
}
