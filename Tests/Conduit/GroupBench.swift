import MediumKit
import SkeinConduit
import SkeinGroup
import SkeinMedium

/// What is driven on the bench: a machine of the medium, with what it was told.
protocol Driven: AnyObject {
    var deadline: UInt64? { get }
    func advance(at now: UInt64)
    /// Somebody has left it something to send.
    func send(at now: UInt64)
    func ended(_ tag: UInt64, _ outcome: MediumHost.Outcome, at now: UInt64)
    func takeActions() -> [MediumHost.Action]
}

/// A host as the agent has it.
final class Member: Driven {
    var host: GroupHost
    var events: [GroupHost.Event] = []

    init(_ host: consuming GroupHost) { self.host = host }

    var deadline: UInt64? { host.deadline }
    func advance(at now: UInt64) { host.advance(at: now) }
    func send(at now: UInt64) { host.send(at: now) }
    func ended(_ tag: UInt64, _ outcome: MediumHost.Outcome, at now: UInt64) {
        host.ended(tag, outcome, at: now)
        host.send(at: now)
    }
    func takeActions() -> [MediumHost.Action] {
        events += host.takeEvents()
        return host.takeActions()
    }

    /// What its filaments were told since the last call.
    func filamentEvents() -> [FilamentEvent] {
        defer { events = [] }
        return events.compactMap { if case .filament(_, _, let event) = $0 { event } else { nil } }
    }
}

/// A member of the medium that gives other hosts these payloads, whatever they are.
final class Stranger: Driven {
    struct Payloads: PayloadSource {
        var all: [[UInt8]] = []

        mutating func fill(_ payload: inout [UInt8], room: Int, for host: Int) {
            if !all.isEmpty { payload += all.removeFirst() }
        }
    }

    var host: MediumHost
    var payloads = Payloads()

    init(_ host: MediumHost) { self.host = host }

    var deadline: UInt64? { host.deadline }
    func advance(at now: UInt64) { host.advance(at: now) }
    func send(at now: UInt64) { host.send(from: &payloads, at: now) }
    func ended(_ tag: UInt64, _ outcome: MediumHost.Outcome, at now: UInt64) { host.ended(tag, outcome, at: now) }
    func takeActions() -> [MediumHost.Action] { host.takeActions() }
}

/// Hosts on one disk that takes ten microseconds for anything, in virtual time.
struct GroupBench {
    private static let latency: UInt64 = 10_000

    let superblock: Superblock
    let timing = Timing(timeoutMilliseconds: 1000)
    var now: UInt64 = 1_000_000_000_000
    private var units: [UInt64: [UInt8]] = [:]
    private var queue: [(time: UInt64, end: any Driven, action: MediumHost.Action)] = []
    private(set) var ends: [any Driven] = []

    init() throws {
        superblock = try Superblock(
            identity: medium, group: "group", geometry: Geometry(hosts: 2, ringUnits: 64, tableUnits: 1), made: 0)
    }

    func host(_ name: String, _ number: UInt64) -> Membership.Host {
        Membership.Host(
            name: name, boot: Identifier(1, 1), machine: Identifier(1, 2), incarnation: Identifier(number, number))
    }

    /// A new host, which has its place when this returns.
    mutating func member(_ name: String, _ number: UInt64) -> Member {
        let member = Member(
            GroupHost(host(name, number), on: superblock, timing: timing, seal: ChecksumSeal(), at: now))
        add(member)
        return member
    }

    mutating func add(_ end: some Driven) {
        ends.append(end)
        run(5000)
    }

    /// Lets so many milliseconds pass, and everybody send what he has at their beginning.
    mutating func run(_ milliseconds: UInt64) {
        for end in ends { end.send(at: now) }
        let last = now + milliseconds * 1_000_000
        while true {
            for end in ends { submit(end) }
            let due = ends.compactMap { end in end.deadline.map { (end, $0) } }.min { $0.1 < $1.1 }
            if let first = queue.first, first.time <= min(last, due?.1 ?? .max) {
                queue.removeFirst()
                now = max(now, first.time)
                first.end.ended(first.action.tag, perform(first.action), at: now)
            } else if let due, due.1 <= last {
                now = max(now, due.1)
                due.0.advance(at: now)
            } else {
                break
            }
        }
        now = last
    }

    private mutating func submit(_ end: some Driven) {
        for action in end.takeActions() { queue.append((now + GroupBench.latency, end, action)) }
    }

    private mutating func perform(_ action: MediumHost.Action) -> MediumHost.Outcome {
        switch action.operation {
        case .read(let unit, let count):
            let zeros = [UInt8](repeating: 0, count: unitSize)
            return .read((unit..<unit + UInt64(count)).flatMap { units[$0] ?? zeros })
        case .write(let unit, let bytes):
            for index in 0..<bytes.count / unitSize {
                units[unit + UInt64(index)] = Array(bytes[index * unitSize..<(index + 1) * unitSize])
            }
            return .written
        }
    }
}
