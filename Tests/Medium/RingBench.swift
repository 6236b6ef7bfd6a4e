import MediumKit
import SkeinMedium

/// Two hosts of one medium, A and B, whose disk takes ten microseconds unless it is told to wait.
struct RingBench {
    /// Gives payloads in order, a large one in pieces.
    struct Outbox: PayloadSource {
        var payloads: [[UInt8]] = []
        /// The room of each block that was asked for.
        var rooms: [Int] = []

        mutating func fill(_ payload: inout [UInt8], room: Int, for host: Int) {
            rooms.append(room)
            guard let first = payloads.first else { return }
            payload += first.prefix(room)
            if first.count > room { payloads[0] = Array(first[room...]) } else { payloads.removeFirst() }
        }
    }

    struct End {
        var host: MediumHost
        let incarnation: Identifier
        var outbox = Outbox()
        var received: [[UInt8]] = []
        var faults: [PeerFault] = []
        var isGone = false
        var isPaused = false
    }

    /// An action that was asked for.
    struct Asked {
        let time: UInt64
        let name: String
        let action: MediumHost.Action

        var unit: UInt64 {
            switch action.operation {
            case .read(let unit, _), .write(let unit, _): unit
            }
        }
        /// What is to be written; nil for a read.
        var bytes: [UInt8]? { if case .write(_, let bytes) = action.operation { bytes } else { nil } }
    }

    let superblock: Superblock
    let timing = Timing(timeoutMilliseconds: 1000)
    var now: UInt64 = 1_000_000_000_000
    var units: [UInt64: [UInt8]] = [:]
    var ends: [String: End] = [:]
    /// All that was asked for since somebody emptied it.
    var log: [Asked] = []
    /// What is held back: writes of payloads by A, looks into A's ring by B, or none.
    var holdsWrites = false
    var holdsReads = false
    var held: [Asked] = []
    /// Whether rows can't be read.
    var rowsFail = false
    /// What the disk has in hand, the oldest first.
    private var queue: [Asked] = []
    private let latency: UInt64 = 10_000

    var geometry: Geometry { superblock.geometry }
    var millisecond: UInt64 { 1_000_000 }

    init(ringUnits: UInt64 = 64) throws {
        superblock = try Superblock(
            identity: medium, group: "group", geometry: Geometry(hosts: 2, ringUnits: ringUnits, tableUnits: 1),
            made: 0)
        start("A", incarnation: 1)
        run(5 * timing.timeout)
        start("B", incarnation: 2)
        run(5 * timing.timeout)
        log = []
    }

    mutating func start(_ name: String, incarnation: UInt8) {
        queue.removeAll { $0.name == name }
        let host = Membership.Host(
            name: name, boot: pattern(0x80), machine: pattern(0x90), incarnation: pattern(incarnation),
            gone: ends[name]?.incarnation)
        ends[name] = End(
            host: MediumHost(host, on: superblock, timing: timing, seal: ChecksumSeal(), at: now),
            incarnation: pattern(incarnation))
    }

    /// Lets a time pass, in which both do what is due.
    mutating func run(_ time: UInt64) {
        let end = now + time
        while true {
            let due = next()
            if let index = queue.firstIndex(where: { !(ends[$0.name]?.isPaused ?? true) }),
                queue[index].time + latency <= min(end, due?.time ?? .max)
            {
                let asked = queue.remove(at: index)
                now = max(now, asked.time + latency)
                finish(asked)
                perform(asked.name)
            } else if let due, due.time <= end {
                now = max(now, due.time)
                ends[due.name]?.host.advance(at: now)
                perform(due.name)
            } else {
                break
            }
        }
        now = max(now, end)
    }

    private func next() -> (name: String, time: UInt64)? {
        ends.filter { !$0.value.isPaused && !$0.value.isGone }
            .compactMap { name, end in end.host.deadline.map { (name, $0) } }
            .min { ($0.1, $0.0) < ($1.1, $1.0) }
    }

