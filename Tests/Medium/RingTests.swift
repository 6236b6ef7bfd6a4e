import MediumKit
import SkeinMedium

// What goes from one host to another, and how.

func ringTests() throws {
    try firstCases()
    try batchCases()
    try rewriteCases()
    try failedWriteCases()
    try rewrittenUnitCases()
    try lateWriteCases()
    try arrivalCases()
    try overlapCases()
    try acknowledgementCases()
    try pollingCases()
    try endCases()
}

/// The golden vectors of what a host writes for another at first, and what that takes of Python's.
func batchTests(folder: String) throws {
    var bench = try RingBench()
    bench.send([(0..<5000).map { UInt8($0 * 7 % 251) }, [1, 2, 3]], from: "A")
    let batch = bench.blocksWritten(by: "A")[0]
    let bell = bench.rowsWritten(by: "A")[0]
    let golden = (compareGolden("batch", batch.bytes!, in: folder), compareGolden("bell", bell.bytes!, in: folder))
    bench = try RingBench()
    bench.store(golden.0, at: batch.unit)
    bench.store(golden.1, at: bell.unit)
    bench.run(bench.timing.longestPause)
    check(
        bench.ends["B"]!.received.map(\.count), is: [5000, 3], "a host takes the blocks that Python wrote and rang for")
}

private func firstCases() throws {
    var bench = try RingBench()
    bench.send([[1, 2, 3]], from: "A")
    let written = bench.blocksWritten(by: "A")
    check(written.map { $0.bytes!.count }, is: [unitSize], "a lone small payload is written at once, in one unit")
    let start = bench.geometry.ring(from: 0, to: 1, generation: 1)
    check(written.first?.unit, is: start, "the first block lies where the ring of that generation begins")
    let rows = bench.rowsWritten(by: "A").compactMap { bench.row($0) }
    check(
        rows, is: [Row(ringStart: start, ringUnits: 64, bell: 1, consumed: 0, seen: 0)],
        "and the row rings for it, since nobody looks into a ring that was silent")
    bench.run(bench.timing.longestPause)
    check(bench.ends["B"]!.received, is: [[1, 2, 3]], "it arrives within the pause of an idle host")
    bench.send([[4]], from: "A")
    check(bench.rowsWritten(by: "A").count, is: 2, "who was silent for 10 ms rings again")
    bench.send([[5]], from: "A")
    check(bench.rowsWritten(by: "A").count, is: 2, "who was not does not")
    bench.run(bench.timing.longestPause)
    check(bench.ends["B"]!.received, is: [[1, 2, 3], [4], [5]], "all arrives in order, once")
}

private func batchCases() throws {
    var bench = try RingBench()
    bench.holdsWrites = true
    for number in 0..<10 { bench.send([[UInt8(number)]], from: "A") }
    check(bench.held.count, is: 4, "four writes are under way at most")
    let first = bench.held.removeFirst()
    bench.finish(first)
    bench.perform("A")
    let gathered = bench.held.last.map { bench.blocks($0).map(\.content.payload) }
    check(gathered, is: (4..<10).map { [UInt8($0)] }, "what came in the meantime goes in one write")
    bench.holdsWrites = false
    // In whatever order they end.
    while let last = bench.held.popLast() { bench.finish(last) }
    bench.run(bench.timing.longestPause)
    check(
        bench.ends["B"]!.received, is: (0..<10).map { [UInt8($0)] },
        "blocks whose writes land in the reverse order are taken in their own")

    for (ring, units) in [(UInt64(64), 16), (1024, 256), (4096, 256)] {
        var bench = try RingBench(ringUnits: ring)
        bench.holdsWrites = true
        bench.send([noise(3 << 20)], from: "A")
        check(
            bench.held.map { $0.bytes!.count / unitSize }.max(), is: units,
            "a write into a ring of \(ring) units has \(units) units at most")
        let largest = bench.held.flatMap { bench.blocks($0) }.map { DataBlock.units(payload: $0.content.payload.count) }
        check(largest.max(), is: min(units, 64), "and a block \(min(units, 64))")
        check(bench.held.allSatisfy { $0.bytes!.count <= 1 << 20 }, "never more than 1 MiB")
    }

    bench = try RingBench()
    let large = noise(1 << 20)
    bench.send([[7]], from: "A")
    bench.ends["B"]!.isPaused = true
    bench.send([large], from: "A")
    bench.run(50 * bench.millisecond)
    let positions = bench.blocksWritten(by: "A").flatMap { bench.blocks($0) }
    let end = positions.map { $0.position + UInt64(DataBlock.units(payload: $0.content.payload.count)) }.max()
    check(
        end, is: 49, "a writer goes no further than one ring, and leaves less than a quarter of it rather than fill it")
    bench.ends["B"]!.isPaused = false
    bench.run(bench.timing.timeout)
    check(
        bench.ends["B"]!.received.dropFirst().flatMap(\.self) == large, "a payload larger than the ring arrives whole")
    let crosses = bench.blocksWritten(by: "A").contains {
        let start = $0.unit - bench.geometry.ring(from: 0, to: 1, generation: 1)
        return start + UInt64($0.bytes!.count / unitSize) > 64
    }
    check(!crosses, "and no write crosses the ring's end")
}

