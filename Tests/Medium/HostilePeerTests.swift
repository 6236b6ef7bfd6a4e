import MediumKit
import SkeinMedium

// What becomes of a peer that has the key and breaks the rules: here B, which A meets.

func hostilePeerTests() throws {
    let ring = try RingBench().geometry.ring(from: 1, to: 0, generation: 1)
    func row(start: UInt64? = nil, units: UInt32 = 64, bell: UInt64 = 1, consumed: UInt64 = 1, seen: UInt64 = 0) -> Row
    {
        Row(ringStart: start ?? ring, ringUnits: units, bell: bell, consumed: consumed, seen: seen)
    }
    let foreign = try RingBench().geometry.ring(from: 0, to: 1, generation: 1)
    let rows: [(String, Row, PeerFault)] = [
        ("names another host's units as its ring", row(start: foreign), .ring(start: foreign, units: 64)),
        ("names the ring of its predecessor", row(start: ring - 64), .ring(start: ring - 64, units: 64)),
        ("names a ring of another size", row(units: 63), .ring(start: ring, units: 63)),
        ("says that it took more than there is", row(consumed: 3), .cursor(said: 3, made: 2)),
        ("says that it took all there can be", row(consumed: .max), .cursor(said: .max, made: 2)),
        ("knows of more taken than was", row(seen: 1), .cursor(said: 1, made: 0)),
        ("rings for more than a ring", row(bell: 65), .bell(said: 65, taken: 0)),
        ("rings for the end of time", row(bell: .max), .bell(said: .max, taken: 0)),
    ]
    for (what, row, fault) in rows {
        var bench = try prepared()
        bench.putRow(row, count: 100)
        try judge(&bench, what, fault)
    }
    for (what, later) in [("rings back", row(bell: 0)), ("takes blocks back", row(consumed: 0))] {
        var bench = try prepared()
        bench.putRow(row(), count: 100)
        bench.run(30 * bench.millisecond)
        bench.putRow(later, count: 101)
        try judge(&bench, what, .backwards)
    }
    for (what, body, fault) in [
        ("sends a block without a payload", [UInt8](repeating: 0, count: 8), PeerFault.block(position: 0)),
        ("lies in a block about what it took", DataBlock(consumed: 3, payload: [1]).body, .cursor(said: 3, made: 2)),
    ] {
        var bench = try prepared()
        bench.putRow(row(), count: 100)
        bench.run(30 * bench.millisecond)
        bench.store(bench.channel(.data, from: "B").block(place: 0, count: 100, body: body), at: ring)
        try judge(&bench, what, fault)
    }
    try harmlessCases(row())
}

/// B does nothing by itself any more, and A has two blocks for it.
private func prepared() throws -> RingBench {
    var bench = try RingBench()
    bench.ends["B"]!.isPaused = true
    bench.send([[1], [2]], from: "A")
    return bench
}

private func judge(_ bench: inout RingBench, _ what: String, _ fault: PeerFault) throws {
    bench.run(50 * bench.millisecond)
    check(bench.ends["A"]!.faults, is: [fault], "a peer that \(what) is found out")
    check(!fault.description.isEmpty && bench.ends["A"]!.received.isEmpty, "and nothing of it is taken")
    bench.log = []
    bench.send([[3]], from: "A")
    bench.run(200 * bench.millisecond)
    check(bench.blocksWritten(by: "A").isEmpty, "and nothing sent to it any more")
}

/// What lies about without a proof, or was true once, changes nothing.
private func harmlessCases(_ row: Row) throws {
    var bench = try prepared()
    bench.putRow(row, count: 100)
    bench.run(30 * bench.millisecond)
    let unit = bench.geometry.row(of: 0, from: 1)
    bench.putRow(Row(ringStart: row.ringStart, ringUnits: 64, bell: 0, consumed: 0, seen: 0), count: 99)
    bench.run(30 * bench.millisecond)
    check(bench.ends["A"]!.faults, is: [], "an older row is no news")
    bench.units[unit]![80] ^= 1
    bench.run(30 * bench.millisecond)
    let stranger = BlockChannel(
        .data, medium: medium, writer: bench.ends["B"]!.incarnation, reader: pattern(9), seal: ChecksumSeal())
    let start = row.ringStart
    let crossing = DataBlock(consumed: 0, payload: [UInt8](repeating: 1, count: DataBlock.room(units: 64) + 1)).body
    for (what, block) in [
        ("a block that is larger than any", bench.channel(.data, from: "B").block(place: 0, count: 1, body: crossing)),
        ("noise", noise(unitSize)),
        (
            "a block for another incarnation",
            stranger.block(place: 0, count: 1, body: DataBlock(consumed: 0, payload: [1]).body)
        ),
        (
            "a block of another position",
            bench.channel(.data, from: "B").block(place: 64, count: 1, body: DataBlock(consumed: 0, payload: [1]).body)
        ),
    ] {
        bench.store(block, at: start)
        bench.run(60 * bench.millisecond)
        check(bench.ends["A"]!.received.isEmpty && bench.ends["A"]!.faults.isEmpty, "\(what) in a ring is nothing")
    }
    // A header that promises more than ever comes must not keep the reader busy.
    var promise = bench.channel(.data, from: "B").block(
        place: 0, count: 1, body: DataBlock(consumed: 0, payload: [1]).body)
    promise.put(UInt32(200_000), at: 40)
    bench.store(promise, at: start)
    bench.run(bench.timing.timeout)
    bench.log = []
    bench.run(bench.timing.timeout)
    check(
        bench.reads(by: "A").count < 150, "a header that promises more than there is keeps nobody busy",
        saw: "\(bench.reads(by: "A").count)")
    let block = bench.channel(.data, from: "B").block(
        place: 0, count: 1, body: DataBlock(consumed: 2, payload: [5]).body)
    bench.store(block, at: start)
    bench.run(60 * bench.millisecond)
    check(bench.ends["A"]!.received, is: [[5]], "and the true block is still found")
}

extension RingBench {
    /// Writes B's row for A in B's name.
    mutating func putRow(_ row: Row, count: UInt64) {
        let unit = geometry.row(of: 0, from: 1)
        store(channel(.row, from: "B").block(place: unit, count: count, body: row.body), at: unit)
    }
}
