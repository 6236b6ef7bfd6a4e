/// What a host says of itself, rewritten in its slot every T.
package struct Lease: Equatable, Sendable {
    package enum State: UInt8, Sendable {
        case claiming = 1
        case alive = 2
        case stopped = 3
    }

    /// 'This incarnation of that host is dead.'
    package struct Verdict: Hashable, Sendable {
        package let host: Int
        package let incarnation: Identifier

        package init(host: Int, incarnation: Identifier) {
            self.host = host
            self.incarnation = incarnation
        }
    }

    /// Bytes of a host's name at most.
    package static let nameSize = 64

    package var state: State
    package var name: String
    /// Counts the incarnations of the slot.
    package var generation: UInt64
    /// Which boot of which machine the host is.
    package var boot: Identifier
    package var machine: Identifier
    /// CLOCK_BOOTTIME when the incarnation began, in nanoseconds.
    package var start: UInt64
    package var verdicts: [Verdict]

    private enum Offset {
        static let state = 0
        static let nameLength = 1
        static let verdictCount = 2
        static let generation = 8
        static let boot = 16
        static let machine = 32
        static let start = 48
        static let name = 56
        static let verdicts = 120
    }
    private static let verdictSize = 24

    package init(
        state: State, name: String, generation: UInt64, boot: Identifier, machine: Identifier, start: UInt64,
        verdicts: [Verdict] = []
    ) {
        precondition((1...Lease.nameSize).contains(name.utf8.count), "a host has a name that fits its lease")
        self.state = state
        self.name = name
        self.generation = generation
        self.boot = boot
        self.machine = machine
        self.start = start
        self.verdicts = verdicts
    }

    package var body: [UInt8] {
        var body = [UInt8](repeating: 0, count: Offset.verdicts + Lease.verdictSize * verdicts.count)
        body[Offset.state] = state.rawValue
        body[Offset.nameLength] = UInt8(name.utf8.count)
        body.put(UInt16(verdicts.count), at: Offset.verdictCount)
        body.put(generation, at: Offset.generation)
        body.put(boot, at: Offset.boot)
        body.put(machine, at: Offset.machine)
        body.put(start, at: Offset.start)
        body.put(Array(name.utf8), at: Offset.name)
        for (index, verdict) in verdicts.enumerated() {
            let offset = Offset.verdicts + Lease.verdictSize * index
            body.put(UInt64(verdict.host), at: offset)
            body.put(verdict.incarnation, at: offset + 8)
        }
        return body
    }

    /// Nil where a field holds what it can't. `hosts` is the geometry's.
    package init?(body: [UInt8], hosts: Int) {
        guard body.count >= Offset.verdicts, let state = State(rawValue: body[Offset.state]) else { return nil }
        let nameLength = Int(body[Offset.nameLength])
        let count = Int(body.word(at: Offset.verdictCount) as UInt16)
        guard (1...Lease.nameSize).contains(nameLength), count <= hosts,
            body.count >= Offset.verdicts + Lease.verdictSize * count,
            let name = String(validating: body[Offset.name..<Offset.name + nameLength], as: UTF8.self)
        else { return nil }
        var verdicts: [Verdict] = []
        for index in 0..<count {
            let offset = Offset.verdicts + Lease.verdictSize * index
            let host: UInt64 = body.word(at: offset)
            guard host < UInt64(hosts) else { return nil }
            verdicts.append(Verdict(host: Int(host), incarnation: Identifier(body, at: offset + 8)))
        }
        self.state = state
        self.name = name
        self.verdicts = verdicts
        generation = body.word(at: Offset.generation)
        boot = Identifier(body, at: Offset.boot)
        machine = Identifier(body, at: Offset.machine)
        start = body.word(at: Offset.start)
    }
}
