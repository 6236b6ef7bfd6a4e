import Glibc
import MediumKit
import SkeinConduit

// Many filaments on one conduit, what they cost, and how fast frames are.

/// Bytes of memory that the process has touched.
private func resident() -> Int {
    let descriptor = unsafe open("/proc/self/statm", O_RDONLY)
    defer { close(descriptor) }
    let text = unsafe String(unsafeUninitializedCapacity: 100) { unsafe max(0, read(descriptor, $0.baseAddress, 100)) }
    return (Int(text.split(separator: " ")[1]) ?? 0) * 4096
}

/// To be called first: memory that other tests have given back would be used again.
func idleTests() {
    let count = 10_000
    let before = resident()
    var limits = Conduit.Limits()
    limits.backlog = count
    var pair = Pair(near: limits, far: limits)
    let filaments = (0..<count).compactMap { _ in try? pair.near.open(kind: 1, address: Array("host:port".utf8)) }
    pair.settle()
    for filament in filaments { try? pair.far.accept(filament) }
    pair.settle()
    var isWhole = true
    for round in 0..<3 {
        for filament in filaments {
            _ = pair.near.send(filament, [UInt8](repeating: UInt8(round), count: 64))
            _ = pair.far.send(filament, [UInt8](repeating: UInt8(round), count: 64))
        }
        pair.settle()
        for filament in filaments {
            isWhole = pair.near.received(filament).count == 64 && isWhole
            isWhole = pair.far.received(filament).count == 64 && isWhole
        }
        pair.settle()
        _ = pair.near.takeEvents()
        _ = pair.far.takeEvents()
    }
    check(isWhole && pair.near.count == count, "10,000 filaments talk on one conduit, both ways")
    let each = (resident() - before) / (2 * count)
    print("# an idle filament takes \(each) bytes at each end")
    check(each <= 2048, "an idle filament takes at most 2 KiB at each end", saw: "\(each)")
    for filament in filaments { try? pair.near.close(filament) }
    pair.settle()
    for filament in filaments { try? pair.far.close(filament) }
    pair.settle()
    check([pair.near.count, pair.far.count], is: [0, 0], "and all of them close")
}

private func seconds() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Figures to look at: nothing is asserted about time.
func speedTests() {
    let piece = noise(65_536)
    for count in [1, 20] {
        var pair = Pair()
        let filaments = (0..<count).map { _ in pair.filament() }
        var block = [UInt8](repeating: 0, count: 256 * 1024)
        var buffer = [UInt8](repeating: 0, count: 256 * 1024)
        var moved = 0
        let start = seconds()
        while moved < 1 << 30 {
            for filament in filaments { while pair.near.send(filament, piece) == piece.count {} }
            move(&pair.near, &pair.far, &block)
            for filament in filaments { moved += readOnce(&pair.far, filament, &buffer) }
            move(&pair.far, &pair.near, &block)
            _ = pair.far.takeEvents()
            _ = pair.near.takeEvents()
        }
        let rate = Double(moved) / (seconds() - start) / 1e9
        print("# \(count) filaments: \((rate * 100).rounded() / 100) GB/s through two conduits in memory")
    }
    var pair = Pair()
    let filaments = (0..<100).map { _ in pair.filament() }
    let message = noise(64)
    var block = [UInt8](repeating: 0, count: 256 * 1024)
    var buffer = [UInt8](repeating: 0, count: 64)
    var frames = 0
    let start = seconds()
    while frames < 1_000_000 {
        for filament in filaments { _ = pair.near.send(filament, message) }
        move(&pair.near, &pair.far, &block)
        for filament in filaments where readOnce(&pair.far, filament, &buffer) == 64 { frames += 1 }
        move(&pair.far, &pair.near, &block)
        _ = pair.far.takeEvents()
        _ = pair.near.takeEvents()
    }
    let rate = (Double(frames) / (seconds() - start) / 1e5).rounded() / 10
    print("# messages of 64 bytes: \(rate) millions a second, each with its credit")
    pair.settle()
    let left = filaments.reduce(0) { $0 + ((try? pair.near.unacknowledged($1)) ?? 1) }
    check(left, is: 0, "a million small messages go through, and all are acknowledged")
}

/// A block from one end to the other, without an array of its own.
private func move(_ from: inout Conduit, _ to: inout Conduit, _ block: inout [UInt8]) {
    var span = block.mutableSpan
    var bytes = unsafe span.mutableBytes
    let count = from.fill(&bytes)
    try? unsafe to.take(block.span.bytes.extracting(first: count))
}

private func readOnce(_ conduit: inout Conduit, _ filament: FilamentNumber, _ buffer: inout [UInt8]) -> Int {
    var span = buffer.mutableSpan
    var bytes = unsafe span.mutableBytes
    return (try? conduit.read(filament, into: &bytes)) ?? 0
}
