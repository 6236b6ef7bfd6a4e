import SkeinMedium

// What lies on a medium: blocks and their bodies as they are, and a host that reads leases, rows and rings in which
// everything proves itself and nothing else holds.

private let mediumName = Identifier(1, 1)
private let own = Identifier(2, 2)
private let peer = Identifier(3, 3)
private let geometry = Geometry(hosts: 2, ringUnits: 64, tableUnits: 1)
private let superblock: Superblock = {
    guard let made = try? Superblock(identity: mediumName, group: "group", geometry: geometry, made: 0) else {
        fatalError("a superblock can be made")
    }
    return made
}()

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    if input.byte() & 1 == 0 { parse(&input) } else { live(&input) }
    return 0
}

/// One unit or more, as a reader of each kind meets them, and their bodies behind a proof.
private func parse(_ input: inout Input) {
    let place = UInt64(input.byte())
    let bytes = input.rest()
    for kind in BlockKind.allCases {
        let channel = BlockChannel(kind, medium: mediumName, writer: peer, reader: own, seal: ChecksumSeal())
        if let (header, body) = channel.open(bytes, place: place) {
            require(
                body.count <= bytes.count && header.units <= bytes.count / unitSize + 1, "a body lies within its block")
        }
        let block = channel.block(place: place, count: 1, body: bytes)
        require(channel.open(block, place: place)?.body == bytes, "what was written is read")
    }
    if let lease = Lease(body: bytes, hosts: 8) { require(Lease(body: lease.body, hosts: 8) == lease, "a lease") }
    if let row = Row(body: bytes) {
        require(Row(body: row.body) == row, "a row")
        if row.isSound(in: geometry, writer: 1, generation: 7) {
            let half = geometry.half(of: 1, generation: 7)
            require(half.contains(row.ringStart) && half.contains(row.ringStart + 63), "a ring lies in its half")
        }
    }
    if let block = DataBlock(body: bytes) { require(block.body == bytes, "a data block") }
    require(SocketRecord.records(body: bytes).count % SocketRecord.perUnit == 0, "a unit has all of its records")
    let channel = BlockChannel(.superblock, medium: .zero, writer: .zero, seal: ChecksumSeal())
    for unit in [bytes, channel.block(place: 0, count: 1, body: bytes)] {
        do {
            let found = try Superblock.read(first: unit, copy: bytes).superblock
            require(found.geometry.data.start < found.geometry.units, "regions lie within the medium")
        } catch {
            require(!error.description.isEmpty, "a fault has words")
        }
    }
}

/// Payloads from nowhere.
private struct Chatter: PayloadSource {
    var left = 0

    mutating func fill(_ payload: inout [UInt8], room: Int, for host: Int) {
        guard left > 0 else { return }
        let size = min(room, left)
        left -= size
        payload += [UInt8](repeating: 9, count: size)
    }
}

/// A host that is alone with a peer which has the key. Where the input has zeros the peer is honest.
private func live(_ input: inout Input) {
    var now: UInt64 = 1 << 40
    let name = Membership.Host(name: "own", boot: own, machine: own, incarnation: own)
    // Looks without a pause would be most of what happens.
    var timing = Timing(timeoutMilliseconds: 1000)
    timing.eager = 0
    var host = MediumHost(name, on: superblock, timing: timing, seal: ChecksumSeal(), at: now)
    var peer = Peer()
    var chatter = Chatter()
    host.advance(at: now)
    var steps = 0
    while !input.isEmpty && steps < 200 {
        steps += 1
        let actions = host.takeActions()
        for action in actions {
            switch action.operation {
            case .write(let unit, let bytes):
                require(isOwn(unit, bytes.count, host), "a host writes its own units")
                if unit < geometry.rows.start { peer.lease = bytes }
                host.ended(action.tag, input.byte() == 255 ? .failed : .written, at: now)
            case .read(let unit, let count):
                require(count <= 256 && unit + UInt64(count) <= geometry.units, "a read lies within the medium")
                let bytes = peer.answer(unit, count, slot: host.slot ?? 0, &input)
                host.ended(action.tag, .read(bytes), at: now)
            }
        }
        for event in host.takeEvents() {
            if case .broken(_, _, let fault) = event { require(!fault.description.isEmpty, "a fault has words") }
            if case .received(_, let payload) = event {
                require(!payload.isEmpty, "a payload has bytes")
                peer.taken += UInt64(DataBlock.units(payload: payload.count))
            }
        }
        let choice = input.byte()
        if choice & 3 == 3 { chatter.left = Int(choice) << 8 }
        host.send(from: &chatter, at: now)
        if let slot = host.slot, let flow = host.flow(to: 1 - slot) {
            require(flow.consumed <= flow.made && flow.made - flow.consumed <= 64, "no more than a ring is kept")
        }
        now += 10_000 + UInt64(choice) << 8
        if actions.isEmpty {
            guard let deadline = host.deadline else { return }
            now = max(now, deadline)
        }
        host.advance(at: now)
    }
}

