import MediumKit
import SkeinConduit
import SkeinGroup
import SkeinMedium

// A host of a group: its conduits come and go with the other hosts, and their frames go over the medium.

func groupTests() {
    do {
        try streamTests()
        try departureTests()
        try strangerTests()
    } catch {
        check(false, "hosts come to a medium", saw: "\(error)")
    }
}

private func streamTests() throws {
    var bench = try GroupBench()
    let a = bench.member("a", 1)
    check(a.host.isMember, "a host alone is a member")
    check(try a.host.open(to: "b", kind: 1, address: []) == nil, "and reaches nobody")
    let b = bench.member("b", 2)
    guard let near = try a.host.open(to: "b", kind: 7, address: [1, 2]) else { return check(false, "it reaches b") }
    // Who is at rest looks every 20 milliseconds.
    bench.run(25)
    guard case .filament(let link, let host, .opened(let number, 7, [1, 2])) = b.events.last else {
        return check(false, "b is offered what a opens", saw: "\(b.events)")
    }
    let far = GroupFilament(link: link, host: host, number: number)
    check(b.host.peer(of: far), is: "a", "b knows whose it is")
    check(b.host.perform(far) { c, n throws(FilamentFault) in try c.accept(n) } == nil, "b accepts it")
    let sent = noise(5000)
    check(try a.host.with(near) { c, n throws(FilamentFault) in try c.write(n, sent) }, is: 5000, "a writes to it")
    bench.run(2)
    check(try b.host.with(far) { c, n in c.received(n) }, is: sent, "b has it two milliseconds later")
    check(a.filamentEvents().contains(.accepted(near.number)), "a knows that b has accepted")
    bench.run(10)
    check(
        try a.host.with(near) { c, n throws(FilamentFault) in try c.unacknowledged(n) }, is: 0,
        "and that b has read, though b has nothing to say")
}

private func departureTests() throws {
    var bench = try GroupBench()
    let a = bench.member("a", 1)
    let b = bench.member("b", 2)
    guard let first = try a.host.open(to: "b", kind: 1, address: []) else { return check(false, "a reaches b") }
    bench.run(25)
    (a.events, b.events) = ([], [])
    a.host.stop(at: bench.now)
    check(!a.host.isMember, "who has stopped is no member")
    bench.run(2000)
    check(
        a.filamentEvents(), is: [.reset(first.number, error: Conduit.ErrorNumber.connectionReset)],
        "its filaments are reset, once")
    guard b.events.count == 2, case .filament(_, _, .reset) = b.events[0], case .peerGone(_, "a") = b.events[1] else {
        return check(false, "the other host's are reset before it is told that a is gone", saw: "\(b.events)")
    }
    check(true, "the other host's are reset before it is told that a is gone")
    check(
        a.host.perform(first) { c, n throws(FilamentFault) in try c.end(n) }, is: .gone, "what is gone takes nothing")
    b.events = []
    let again = bench.member("a", 3)
    guard let second = try again.host.open(to: "b", kind: 1, address: []) else {
        return check(false, "a comes back, and reaches b")
    }
    check(
        second.number == first.number && again.host.peer(of: second) == "b",
        "a comes back, with numbers from the first on")
}

private func strangerTests() throws {
    var bench = try GroupBench()
    let b = bench.member("b", 1)
    let stranger = Stranger(
        MediumHost(bench.host("x", 2), on: bench.superblock, timing: bench.timing, seal: ChecksumSeal(), at: bench.now))
    bench.add(stranger)
    guard let filament = try b.host.open(to: "x", kind: 1, address: []) else { return check(false, "b knows x") }
    b.events = []
    stranger.payloads.all = [noise(100), noise(200), noise(300)]
    bench.run(50)
    let broken = b.events.filter { if case .peerBroken = $0 { true } else { false } }
    check(broken.count, is: 1, "who writes nonsense is ignored from then on, and told of once")
    check(
        b.filamentEvents(), is: [.reset(filament.number, error: Conduit.ErrorNumber.connectionReset)],
        "its filaments are reset")
    var fault: FilamentFault?
    do throws(FilamentFault) { _ = try b.host.open(to: "x", kind: 1, address: []) } catch { fault = error }
    check(fault, is: .gone, "and none can be opened to it")
}
