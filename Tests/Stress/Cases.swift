import CSystem
import Glibc
import Synchronization

@testable import SkeinCore

// Stress of the core by threads of one process, for the thread sanitizer and the address sanitizer: rings that
// change their size, the doorbell, locks whose owners end, pools.

struct Dice {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func roll(_ below: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(below))
    }
}

func check(_ holds: Bool, _ sentence: String) {
    print("\(holds ? "ok" : "not ok") - \(sentence)")
    fflush(nil)
    if !holds { exit(1) }
}

/// A byte for each position of a stream: never the same at the two places of a ring that may be mixed up.
func byte(_ position: Int) -> UInt8 { UInt8(truncatingIfNeeded: position &* 31 &+ position >> 14) }

/// Writes a stream in pieces that make the ring grow and shrink.
func write(_ side: Side, _ total: Int, _ seed: UInt64) {
    var dice = Dice(seed)
    var position = 0
    while position < total {
        let size = min(total - position, dice.roll(50) == 0 ? dice.roll(400_000) + 1 : dice.roll(1500) + 1)
        let piece = (0..<size).map { byte(position + $0) }
        piece.withUnsafeBytes { side.send($0) }
        position += size
    }
    side.finish()
}

/// Whether the whole stream arrives as it was.
func read(_ side: Side, _ total: Int, _ seed: UInt64) -> Bool {
    var dice = Dice(seed)
    var buffer = [UInt8](repeating: 0, count: 100_000)
    var position = 0
    while true {
        let room = dice.roll(10) == 0 ? 100_000 : dice.roll(3000) + 1
        let got = buffer.withUnsafeMutableBytes { side.receive(UnsafeMutableRawBufferPointer(rebasing: $0[..<room])) }
        if got == 0 { return position == total }
        for index in 0..<got where buffer[index] != byte(position + index) { return false }
        position += got
    }
}

private let good = Atomic(0)
private let sum = Atomic(0)
private let writers = Atomic(2)

private func note(_ holds: Bool) { if holds { good.add(1, ordering: .relaxed) } }

/// Whether so many notes were good since the last time.
private func allGood(_ count: Int) -> Bool { good.exchange(0, ordering: .relaxed) == count }

func bothWays(_ seed: UInt64) {
    let connection = Connection()
    let total = 40_000_000
    together(
        { write(connection.client, total, seed) }, { note(read(connection.server, total, seed + 1)) },
        { write(connection.server, total, seed + 2) }, { note(read(connection.client, total, seed + 3)) })
    check(allGood(2), "both directions arrive whole while the rings change their size")
    connection.close()
}

private let rounds = 3000

private func writeMany(_ side: Side) {
    for round in 0..<rounds {
        let piece = [UInt8](repeating: UInt8(round % 251), count: 100 + round % 900)
        piece.withUnsafeBytes { side.send($0) }
    }
    if writers.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { side.finish() }
}

private func readMany(_ side: Side) {
    var buffer = [UInt8](repeating: 0, count: 5000)
    while true {
        let got = buffer.withUnsafeMutableBytes { side.receive($0) }
        if got == 0 { break }
        sum.add(buffer[..<got].reduce(0) { $0 + Int($1) + 1 }, ordering: .relaxed)
    }
}

/// Which thread gets which byte is open: every one of them must come once.
func manyThreads() {
    let connection = Connection()
    together(
        { writeMany(connection.client) }, { writeMany(connection.client) },
        { readMany(connection.server) }, { readMany(connection.server) })
    let expected = 2 * (0..<rounds).reduce(0) { $0 + (100 + $1 % 900) * ($1 % 251 + 1) }
    check(
        sum.load(ordering: .relaxed) == expected,
        "two writers and two readers of one ring lose nothing and double nothing")
    connection.close()
}

/// Threads that end with a lock held, as one that is cancelled in the middle does.
func deadOwners() {
    let connection = Connection()
    for round in 0..<20 {
        together({
            let lock = round % 2 == 0 ? Block.readLock : Block.writeLock
            _ = Lock((round % 4 < 2 ? connection.client : connection.server).end.block, lock).acquire()
        })
        let piece: [UInt8] = [1, 2, 3, UInt8(round)]
        together(
            { piece.withUnsafeBytes { connection.client.send($0) } },
            { piece.withUnsafeBytes { connection.server.send($0) } })
        var got = [UInt8](repeating: 0, count: 4)
        note(got.withUnsafeMutableBytes { connection.server.receive($0) } == 4 && got == piece)
        note(got.withUnsafeMutableBytes { connection.client.receive($0) } == 4 && got == piece)
    }
    check(allGood(40), "a lock whose owner has ended is taken over")
    connection.close()
}

private func live(_ seed: UInt64) {
    var dice = Dice(seed)
    var open: [Connection] = []
    for _ in 0..<400 {
        if open.count < 12 && dice.roll(2) == 0 { open.append(Connection()) }
        guard !open.isEmpty else { continue }
        let one = open[dice.roll(open.count)]
        let piece = [UInt8](repeating: UInt8(dice.roll(256)), count: 64)
        var got = [UInt8](repeating: 0, count: 64)
        piece.withUnsafeBytes { one.client.send($0) }
        let count = got.withUnsafeMutableBytes { one.server.receive($0) }
        if count != 64 || got != piece { return }
        if dice.roll(3) == 0 { open.remove(at: dice.roll(open.count)).close() }
    }
    for one in open { one.close() }
    note(true)
}

func manyConnections(_ seed: UInt64) {
    together({ live(seed) }, { live(seed + 1) }, { live(seed + 2) })
    check(allGood(3), "threads that connect and close at the same time never share a slot")
}