/// Whether a host writes there: its lease, its unit of the peer's row, or its half of the data units.
private func isOwn(_ unit: UInt64, _ size: Int, _ host: MediumHost) -> Bool {
    guard let slot = host.slot else { return false }
    if unit == geometry.lease(of: slot) || unit == geometry.row(of: 1 - slot, from: slot) { return size == unitSize }
    let half = geometry.half(of: slot, generation: 1)
    return half.contains(unit) && unit + UInt64(size / unitSize) <= half.upperBound
}

/// The other host, in whose name all is written that a read shows.
private struct Peer {
    /// The host's own lease, as it wrote it.
    var lease: [UInt8] = []
    /// Units of the peer's blocks that the host took.
    var taken: UInt64 = 0
    private var writeCount: UInt64 = 1

    mutating func answer(_ unit: UInt64, _ count: Int, slot: Int, _ input: inout Input) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count * unitSize)
        if input.byte() & 15 != 7 { writeCount += 1 }
        if unit == geometry.leases.start {
            guard !lease.isEmpty else { return bytes }
            bytes.put(lease, at: slot * unitSize)
            let theirs = Lease(
                state: input.byte() == 7 ? .stopped : .alive, name: "peer", generation: 1, boot: peer, machine: peer,
                start: 0)
            bytes.put(block(.lease, at: geometry.lease(of: 1 - slot), theirs.body), at: (1 - slot) * unitSize)
        } else if unit == geometry.row(of: slot, from: 0) {
            let place = geometry.row(of: slot, from: 1 - slot)
            bytes.put(block(.row, at: place, row(slot, &input).body), at: (1 - slot) * unitSize)
        } else {
            fill(&bytes, &input)
        }
        return bytes
    }

    private func row(_ slot: Int, _ input: inout Input) -> Row {
        let choice = input.byte()
        var row = Row(
            ringStart: geometry.ring(from: 1 - slot, to: slot, generation: 1), ringUnits: 64, bell: taken + 1,
            consumed: 0, seen: 0)
        if choice & 1 != 0 { row.consumed = UInt64(input.byte()) }
        if choice & 2 != 0 { row.seen = UInt64(input.byte()) }
        if choice & 4 != 0 { row.bell = UInt64(input.byte()) }
        switch choice >> 3 {
        case 1: row.bell = input.word()
        case 2: row.consumed = input.word()
        case 3: row.seen = input.word()
        case 4: row.ringStart = input.word()
        default: break
        }
        return row
    }

    private func fill(_ bytes: inout [UInt8], _ input: inout Input) {
        var offset = 0
        let skipped = input.byte()
        var position = taken &+ (skipped == 255 ? input.word() : UInt64(skipped & 3))
        while offset < bytes.count {
            let choice = input.byte()
            var body: [UInt8] = []
            body.append(word: choice & 1 == 0 ? 0 : UInt64(input.byte()))
            body += choice & 2 == 0 ? [5] : input.take(Int(input.byte()))
            if choice & 4 != 0 { body += [UInt8](repeating: 1, count: Int(input.byte()) * 1999) }
            var block = block(.data, at: position, body)
            position &+= UInt64(block.count / unitSize)
            block.removeLast(max(0, offset + block.count - bytes.count))
            bytes.put(block, at: offset)
            offset += block.count
        }
    }

    private func block(_ kind: BlockKind, at place: UInt64, _ body: [UInt8]) -> [UInt8] {
        let reader = kind == .lease ? Identifier.zero : own
        let channel = BlockChannel(kind, medium: mediumName, writer: peer, reader: reader, seal: ChecksumSeal())
        return channel.block(place: place, count: writeCount, body: body)
    }
}
