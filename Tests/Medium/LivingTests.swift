import MediumKit
import SkeinMedium

// How an incarnation keeps its slot, learns who else lives, and ends.

func livingTests() throws {
    try verdictCases()
    try carefulVerdictCases()
    try fenceCases()
    try stopCases()
}

/// Hosts `one`, `two` and so on, with incarnations 1, 2 and so on, who know each other.
private func members(_ count: Int) throws -> LeaseBench {
    var bench = try LeaseBench(hosts: 4)
    let names = ["one", "two", "three"].prefix(count)
    for (index, name) in names.enumerated() {
        bench.start(name, incarnation: UInt8(index + 1))
        _ = bench.run { $0.members[name]!.isJoined }
    }
    _ = bench.run { bench in names.allSatisfy { bench.members[$0]!.peers.count == count - 1 } }
    return bench
}

private func verdictCases() throws {
    var bench = try members(3)
    bench.members["three"]!.isPaused = true
    let time = bench.run { $0.members["one"]!.peers == [pattern(2)] }
    check(
        time >= 5 * bench.period, "nobody is judged dead whose lease did not change for less than six T", saw: "\(time)"
    )
    check(time <= bench.timing.dead, "and everybody is within the dead time", saw: "\(time)")
    _ = bench.run { $0.members["two"]!.peers == [pattern(1)] }
    check(bench.members["two"]!.peers, is: [pattern(1)], "the others know it as well")
    bench.members["three"]!.isPaused = false
    bench.run(bench.period)
    check(bench.members["three"]!.end, is: .lost, "who was away for so long fences itself before all else")

    // Paused for less than the fence, and judged by somebody whose clock runs faster.
    bench = try members(2)
    let verdict = Lease.Verdict(host: 1, incarnation: pattern(2))
    bench.members["one"]!.isPaused = true
    bench.put(0, name: "one", incarnation: 1, count: 1000, verdicts: [verdict])
    bench.run(2 * bench.period)
    check(bench.members["two"]!.end, is: .judgedDead(by: 0), "who reads a verdict about itself is fenced")

    bench = try members(3)
    bench.members["one"]!.isPaused = true
    bench.put(0, name: "one", incarnation: 1, count: 1000, verdicts: [verdict])
    bench.members["two"]!.isPaused = true
    bench.run(2 * bench.period)
    check(bench.members["three"]!.peers, is: [pattern(1)], "a verdict of a host that lives is everybody's")
}

private func carefulVerdictCases() throws {
    var bench = try members(2)
    bench.members["two"]!.isPaused = true
    bench.run(5 * bench.period)
    bench.members["one"]!.writesAreLost = true
    bench.run(3 * bench.period)
    check(bench.members["one"]!.peers, is: [pattern(2)], "a verdict that is not read back counts for nothing")

    bench = try members(2)
    bench.members["one"]!.isPaused = true
    bench.members["two"]!.isPaused = true
    bench.now += 3 * bench.period
    bench.members["one"]!.isPaused = false
    bench.run(3 * bench.period)
    check(
        bench.members["one"]!.peers, is: [pattern(2)], "time in which a host did not look is none in which it watched")
    bench.run(bench.timing.dead)
    check(bench.members["one"]!.peers, is: [], "then it watches anew")

    // An older count is a stale read; another incarnation of no higher generation is a late write.
    bench = try members(2)
    bench.members["two"]!.isPaused = true
    bench.put(1, name: "two", generation: 1, incarnation: 7, count: 1000)
    bench.run(2 * bench.period)
    check(bench.members["one"]!.peers, is: [pattern(2)], "a late write of another incarnation is no news of a slot")
    bench.put(1, name: "two", generation: 2, incarnation: 7)
    bench.run(2 * bench.period)
    check(bench.members["one"]!.peers, is: [pattern(7)], "one of a higher generation has taken the slot")
    bench.put(1, name: "two", state: .stopped, generation: 2, incarnation: 7, count: 2)
    bench.run(2 * bench.period)
    check(bench.members["one"]!.peers, is: [], "a lease that says stopped is believed at once")
    bench.put(1, name: "two", generation: 1, incarnation: 2, count: 2000)
    bench.run(2 * bench.period)
    check(bench.members["one"]!.peers, is: [], "who was reported gone never lives again, whatever lands late")
    bench.put(1, name: "two", generation: 2, incarnation: 8)
    bench.run(2 * bench.period)
    check(bench.members["one"]!.peers, is: [pattern(8)], "but another incarnation of its slot does")
}

private func fenceCases() throws {
    for (what, fault) in [("read", \LeaseBench.Member.readsFail), ("written", \.writesFail), ("kept", \.writesAreLost)]
    {
        var bench = try members(1)
        bench.members["one"]![keyPath: fault] = true
        let time = bench.run { $0.members["one"]!.end != nil }
        check(bench.members["one"]!.end, is: .lost, "a host whose lease can't be \(what) fences itself")
        check(
            time >= 2 * bench.period && time <= bench.timing.fence + bench.period / 50, "within four T", saw: "\(time)")
        check(!bench.members["one"]!.machine.holds(at: bench.now), "and reports nothing any more")
    }
    var bench = try members(1)
    let late = bench.now + bench.timing.fence + 1
    check(!bench.members["one"]!.machine.holds(at: late), "a clock that jumped ends it before anybody looks")
    bench.put(0, name: "one", generation: 2, incarnation: 7)
    bench.run(2 * bench.period)
    check(bench.members["one"]!.end, is: .replaced, "who finds another incarnation in its slot is fenced")
    check(bench.lease(0)?.writer, is: pattern(7), "and leaves it alone")
}

private func stopCases() throws {
    var bench = try members(2)
    bench.members["two"]!.machine.stop(at: bench.now)
    bench.run(2 * bench.period)
    check(bench.members["two"]!.end, is: .stopped, "a host that is stopped ends")
    check(bench.lease(1)?.lease.state, is: .stopped, "its lease says so")
    check(bench.members["one"]!.peers, is: [], "and the others know it within two T")
    bench.start("three", incarnation: 3)
    bench.run(0)
    bench.members["three"]!.machine.stop(at: bench.now)
    bench.perform("three")
    check(bench.members["three"]!.end, is: .stopped, "who has no slot yet just ends")
}
