import MediumKit
import SkeinConduit

// Who may send how much, and what is kept.

func creditTests() {
    windowTests()
    poolTests()
    acknowledgementTests()
}

private func windowTests() {
    var pair = Pair()
    let filament = pair.filament()
    _ = pair.near.send(filament, noise(100_000))
    pair.settle()
    check(pair.far.queued.incoming, is: 16_384, "to one who doesn't read, 16 KiB are sent")
    check(pair.near.queued.outgoing, is: 100_000 - 16_384, "the rest waits with the writer")

    for _ in 0..<200 {
        _ = pair.near.send(filament, noise(1000))
        pair.exchange()
        _ = pair.far.received(filament, 1000)
    }
    pair.settle()
    check(pair.far.queued.incoming <= 16_384, "the window of one who reads slower than that doesn't grow")

    for _ in 0..<100 {
        _ = pair.near.send(filament, noise(256 * 1024))
        pair.exchange()
        _ = pair.far.received(filament)
    }
    for _ in 0..<20 {
        _ = pair.near.send(filament, noise(256 * 1024))
        pair.settle()
    }
    check(pair.far.queued.incoming, is: 4096 * 1024, "that of one who keeps up grows, to 4 MiB")
}

private func poolTests() {
    var limits = Conduit.Limits()
    limits.receivePool = 1024 * 1024
    var pair = Pair(far: limits)
    let filaments = (0..<8).map { _ in pair.filament() }
    for _ in 0..<60 {
        for filament in filaments { _ = pair.near.send(filament, noise(128 * 1024)) }
        pair.exchange(1024 * 1024)
        for filament in filaments { _ = pair.far.received(filament) }
    }
    for _ in 0..<10 {
        for filament in filaments { _ = pair.near.send(filament, noise(256 * 1024)) }
        pair.settle()
    }
    let held = pair.far.queued.incoming
    check(
        held <= 1024 * 1024 + 8 * 16_384, "all that nobody reads stays within the pool and the minima", saw: "\(held)")
    check(held > 1024 * 1024, "and fills them", saw: "\(held)")
    let fresh = pair.filament()
    _ = pair.near.send(fresh, noise(16_384))
    pair.settle()
    check(try? pair.far.readable(fresh), is: 16_384, "a filament beside them has its minimum all the same")
    var moved = 0
    while pair.near.queued.outgoing > 0 && moved < 1000 {
        for filament in filaments + [fresh] { _ = pair.far.received(filament) }
        pair.exchange()
        moved += 1
    }
    check(pair.near.queued.outgoing, is: 0, "and when they are read again, all goes on")

    sharingTests()

    var meager = Conduit.Limits()
    meager.sendPool = 10_000
    var writer = Pair(near: meager)
    let one = writer.filament()
    let other = writer.filament()
    check(writer.near.send(one, noise(50_000)), is: 26_384, "a writer has its minimum and what is left of the pool")
    check(writer.near.send(other, noise(50_000)), is: 16_384, "and the next one its minimum")
}

private func sharingTests() {
    var limits = Conduit.Limits()
    limits.receivePool = 100_000
    var pair = Pair(far: limits)
    let first = pair.filament()
    let second = pair.filament()
    for _ in 0..<20 {
        for filament in [first, second] { _ = pair.near.send(filament, noise(40_000)) }
        pair.settle()
        for filament in [first, second] { _ = pair.far.received(filament) }
    }
    _ = pair.near.send(first, noise(256 * 1024))
    pair.settle()
    check(try? pair.far.readable(first), is: 116_384, "one that isn't read takes the whole pool, and its minimum")
    let third = pair.filament()
    for _ in 0..<20 {
        _ = pair.near.send(third, noise(16_384))
        pair.settle()
        _ = pair.far.received(third)
    }
    for filament in [second, third] { _ = pair.near.send(filament, noise(100_000)) }
    pair.settle()
    check(try? pair.far.readable(second), is: 16_384, "then others have their minimum")
    try? pair.near.reset(first, error: 104)
    pair.settle()
    check(try? pair.far.readable(second), is: 100_000, "and more as soon as the pool has it")
    check(try? pair.far.readable(third), is: 16_384, "but windows don't grow while the pool is full")
}

private func acknowledgementTests() {
    var pair = Pair()
    check(pair.near.demand == .now, "a new conduit has its own credit to send")
    let filament = pair.filament()
    check(pair.near.demand == .none && pair.far.demand == .none, "then nothing")
    _ = pair.near.send(filament, noise(300))
    check(try? pair.near.unacknowledged(filament), is: 300, "what is written is unacknowledged")
    check(pair.near.demand == .now, "and to be sent at once")
    pair.settle()
    check(try? pair.near.unacknowledged(filament), is: 300, "what the peer's host has got is unacknowledged still")
    _ = pair.far.received(filament, 100)
    check(pair.far.demand == .later, "what was read is said when there is an occasion")
    pair.settle()
    check(try? pair.near.unacknowledged(filament), is: 200, "what the peer's program has read is acknowledged")
    _ = pair.near.send(filament, noise(16_000))
    pair.settle()
    _ = pair.far.received(filament, 6000)
    check(pair.far.demand == .now, "at once where the writer may be waiting for it")
    pair.settle()
    try? pair.far.reset(filament, error: 104)
    pair.exchange()
    check(
        pair.near.fault { c throws(FilamentFault) in try c.unacknowledged(filament) }, is: .gone,
        "after a reset nothing more is acknowledged")
}
