/// One direction between two ends: blocks come in order and once, later, and at times not for long.
struct Link {
    /// Bytes of a block.
    private(set) var room: Int
    /// Blocks that may be under way.
    let depth: Int
    /// Rounds that a block takes at most.
    private(set) var delay: Int
    var stoppedUntil = 0
    /// Bytes that the sender has filled.
    private(set) var filled = 0
    private var blocks: [(round: Int, bytes: [UInt8], filled: Int)] = []

    init(_ random: inout Random) {
        room = [4032, 4032, 16_000, 65_000, 262_000][random.below(5)]
        depth = 1 + random.below(8)
        delay = random.below(12)
    }

    var isEmpty: Bool { blocks.isEmpty }

    /// From now on it is quick, so that a run comes to its end.
    mutating func calm() {
        room = max(room, 65_000)
        delay = 0
    }

    func hasRoom(at round: Int) -> Bool { blocks.count < depth && stoppedUntil <= round }

    mutating func send(_ bytes: [UInt8], at round: Int, _ random: inout Random) {
        filled += bytes.count
        let arrival = max(round + 1 + random.below(delay + 1), blocks.last?.round ?? 0)
        blocks.append((arrival, bytes, filled))
    }

    /// The next block that arrives, and how much was filled up to its end.
    mutating func receive(at round: Int) -> (bytes: [UInt8], filled: Int)? {
        guard let first = blocks.first, first.round <= round, stoppedUntil <= round else { return nil }
        blocks.removeFirst()
        return (first.bytes, first.filled)
    }
}
