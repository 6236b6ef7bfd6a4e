/// What two incarnations have for each other, seen from one: its ring for the peer, the peer's for it, and both rows.
struct Pair {
    /// Who the pair is of.
    struct Peer {
        let host: Int
        let incarnation: Identifier
        let generation: UInt64
    }

    let peer: Peer
    /// Tells answers for this pair from those for an earlier one of the same host.
    let number: UInt64
    private let geometry: Geometry
    private let timing: Timing
    /// The peer's unit of our row.
    private let rowUnit: UInt64
    private let rowChannel: BlockChannel
    private var lastRow: (count: UInt64, row: Row)?
    private var lastSent: UInt64?
    var writer: RingWriter
    var reader: RingReader
    var row: RowWriter

    /// `host` is this host's number.
    init(of peer: Peer, number: UInt64, for host: Int, in membership: Membership, at now: UInt64) {
        let own = membership.host.incarnation
        func channel(_ kind: BlockKind, from writer: Identifier, to reader: Identifier) -> BlockChannel {
            BlockChannel(
                kind, medium: membership.medium, writer: writer, reader: reader, seal: membership.seal)
        }
        self.peer = peer
        self.number = number
        geometry = membership.geometry
        timing = membership.timing
        let ring = Ring(
            start: geometry.ring(from: host, to: peer.host, generation: membership.generation),
            units: geometry.ringUnits)
        rowUnit = geometry.row(of: host, from: peer.host)
        rowChannel = channel(.row, from: peer.incarnation, to: own)
        writer = RingWriter(ring: ring, channel: channel(.data, from: own, to: peer.incarnation), timing: timing)
        reader = RingReader(channel: channel(.data, from: peer.incarnation, to: own), timing: timing, at: now)
        row = RowWriter(
            unit: geometry.row(of: peer.host, from: host), ring: ring,
            channel: channel(.row, from: own, to: peer.incarnation), timing: timing)
    }

    /// When something is due.
    var deadline: UInt64 {
        min(writer.deadline ?? .max, min(reader.deadline ?? .max, row.deadline ?? .max))
    }

    /// The next write of new payloads; it rings where the peer may look no more.
    mutating func write(from source: inout some PayloadSource, at now: UInt64) -> RingWrite? {
        guard let write = writer.write(from: &source, for: peer.host, taken: reader.position) else { return nil }
        row.tells(reader.position, at: now)
        if now >= (lastSent ?? 0) + timing.bell { row.ring(at: now) }
        lastSent = now
        // Who sends a lot waits for credit, which comes before the last is used up; looking all the time would only keep
        // the device from the data.
        if write.positions.count > DataBlock.unitsAllowed { reader.expect(at: now) } else { reader.look(at: now) }
        return write
    }

    /// A write of blocks that should have been taken by now, with the bell.
    mutating func rewrite(at now: UInt64) -> RingWrite? {
        guard let write = writer.rewrite(taken: reader.position, at: now) else { return nil }
        row.tells(reader.position, at: now)
        row.ring(at: now)
        return write
    }

    /// Our row, where it is due.
    mutating func writeRow(at now: UInt64) -> [UInt8]? {
        row.write(bell: writer.head, taken: reader.position, seen: writer.consumed, at: now)
    }

    /// Takes in the unit at `offset` of our own row, which the peer writes. True where it holds news.
    mutating func rowRead(_ bytes: [UInt8], at offset: Int, at now: UInt64) throws(PeerFault) -> Bool {
        // An older one is a stale read or a late write; whether a newer one is what it says is then proved.
        guard let header = BlockHeader(bytes, at: offset, kind: .row), header.count > lastRow?.count ?? 0,
            header.units == 1, let (_, body) = rowChannel.open(bytes, at: offset, place: rowUnit),
            let row = Row(body: body)
        else { return false }
        guard row.isSound(in: geometry, writer: peer.host, generation: peer.generation) else {
            throw .ring(start: row.ringStart, units: row.ringUnits)
        }
        if let last = lastRow?.row {
            guard row.bell >= last.bell, row.consumed >= last.consumed, row.seen >= last.seen,
                row.ringStart == last.ringStart
            else { throw .backwards }
        }
        guard row.seen <= reader.position else { throw .cursor(said: row.seen, made: reader.position) }
        lastRow = (header.count, row)
        try reader.ring(Ring(start: row.ringStart, units: geometry.ringUnits), bell: row.bell, at: now)
        try writer.consumed(row.consumed, at: now)
        self.row.seen(row.seen, at: now)
        return true
    }

    /// Takes in what a read of the peer's ring showed. Returns the payloads, in order.
    mutating func ringRead(_ read: UInt64, _ bytes: [UInt8]?, at now: UInt64) throws(PeerFault) -> [ArraySlice<UInt8>] {
        let blocks = try reader.take(read, bytes, isAnswerExpected: writer.hasUnconsumed, at: now)
        for block in blocks { try writer.consumed(block.consumed, at: now) }
        row.took(reader.position, at: now)
        return blocks.map(\.payload)
    }
}