private func rewriteCases() throws {
    var bench = try RingBench()
    bench.ends["B"]!.isPaused = true
    bench.send([[1], [2]], from: "A")
    bench.run(3500 * bench.millisecond)
    let written = bench.blocksWritten(by: "A")
    let times = written.map { ($0.time - written[0].time + bench.millisecond / 2) / bench.millisecond }
    check(
        times, is: [0, 100, 300, 700, 1500, 3100], "what is not taken is written again after 100 ms, 200 ms and so on")
    let contents = written.map { bench.blocks($0) }
    check(
        contents.allSatisfy { $0.map(\.content.payload) == [[1], [2]] && $0.map(\.position) == [0, 1] },
        "the same payloads at the same positions")
    let counts = contents.flatMap { $0.map(\.count) }
    check(counts == Array(1...12), "each with a write count of its own", saw: "\(counts)")
    let bells = bench.rowsWritten(by: "A").compactMap { bench.row($0)?.bell }
    check(bells, is: [2, 2, 2, 2, 2, 2], "with the bell each time")
    bench.run(8000 * bench.millisecond - 3500 * bench.millisecond)
    let later = bench.blocksWritten(by: "A").map(\.time)
    check(
        zip(later, later.dropFirst()).allSatisfy { $1 - $0 <= 2 * bench.timing.timeout + bench.millisecond },
        "and at least every two T")

    bench = try RingBench()
    bench.ends["B"]!.isPaused = true
    bench.send([[1]], from: "A")
    bench.run(1500 * bench.millisecond)
    bench.ends["B"]!.isPaused = false
    bench.run(1000 * bench.millisecond)
    bench.ends["B"]!.isPaused = true
    bench.log = []
    bench.send([[2]], from: "A")
    bench.run(150 * bench.millisecond)
    check(bench.blocksWritten(by: "A").count, is: 2, "after 100 ms again, once the reader took something")
}

private func failedWriteCases() throws {
    var bench = try RingBench()
    bench.holdsWrites = true
    bench.send([[1]], from: "A")
    bench.run(1000 * bench.millisecond)
    check(bench.held.count, is: 1, "what is still being written is not written a second time")
    bench.finish(bench.held.removeFirst(), fails: true)
    bench.run(bench.timing.retry)
    check(bench.held.count, is: 1, "a write that failed is tried again")
    bench.finish(bench.held.removeFirst(), isLost: true)
    bench.run(bench.timing.retry)
    bench.holdsWrites = false
    for asked in bench.held { bench.finish(asked) }
    bench.run(bench.timing.longestPause)
    check(bench.ends["B"]!.received, is: [[1]], "and one that was lost as well")
}

/// The rewrite of a block that its reader takes meanwhile.
private func rewrittenUnitCases() throws {
    var bench = try RingBench()
    bench.ends["B"]!.isPaused = true
    bench.send([[1]], from: "A")
    bench.run(90 * bench.millisecond)
    bench.holdsWrites = true
    bench.run(20 * bench.millisecond)
    bench.holdsWrites = false
    bench.ends["B"]!.isPaused = false
    for number in 2...80 {
        bench.send([[UInt8(number)]], from: "A")
        bench.run(20 * bench.millisecond)
    }
    let rewritten = bench.held.removeFirst()
    let reused = bench.blocksWritten(by: "A").filter { $0.unit == rewritten.unit }
    check(reused.count, is: 2, "a unit is not used again while the block before is being written there")
    bench.finish(rewritten)
    bench.perform("A")
    bench.run(bench.timing.timeout)
    check(bench.ends["B"]!.received, is: (1...80).map { [UInt8($0)] }, "but then it is")
}

