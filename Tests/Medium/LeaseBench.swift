import MediumKit
import SkeinMedium

/// Members of one medium, whose leases are read and written in no time; what goes wrong is done by hand.
struct LeaseBench {
    struct Member {
        var machine: Membership
        var events: [Membership.Event] = []
        /// Does nothing at all.
        var isPaused = false
        var readsFail = false
        var writesFail = false
        /// Writes are said to be done, and are not.
        var writesAreLost = false

        var isJoined: Bool { events.contains { if case .joined = $0 { true } else { false } } }
        var end: Membership.End? {
            events.lazy.compactMap { if case .ended(let end) = $0 { end } else { nil } }.first
        }
        /// Incarnations that it takes to be alive.
        var peers: Set<Identifier> {
            events.reduce(into: []) { peers, event in
                if case .peerAlive(_, let incarnation, _, _) = event { peers.insert(incarnation) }
                if case .peerGone(_, let incarnation) = event { peers.remove(incarnation) }
            }
        }
    }

    static let boot = pattern(0x80)

    let superblock: Superblock
    let timing = Timing(timeoutMilliseconds: 1000)
    var now: UInt64 = 1_000_000_000_000
    var units: [UInt64: [UInt8]] = [:]
    var members: [String: Member] = [:]

    /// T, in which these cases count.
    var period: UInt64 { timing.timeout }

    init(hosts: Int = 3) throws {
        superblock = try Superblock(
            identity: medium, group: "group", geometry: Geometry(hosts: hosts, ringUnits: 64, tableUnits: 1), made: 0)
    }

    /// A member begins under this key; its host's name is `name`.
    mutating func start(
        _ key: String, name: String? = nil, incarnation: UInt8, boot: Identifier = boot, gone: Identifier? = nil
    ) {
        let host = Membership.Host(
            name: name ?? key, boot: boot, machine: pattern(0x90), incarnation: pattern(incarnation), gone: gone)
        members[key] = Member(
            machine: Membership(host, on: superblock, timing: timing, seal: ChecksumSeal(), at: now))
    }

    /// Lets a time pass, in which all do what is due.
    mutating func run(_ time: UInt64) {
        let end = now + time
        while let (key, due) = next(), due <= end {
            now = max(now, due)
            members[key]?.machine.advance(at: now)
            perform(key)
        }
        now = end
    }

    /// Lets time pass until it holds, a thousand T at most. Returns how much that was.
    mutating func run(until holds: (LeaseBench) -> Bool) -> UInt64 {
        let start = now
        while !holds(self), now < start + 1000 * period { run(period / 100) }
        return now - start
    }

    /// The member that is due first.
    private func next() -> (key: String, due: UInt64)? {
        members.filter { !$0.value.isPaused }
            .compactMap { key, member in member.machine.deadline.map { (key, $0) } }
            .min { ($0.1, $0.0) < ($1.1, $1.0) }
    }

    /// Does what a machine asks for, until it asks for nothing more.
    mutating func perform(_ key: String) {
        guard var member = members[key] else { return }
        while let action = member.machine.takeAction() {
            switch action {
            case .read(let unit, let count):
                let zeros = [UInt8](repeating: 0, count: unitSize)
                let bytes = (unit..<unit + UInt64(count)).flatMap { units[$0] ?? zeros }
                member.machine.leasesRead(member.readsFail ? nil : bytes, at: now)
            case .write(let unit, let bytes):
                if !member.writesFail && !member.writesAreLost { units[unit] = bytes }
                member.machine.leaseWritten(!member.writesFail, at: now)
            }
        }
        member.events += member.machine.takeEvents()
        members[key] = member
    }

    /// What lies in a slot, and who wrote it.
    func lease(_ slot: Int) -> (writer: Identifier, lease: Lease)? {
        let unit = superblock.geometry.lease(of: slot)
        guard let bytes = units[unit], let header = BlockHeader(bytes, kind: .lease),
            let opened = channel(header.writer).open(bytes, place: unit),
            let lease = Lease(body: opened.body, hosts: superblock.geometry.hosts)
        else { return nil }
        return (header.writer, lease)
    }

    /// Puts a lease into a slot, as a host that is not one of the members would.
    mutating func put(
        _ slot: Int, name: String, state: Lease.State = .alive, generation: UInt64 = 1, incarnation: UInt8,
        count: UInt64 = 1, start: UInt64 = 0, verdicts: [Lease.Verdict] = []
    ) {
        let unit = superblock.geometry.lease(of: slot)
        let lease = Lease(
            state: state, name: name, generation: generation, boot: LeaseBench.boot, machine: pattern(0x90),
            start: start, verdicts: verdicts)
        units[unit] = channel(pattern(incarnation)).block(place: unit, count: count, body: lease.body)
    }

    private func channel(_ writer: Identifier) -> BlockChannel {
        BlockChannel(.lease, medium: medium, writer: writer, seal: ChecksumSeal())
    }
}
