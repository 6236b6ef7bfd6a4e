import MediumKit
import SkeinMedium

// How an incarnation comes to its slot.

func joiningTests() throws {
    try emptyMediumCases()
    try returnCases()
    try refusalCases()
    try quarantineCases()
}

private func emptyMediumCases() throws {
    var bench = try LeaseBench()
    bench.start("one", incarnation: 1)
    bench.run(0)
    check(bench.lease(0)?.lease.state, is: .claiming, "the first host claims the lowest empty slot")
    let time = bench.run { $0.members["one"]!.isJoined }
    check(time >= 2 * bench.period, "and is no member before its claim stood for two T", saw: "\(time)")
    check(bench.members["one"]!.events, is: [.joined(slot: 0, generation: 1)], "its slot is of the first generation")
    check(bench.lease(0)?.lease.state, is: .alive, "its lease says so")
    bench.start("two", incarnation: 2)
    _ = bench.run { $0.members["two"]!.isJoined }
    bench.run(2 * bench.period)
    check(bench.members["two"]!.machine.slot, is: 1, "the next host takes the next slot")
    check(
        bench.members["one"]!.peers == [pattern(2)] && bench.members["two"]!.peers == [pattern(1)],
        "and each knows that the other lives")

    var race = try LeaseBench()
    race.start("one", incarnation: 1)
    race.start("two", incarnation: 2)
    _ = race.run { $0.members.values.allSatisfy(\.isJoined) }
    check(
        Set(race.members.values.compactMap(\.machine.slot)), is: [0, 1],
        "two that claim a slot at one moment end in different ones")

    var broken = try LeaseBench(hosts: 2)
    broken.units[broken.superblock.geometry.lease(of: 0)] = noise(unitSize)
    broken.put(1, name: "other", incarnation: 9)
    broken.start("one", incarnation: 1)
    broken.run(broken.timing.dead - broken.period)
    check(broken.lease(0) == nil, "a unit that proves nothing may be a lease that is being written: it is left alone")
    broken.run(2 * broken.period)
    check(broken.lease(0)?.writer, is: pattern(1), "one that stays so for a dead time is broken, and taken")
}

private func returnCases() throws {
    var bench = try LeaseBench()
    bench.put(1, name: "one", incarnation: 9)
    bench.start("one", incarnation: 1, gone: pattern(9))
    var time = bench.run { $0.members["one"]!.isJoined }
    check(
        bench.members["one"]!.events, is: [.joined(slot: 1, generation: 2)],
        "who knows that its last incarnation is gone takes its slot again, as the next generation")
    check(time < 4 * bench.period, "without watching it", saw: "\(time)")

    bench = try LeaseBench()
    bench.put(1, name: "one", state: .stopped, incarnation: 9)
    bench.start("one", incarnation: 1)
    time = bench.run { $0.members["one"]!.isJoined }
    check(time < 4 * bench.period, "nor is a lease watched that says that its host stopped", saw: "\(time)")

    bench = try LeaseBench()
    bench.put(1, name: "one", incarnation: 9)
    bench.start("one", incarnation: 1)
    time = bench.run { $0.members["one"]!.isJoined }
    check(
        time >= bench.timing.dead, "else the slot is taken after it was watched for a dead time", saw: "\(time)")

    // A late write left an older lease of the name in another slot.
    bench = try LeaseBench()
    bench.put(0, name: "one", incarnation: 8)
    bench.put(2, name: "one", incarnation: 9)
    bench.start("one", incarnation: 1, gone: pattern(9))
    time = bench.run { $0.members["one"]!.isJoined }
    check(bench.members["one"]!.machine.slot, is: 0, "of two slots with its name a host takes the lower")
    check(time >= bench.timing.dead, "once both leases are known to be of the dead")

    // A write of the last incarnation lands late.
    bench.put(0, name: "one", incarnation: 8, count: 99)
    bench.run(3 * bench.period)
    check(bench.members["one"]!.end == nil, "a late write of the incarnation before fences nobody")
    check(bench.lease(0)?.writer, is: pattern(1), "and is written over")
}

private func refusalCases() throws {
    var bench = try LeaseBench()
    bench.start("one", incarnation: 1)
    _ = bench.run { $0.members["one"]!.isJoined }
    bench.start("twin", name: "one", incarnation: 2)
    bench.run(3 * bench.period)
    check(bench.members["twin"]!.end, is: .nameTaken, "a name whose lease is renewed is taken")
    check(bench.members["one"]!.end == nil, "and who has it is not disturbed")

    bench.put(1, name: "two", state: .stopped, incarnation: 8)
    bench.put(2, name: "three", incarnation: 9)
    bench.start("four", incarnation: 4)
    bench.run(bench.period)
    check(
        bench.members["four"]!.end, is: .full(stopped: ["two"]),
        "where all slots are taken, those of hosts that stopped are named")

    // Two of one name take two empty slots: the claim of the second is for the slot that the first doesn't have.
    bench = try LeaseBench()
    bench.start("one", incarnation: 1)
    bench.run(0)
    bench.put(1, name: "one", state: .claiming, incarnation: 7)
    bench.run(3 * bench.period)
    check(bench.members["one"]!.isJoined, "of two claims with one name the one of the lower slot stays")
    bench = try LeaseBench()
    bench.start("one", incarnation: 1)
    bench.run(0)
    bench.put(1, name: "one", state: .alive, incarnation: 7)
    bench.run(3 * bench.period)
    check(bench.members["one"]!.end, is: .nameTaken, "unless the other one lives already")

    bench = try LeaseBench()
    bench.start("one", incarnation: 1)
    bench.run(0)
    bench.put(0, name: "other", incarnation: 7)
    _ = bench.run { $0.members["one"]!.isJoined }
    check(bench.members["one"]!.machine.slot, is: 1, "who finds another host's lease over its claim looks again")
}

private func quarantineCases() throws {
    // Generation 3 uses the data units of generation 1, which ended before generation 2 began.
    var bench = try LeaseBench()
    bench.put(0, name: "one", generation: 2, incarnation: 9, start: bench.now - 2 * bench.period)
    bench.start("one", incarnation: 1, gone: pattern(9))
    var time = bench.run { $0.lease(0)?.writer == pattern(1) }
    check(
        time >= bench.timing.dead - 2 * bench.period && time <= bench.timing.dead,
        "the data units of the incarnation before the last are used a dead time after its end", saw: "\(time)")
    bench = try LeaseBench()
    bench.put(0, name: "one", generation: 2, incarnation: 9, start: bench.now - 20 * bench.period)
    bench.start("one", incarnation: 1, gone: pattern(9))
    time = bench.run { $0.lease(0)?.writer == pattern(1) }
    check(time < bench.period, "which is at once where it ended long ago", saw: "\(time)")
    bench = try LeaseBench()
    bench.put(0, name: "one", generation: 2, incarnation: 9, start: bench.now - 20 * bench.period)
    bench.start("one", incarnation: 1, boot: pattern(0x88), gone: pattern(9))
    time = bench.run { $0.lease(0)?.writer == pattern(1) }
    check(time >= bench.timing.dead, "unless that was on another boot's clock", saw: "\(time)")
}
