import MediumKit
import SkeinConduit

// Who comes next.

func fairnessTests() {
    for room in [4032, 65_536, 262_144] {
        var pair = Pair()
        let bulk = (0..<20).map { _ in pair.filament() }
        let small = pair.filament()
        var longest = 0
        var arrived = [Int](repeating: 0, count: bulk.count)
        for round in 0..<300 {
            for filament in bulk { _ = pair.near.send(filament, noise(65_536)) }
            var waited = 0
            if round % 3 == 0 {
                _ = pair.near.send(small, noise(100))
                while (try? pair.far.readable(small)) == 0 && waited < 100 {
                    pair.exchange(room)
                    waited += 1
                }
                _ = pair.far.received(small)
            }
            longest = max(longest, waited)
            pair.exchange(room)
            for (index, filament) in bulk.enumerated() { arrived[index] += pair.far.received(filament).count }
        }
        check(longest, is: 1, "beside 20 bulk filaments a small message goes with the next block of \(room) bytes")
        let spread = (arrived.max() ?? 0) - (arrived.min() ?? 0)
        check(
            spread <= 2 * 16_384 + 4096, "and the bulk ones share alike, a turn more or less",
            saw: "\(arrived.min() ?? 0) to \(arrived.max() ?? 0)")
    }
    floodTests()
    fullBlockTests()
    reuseTests()
}

private func reuseTests() {
    var pair = Pair()
    let filaments = (0..<20).map { _ in pair.filament() }
    for filament in filaments { _ = pair.near.send(filament, noise(16_384)) }
    pair.exchange(4032)
    try? pair.near.reset(filaments[19], error: 104)
    for _ in 0..<2 { pair.exchange(4032) }
    guard let again = try? pair.near.open(kind: 1, address: []) else { return check(false, "a number is free") }
    check(again.wire, is: filaments[19].wire, "a number is free while its filament's turn is still to come")
    _ = pair.near.send(again, noise(100))
    pair.exchange(4032)
    try? pair.far.accept(again)
    check(try? pair.far.readable(again), is: 100, "and its next filament doesn't wait for that")
}

private func floodTests() {
    var pair = Pair()
    let talkers = (0..<500).map { _ in pair.filament() }
    let bulk = pair.filament()
    var bytes = 0
    var all = 0
    for _ in 0..<100 {
        for talker in talkers where (try? pair.near.unacknowledged(talker)) == 0 {
            _ = pair.near.send(talker, noise(1000))
        }
        _ = pair.near.send(bulk, noise(262_144))
        let before = (try? pair.near.unacknowledged(bulk)) ?? 0
        let block = pair.near.block(65_536)
        _ = pair.far.receive(block)
        for talker in talkers { _ = pair.far.received(talker) }
        _ = pair.far.received(bulk)
        _ = pair.near.receive(pair.far.block(1024 * 1024))
        bytes += before - ((try? pair.near.unacknowledged(bulk)) ?? 0)
        all += block.count
    }
    check(
        bytes * 6 >= all, "beside 500 that only send small messages bulk data gets its sixth", saw: "\(bytes) of \(all)"
    )
}

private func fullBlockTests() {
    var pair = Pair()
    let filaments = (0..<20).map { _ in pair.filament() }
    for filament in filaments { _ = pair.near.send(filament, noise(16_384)) }
    var emptiest = 0
    for room in stride(from: 4032, to: 40_000, by: 777) where pair.near.queued.outgoing > room {
        let block = pair.near.block(room)
        emptiest = max(emptiest, room - block.count)
        _ = pair.far.receive(block)
    }
    check(emptiest < 24 + 512, "as long as there is data, a block is filled up", saw: "\(emptiest) bytes left")
}