/// A late write of an older lap.
private func lateWriteCases() throws {
    var bench = try RingBench()
    bench.send([[1]], from: "A")
    bench.run(50 * bench.millisecond)
    let old = bench.blocksWritten(by: "A")[0]
    bench.ends["B"]!.isPaused = true
    for number in 2...70 { bench.send([[UInt8(number)]], from: "A") }
    bench.run(5 * bench.millisecond)
    bench.ends["B"]!.isPaused = false
    bench.run(100 * bench.millisecond)
    bench.ends["B"]!.isPaused = true
    bench.send([[71]], from: "A")
    let place = bench.blocksWritten(by: "A").last!.unit
    bench.store(old.bytes!, at: place)
    bench.ends["B"]!.isPaused = false
    bench.run(300 * bench.millisecond)
    check(
        bench.ends["B"]!.received, is: (1...71).map { [UInt8($0)] },
        "an older block that lands late over a newer one is not taken for it, and the newer comes again")
}

private func arrivalCases() throws {
    var bench = try RingBench()
    bench.holdsWrites = true
    bench.send([noise(50_000)], from: "A")
    let write = bench.held.removeFirst()
    let torn = Array(write.bytes![..<(5 * unitSize + 512)]) + [UInt8](repeating: 0, count: unitSize - 512)
    bench.store(torn, at: write.unit)
    bench.run(30 * bench.millisecond)
    check(bench.ends["B"]!.received, is: [], "a block of which a part is there is not there")
    bench.store(write.bytes!, at: write.unit)
    bench.run(30 * bench.millisecond)
    check(bench.ends["B"]!.received, is: [noise(50_000)], "until all of it is")
    let sizes = bench.reads(by: "B").filter { bench.isData($0) }.compactMap { asked -> Int? in
        if case .read(_, let count) = asked.action.operation { count } else { nil }
    }
    check(sizes.contains(DataBlock.units(payload: 50_000)), "it is read as a whole once its first unit says its size")
}

private func acknowledgementCases() throws {
    var bench = try RingBench()
    bench.send([[1]], from: "A")
    bench.run(bench.timing.longestPause)
    bench.run(bench.timing.acknowledgement)
    var told = bench.rowsWritten(by: "B").compactMap { bench.row($0)?.consumed }
    check(told, is: [1], "within 5 ms a reader says in its row what it took")
    bench.run(bench.timing.longestPause)
    check(bench.ends["A"]!.host.flow(to: 1)?.consumed, is: 1, "so its writer knows")

    bench.log = []
    bench.send([[2]], from: "A")
    while bench.ends["B"]!.received.count < 2 { bench.run(bench.millisecond / 10) }
    bench.send([[9]], from: "B")
    bench.run(bench.timing.longestPause)
    check(
        bench.blocksWritten(by: "B").flatMap { bench.blocks($0) }.map(\.content.consumed), is: [2],
        "a block of its own says it as well")
    told = bench.rowsWritten(by: "B").compactMap { bench.row($0) }.filter { $0.bell == 0 }.map(\.consumed)
    check(told, is: [], "and no row is written for it")

    bench = try RingBench()
    bench.send([[0]], from: "A")
    bench.run(bench.timing.longestPause)
    bench.log = []
    bench.send([noise(100_000)], from: "A")
    while bench.ends["B"]!.received.count < 2 { bench.run(bench.millisecond / 20) }
    let arrival = bench.now
    while bench.rowsWritten(by: "B").isEmpty { bench.run(bench.millisecond / 20) }
    check(bench.now - arrival < bench.timing.acknowledgement / 2, "a quarter of a ring is told of at once")

    // The row with the cursor is lost: the writer's next one says that it doesn't know.
    bench = try RingBench()
    bench.send([[1]], from: "A")
    bench.run(bench.millisecond / 10)
    bench.ends["A"]!.isPaused = true
    bench.run(bench.timing.longestPause)
    bench.units[bench.rowsWritten(by: "B")[0].unit] = nil
    bench.ends["A"]!.isPaused = false
    bench.run(500 * bench.millisecond)
    check(bench.ends["A"]!.host.flow(to: 1)?.consumed, is: 1, "a cursor whose row was lost is told once more")

    // A block goes out while a row without the bell is being written, and then one that needs none.
    bench = try RingBench()
    bench.send([[1]], from: "B")
    while bench.rowsWritten(by: "A").isEmpty { bench.run(bench.millisecond / 1000) }
    bench.send([[2]], from: "A")
    bench.send([[3]], from: "A")
    bench.run(bench.millisecond)
    check(
        bench.rowsWritten(by: "A").compactMap { bench.row($0)?.bell }, is: [0, 2],
        "a bell waits for the row's last write")
}

