/// One incarnation's place among the hosts of a medium: how it takes its slot, keeps it, and learns who lives.
///
/// A state machine without I/O. Its owner calls `advance` when `deadline` comes, does what `takeAction` says, one
/// thing at a time, reports how it ended, and looks at `takeEvents` after each call. Times are CLOCK_BOOTTIME in
/// nanoseconds. An incarnation that has ended is never used again: its owner makes another one.
package struct Membership {
    /// Who wants to be a member.
    package struct Host: Sendable {
        package var name: String
        package var boot: Identifier
        package var machine: Identifier
        /// 128 fresh random bits.
        package var incarnation: Identifier
        /// The incarnation of this host that its owner knows to be gone, since it holds the lock that one held.
        package var gone: Identifier?

        package init(
            name: String, boot: Identifier, machine: Identifier, incarnation: Identifier, gone: Identifier? = nil
        ) {
            self.name = name
            self.boot = boot
            self.machine = machine
            self.incarnation = incarnation
            self.gone = gone
        }
    }

    /// What the owner is to do; it has one in hand at a time.
    package enum Action: Equatable {
        /// Read all leases in one read, then call `leasesRead`.
        case read(unit: UInt64, count: Int)
        /// Write this unit, then call `leaseWritten`.
        case write(unit: UInt64, bytes: [UInt8])
    }

    package enum Event: Equatable {
        /// The slot is ours, and its lease was read back.
        case joined(slot: Int, generation: UInt64)
        case peerAlive(host: Int, incarnation: Identifier, generation: UInt64, name: String)
        /// That incarnation writes nothing any more that counts.
        case peerGone(host: Int, incarnation: Identifier)
        /// Nothing more is written under this incarnation.
        case ended(End)
    }

    package enum End: Equatable {
        case stopped
        /// The name is that of a host which lives.
        case nameTaken
        /// No slot is free; these hosts have stopped and keep theirs.
        case full(stopped: [String])
        /// Others judged us dead.
        case judgedDead(by: Int)
        /// Another incarnation has our slot.
        case replaced
        /// No renewal was read back in time.
        case lost
    }

    enum Phase: Equatable {
        /// Looking for a slot, perhaps watching the one of this name.
        case surveying
        /// The claim is being written.
        case claiming
        /// The claim stands for a while, and is then read back.
        case confirming
        case alive
        case stopping
        case ended(End)
    }

    /// A lease of our own that was issued.
    struct Renewal {
        var count: UInt64
        var issued: UInt64
    }

    let host: Host
    let geometry: Geometry
    let timing: Timing
    let medium: Identifier
    let seal: any Seal

    var phase = Phase.surveying
    package internal(set) var slot: Int?
    package internal(set) var generation: UInt64 = 0
    var isJoined = false
    /// When the next read is due, and when the one in hand was issued.
    var next: UInt64
    var readIssued: UInt64 = 0
    var isBusy = false
    var action: Action?
    var events: [Event] = []

    // Joining.
    var search: Search
    /// The incarnation that had the slot before: its late writes are overwritten.
    var predecessor: Identifier?
    var claimed: UInt64 = 0

    // Alive.
    var renewal = Renewal(count: 0, issued: 0)
    /// When the newest renewal that was read back had been issued.
    var readBack: UInt64 = 0
    var lastGoodReading: UInt64 = 0
    var peers: [Int: Peer] = [:]
    var reportedGone: Set<Identifier> = []
    /// Our own verdicts, and the count of the first lease that had each.
    var verdicts: [Lease.Verdict: UInt64] = [:]

    /// A host that begins to look for its slot.
    package init(_ host: Host, on superblock: Superblock, timing: Timing, seal: any Seal, at now: UInt64) {
        self.host = host
        geometry = superblock.geometry
        medium = superblock.identity
        self.timing = timing
        self.seal = seal
        next = now
        search = Search(began: now)
    }

    /// When `advance` has something to do, if nothing else happens before.
    package var deadline: UInt64? {
        switch phase {
        case .ended: nil
        case .alive: isBusy ? readBack + timing.fence + 1 : min(next, readBack + timing.fence + 1)
        default: isBusy ? nil : next
        }
    }

    /// Whether this incarnation may still report outcomes: it has its slot, and knew so recently.
    package func holds(at now: UInt64) -> Bool {
        phase == .alive && isJoined && now <= readBack + timing.fence
    }

    /// What is to be done now, once.
    package mutating func takeAction() -> Action? {
        defer { action = nil }
        return action
    }

    /// What happened since the last call.
    package mutating func takeEvents() -> [Event] {
        defer { events = [] }
        return events
    }

    /// Does what is due.
    package mutating func advance(at now: UInt64) {
        fenceIfLost(at: now)
        guard !isEnded, !isBusy, now >= next else { return }
        isBusy = true
        readIssued = now
        action = .read(unit: geometry.leases.start, count: geometry.hosts)
    }

    /// The read that was asked for has ended; nil where it failed.
    package mutating func leasesRead(_ bytes: [UInt8]?, at now: UInt64) {
        isBusy = false
        fenceIfLost(at: now)
        guard !isEnded else { return }
        guard let bytes else {
            next = now + timing.retry
            return
        }
        let slots = (0..<geometry.hosts).map { Slot(bytes, host: $0, in: self) }
        switch phase {
        case .surveying: survey(slots, at: now)
        case .confirming: confirm(slots, at: now)
        case .alive: renew(slots, at: now)
        case .stopping: writeLease(.stopped, at: now)
        case .claiming, .ended: break
        }
    }

    /// The write that was asked for has ended.
    package mutating func leaseWritten(_ isDone: Bool, at now: UInt64) {
        isBusy = false
        fenceIfLost(at: now)
        switch phase {
        case .claiming:
            phase = isDone ? .confirming : .surveying
            next = now + (isDone ? timing.claim : timing.retry)
        case .alive:
            // A verdict counts once it was read back, so that is done at once.
            let hasNews = verdicts.values.contains(renewal.count)
            next = !isDone ? now + timing.retry : hasNews ? now : max(now, readIssued + timing.renewal)
        case .stopping:
            if isDone && renewal.count >= stopCount { end(.stopped) } else { next = now }
        case .surveying, .confirming, .ended: break
        }
    }

    /// Gives the slot back: a later incarnation takes it without waiting.
    package mutating func stop(at now: UInt64) {
        fenceIfLost(at: now)
        guard !isEnded else { return }
        guard phase == .alive else { return end(.stopped) }
        phase = .stopping
        isJoined = false
        stopCount = renewal.count + 1
        if !isBusy { next = now }
    }
    var stopCount: UInt64 = 0

    var isEnded: Bool { if case .ended = phase { true } else { false } }

    mutating func end(_ end: End) {
        phase = .ended(end)
        isJoined = false
        action = nil
        events.append(.ended(end))
    }

    private mutating func fenceIfLost(at now: UInt64) {
        if phase == .alive && now > readBack + timing.fence { end(.lost) }
    }

    /// Asks for a write of our lease.
    mutating func writeLease(_ state: Lease.State, at now: UInt64) {
        guard let slot else { preconditionFailure("a lease is written to a slot") }
        renewal = Renewal(count: renewal.count + 1, issued: now)
        let lease = Lease(
            state: state, name: host.name, generation: generation, boot: host.boot, machine: host.machine,
            start: claimed, verdicts: verdicts.keys.sorted { $0.host < $1.host })
        let unit = geometry.lease(of: slot)
        let channel = BlockChannel(.lease, medium: medium, writer: host.incarnation, seal: seal)
        isBusy = true
        action = .write(unit: unit, bytes: channel.block(place: unit, count: renewal.count, body: lease.body))
    }
}

/// What lies in a slot.
enum Slot {
    /// Zeros.
    case empty
    /// Neither zeros nor a lease that proves itself: just being written, or damaged.
    case broken
    case lease(BlockHeader, Lease)

    init(_ bytes: [UInt8], host: Int, in membership: Membership) {
        let offset = host * unitSize
        let unit = membership.geometry.lease(of: host)
        guard bytes.count >= offset + unitSize, bytes[offset..<offset + unitSize].contains(where: { $0 != 0 }) else {
            self = .empty
            return
        }
        guard let header = BlockHeader(bytes, at: offset, kind: .lease),
            let opened = BlockChannel(
                .lease, medium: membership.medium, writer: header.writer, seal: membership.seal
            ).open(bytes, at: offset, place: unit),
            opened.header.units == 1,
            let lease = Lease(body: opened.body, hosts: membership.geometry.hosts)
        else {
            self = .broken
            return
        }
        self = .lease(header, lease)
    }
}