    /// Hands payloads to a host.
    mutating func send(_ payloads: [[UInt8]], from name: String) {
        ends[name]?.outbox.payloads += payloads
        perform(name)
    }

    /// Lets a host send what it has, and takes what it asks for and reports.
    mutating func perform(_ name: String) {
        guard var outbox = ends[name]?.outbox else { return }
        ends[name]?.host.send(from: &outbox, at: now)
        ends[name]?.outbox = outbox
        for action in ends[name]?.host.takeActions() ?? [] {
            let asked = Asked(time: now, name: name, action: action)
            log.append(asked)
            let isHeld = name == "A" ? holdsWrites && asked.bytes != nil : holdsReads && asked.bytes == nil
            if isHeld && isData(asked) {
                held.append(asked)
            } else {
                queue.append(asked)
            }
        }
        take(name)
    }

    /// The disk does it, unless it fails or is said to be done and is not.
    mutating func finish(_ asked: Asked, fails: Bool = false, isLost: Bool = false) {
        switch asked.action.operation {
        case .read(let unit, let count):
            let zeros = [UInt8](repeating: 0, count: unitSize)
            let bytes = (unit..<unit + UInt64(count)).flatMap { units[$0] ?? zeros }
            let isFailed = fails || rowsFail && isRow(asked)
            ends[asked.name]?.host.ended(asked.action.tag, isFailed ? .failed : .read(bytes), at: now)
        case .write(let unit, let bytes):
            if !fails && !isLost { store(bytes, at: unit) }
            ends[asked.name]?.host.ended(asked.action.tag, fails ? .failed : .written, at: now)
        }
    }

    mutating func store(_ bytes: [UInt8], at unit: UInt64) {
        for index in 0..<bytes.count / unitSize {
            units[unit + UInt64(index)] = Array(bytes[index * unitSize..<(index + 1) * unitSize])
        }
    }

    private mutating func take(_ name: String) {
        for event in ends[name]?.host.takeEvents() ?? [] {
            switch event {
            case .received(_, let payload): ends[name]?.received.append(Array(payload))
            case .broken(_, _, let fault): ends[name]?.faults.append(fault)
            case .membership(.ended): ends[name]?.isGone = true
            case .membership: break
            }
        }
    }

    func isData(_ asked: Asked) -> Bool { asked.unit >= geometry.data.start }
    func isRow(_ asked: Asked) -> Bool { (geometry.rows.start..<geometry.table.start).contains(asked.unit) }

    /// What a host wrote into its ring since the log was emptied.
    func blocksWritten(by name: String) -> [Asked] { log.filter { $0.name == name && isData($0) && $0.bytes != nil } }
    func rowsWritten(by name: String) -> [Asked] { log.filter { $0.name == name && isRow($0) && $0.bytes != nil } }
    func reads(by name: String) -> [Asked] { log.filter { $0.name == name && $0.bytes == nil } }

    /// What one writes for the other.
    func channel(_ kind: BlockKind, from name: String) -> BlockChannel {
        let other = name == "A" ? "B" : "A"
        return BlockChannel(
            kind, medium: medium, writer: ends[name]!.incarnation, reader: ends[other]!.incarnation,
            seal: ChecksumSeal())
    }

    /// The data blocks in a write: position, write count, content.
    func blocks(_ asked: Asked) -> [(position: UInt64, count: UInt64, content: DataBlock)] {
        guard let bytes = asked.bytes else { return [] }
        var blocks: [(position: UInt64, count: UInt64, content: DataBlock)] = []
        var offset = 0
        while let header = BlockHeader(bytes, at: offset, kind: .data),
            let opened = channel(.data, from: asked.name).open(bytes, at: offset, place: header.place),
            let content = DataBlock(body: opened.body)
        {
            blocks.append((header.place, header.count, content))
            offset += header.units * unitSize
        }
        return blocks
    }

    func row(_ asked: Asked) -> Row? {
        guard let bytes = asked.bytes, let opened = channel(.row, from: asked.name).open(bytes, place: asked.unit)
        else { return nil }
        return Row(body: opened.body)
    }
}
