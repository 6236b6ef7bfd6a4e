import MediumKit
import SkeinMedium

// Several reads of a ring under way.

func overlapCases() throws {
    for (what, order) in [("in their order", [0, 1, 2, 3]), ("in the reverse order", [3, 2, 1, 0])] {
        var bench = try prepared(blockUnits: 64)
        let held = bench.held
        check(held.count, is: 4, "four reads are under way at most where the writer is ahead")
        check(
            zip(held, held.dropFirst()).allSatisfy { $0.unit + UInt64(bench.count($0)) == $1.unit },
            "of consecutive units")
        check(held.allSatisfy { bench.count($0) == 128 }, "of 512 KiB each")
        let before = bench.ends["B"]!.received.count
        bench.held = []
        for index in order {
            bench.finish(held[index])
            bench.perform("B")
            let taken = bench.ends["B"]!.received.count - before
            check(index == 0 || order[0] == 0 || taken == 0, "nothing is taken before the oldest has ended")
        }
        try judge(&bench, "what comes by reads that end \(what) is taken once, as it was sent")
    }
    for index in 0..<4 {
        var bench = try prepared(blockUnits: 64)
        let held = bench.held
        bench.held = []
        for number in (0..<4).reversed() { bench.finish(held[number], fails: number == index) }
        try judge(&bench, "where read \(index) of four fails, all comes once, as it was sent")
    }
    try sharedBlockCases()
    try loneCases()
}

/// Blocks that begin in one read and end in the next.
private func sharedBlockCases() throws {
    var bench = try prepared(blockUnits: 50)
    try judge(&bench, "blocks that two reads share are put together")
    let written = bench.blocksWritten(by: "A").reduce(0) { $0 + $1.bytes!.count / unitSize }
    let read = bench.reads(by: "B").filter { bench.isData($0) }.reduce(0) { $0 + bench.count($1) }
    check(read < written + 1024, "and not read again for that", saw: "\(read) units read, \(written) written")

    bench = try prepared(blockUnits: 50)
    var held = bench.held
    bench.held = []
    // The first unit of the second read is the middle of a block, and not yet what it will be.
    let place = held[1].unit
    let unit = bench.units[place]
    bench.units[place] = noise(unitSize)
    while !held.isEmpty { bench.finish(held.removeFirst()) }
    bench.perform("B")
    bench.run(bench.millisecond)
    let taken = bench.ends["B"]!.received.flatMap(\.self)
    let end = Int(place - bench.geometry.ring(from: 0, to: 1, generation: 1)) * unitSize
    check(
        taken.count < end && taken == Array(noise(size).prefix(taken.count)),
        "a block of which the second read shows something else isn't taken", saw: "\(taken.count) of \(end)")
    bench.units[place] = unit
    try judge(&bench, "until it is what it should be")
}

/// One who waits for small messages reads no further.
private func loneCases() throws {
    var bench = try RingBench()
    for number in 1...40 {
        bench.send([[UInt8(number)]], from: "A")
        while bench.ends["B"]!.received.count < number { bench.run(bench.millisecond / 10) }
    }
    let sizes = bench.reads(by: "B").filter { bench.isData($0) }.map { bench.count($0) }
    check(sizes.allSatisfy { $0 <= 2 }, "where small messages come one by one, two units are read at most")
    bench.holdsReads = true
    bench.send([[41]], from: "A")
    bench.run(bench.millisecond)
    check(bench.held.count, is: 1, "by one read at a time")
}

private let size = 6 << 20

/// B reads a stream of A's that is ahead of it: four reads are under way, and held.
private func prepared(blockUnits: Int) throws -> RingBench {
    var bench = try RingBench(ringUnits: 2048)
    bench.ends["B"]!.isPaused = true
    let stream = noise(size)
    let room = DataBlock.room(units: blockUnits)
    bench.send(stride(from: 0, to: size, by: room).map { Array(stream[$0..<min($0 + room, size)]) }, from: "A")
    bench.run(20 * bench.millisecond)
    bench.ends["B"]!.isPaused = false
    bench.holdsReads = true
    for _ in 0..<20 where bench.held.count < 4 {
        for asked in bench.held.indices.map({ _ in bench.held.removeFirst() }) { bench.finish(asked) }
        bench.perform("B")
        bench.run(bench.millisecond)
    }
    return bench
}

/// Nothing is held any more: all arrives.
private func judge(_ bench: inout RingBench, _ what: String) throws {
    bench.holdsReads = false
    for asked in bench.held.indices.map({ _ in bench.held.removeFirst() }) { bench.finish(asked) }
    bench.perform("B")
    bench.run(3 * bench.timing.timeout)
    check(bench.ends["B"]!.received.flatMap(\.self) == noise(size), what)
    check(bench.ends["A"]!.host.flow(to: 1)?.consumed, is: bench.ends["A"]!.host.flow(to: 1)?.made, "and A knows")
}

extension RingBench {
    /// Units of a read.
    fileprivate func count(_ asked: Asked) -> Int {
        if case .read(_, let count) = asked.action.operation { count } else { 0 }
    }
}