private func pollingCases() throws {
    var bench = try RingBench()
    bench.run(bench.timing.timeout)
    bench.log = []
    bench.run(bench.timing.timeout)
    let idle = bench.reads(by: "B")
    check(!idle.contains { bench.isData($0) }, "an idle host reads no rings")
    let rows = idle.filter { bench.isRow($0) }.count
    check(rows >= 45 && rows <= 51, "and its row every 20 ms", saw: "\(rows)")
    check(
        idle.filter { bench.isRow($0) }.allSatisfy {
            $0.action.operation == .read(unit: bench.geometry.row(of: 1, from: 0), count: 2)
        },
        "all of it in one read")
    bench.send([[1]], from: "A")
    bench.run(bench.timing.longestPause)
    bench.log = []
    bench.run(bench.timing.active / 2)
    check(
        bench.reads(by: "B").contains { bench.isData($0) }, "who got something looks into the ring for a while")
    bench.rowsFail = true
    bench.log = []
    bench.run(bench.timing.timeout)
    let failed = bench.reads(by: "B").filter { bench.isRow($0) }.count
    check(failed >= 3 && failed <= 5, "after a read that failed a host waits T / 4", saw: "\(failed)")
    bench.rowsFail = false
    bench.send([[2]], from: "B")
    bench.run(bench.timing.timeout)
    bench.log = []
    bench.send([[3]], from: "A")
    bench.run(bench.millisecond)
    check(bench.reads(by: "A").contains { bench.isData($0) }, "who sends looks there for the answer")
    bench.run(bench.timing.active * 3)
    bench.log = []
    bench.run(bench.timing.active)
    check(!bench.reads(by: "B").contains { bench.isData($0) }, "and then no more")
}

private func endCases() throws {
    var bench = try RingBench()
    bench.send([[1]], from: "A")
    bench.run(bench.timing.longestPause)
    bench.holdsWrites = true
    bench.send([[2], [3]], from: "A")
    // B is another one from now on; what A had under way for the old one is still so.
    bench.start("B", incarnation: 3)
    bench.run(8 * bench.timing.timeout)
    bench.send([[7]], from: "A")
    check(bench.held.count, is: 1, "the units of a ring are not used anew while an older write to them is under way")
    bench.holdsWrites = false
    bench.finish(bench.held.removeFirst())
    bench.run(bench.timing.timeout)
    check(bench.ends["B"]!.received, is: [[7]], "a new incarnation is sent nothing that was for the old one")
    let last = bench.blocksWritten(by: "A").last!
    check(bench.blocks(last).map(\.position), is: [0], "its ring begins anew")

    bench.log = []
    bench.now += bench.timing.fence + bench.timing.timeout
    bench.send([[8]], from: "A")
    check(bench.ends["A"]!.isGone, "a host that comes too late to its lease is fenced")
    check(bench.log.filter { $0.name == "A" }.isEmpty, "and writes nothing more")
    check(bench.ends["A"]!.outbox.payloads, is: [[8]], "nor takes a payload")
    check(!bench.ends["A"]!.host.holds(at: bench.now), "nor reports anything")

    bench = try RingBench()
    var (host, outbox) = (bench.ends["A"]!.host, RingBench.Outbox(payloads: [[1]]))
    host.send(from: &outbox, at: bench.now)
    host.advance(at: bench.now + bench.timing.fence + bench.timing.timeout)
    check(host.takeActions(), is: [], "what a fenced host asked for and nobody did is not to be done any more")

    bench = try RingBench()
    bench.send([[1]], from: "A")
    bench.ends["B"]!.host.stop(at: bench.now)
    bench.perform("B")
    bench.run(2 * bench.timing.timeout)
    check(bench.ends["B"]!.isGone && bench.ends["B"]!.received.isEmpty, "who was stopped takes nothing more")
    check(bench.ends["A"]!.host.flow(to: 1) == nil, "and the other keeps nothing for it")
}
