/// Who has payloads for other hosts.
package protocol PayloadSource {
    /// Appends what is to go to that host next, at most `room` bytes; nothing where there is nothing. What was
    /// appended is carried once and in order, for as long as both incarnations live.
    mutating func fill(_ payload: inout [UInt8], room: Int, for host: Int)
}

/// A write of consecutive blocks.
struct RingWrite {
    let positions: Range<UInt64>
    let unit: UInt64
    let bytes: [UInt8]
}

/// One host's ring for another: makes payloads into blocks, and keeps each until its reader has taken it.
///
/// A lone payload is written at once. While as many writes are under way as may be, payloads gather; then they go in
/// one write. What the reader doesn't take is written again, since a write may be lost, torn, or undone by an older
/// one that lands late.
struct RingWriter {
    /// Writes under way at a time.
    static let depth = 4

    private struct Block {
        let position: UInt64
        let units: Int
        let payload: [UInt8]

        var end: UInt64 { position + UInt64(units) }
    }

    let ring: Ring
    private let channel: BlockChannel
    private let timing: Timing

    /// Those that the reader hasn't taken, the oldest first.
    private var blocks: [Block] = []
    /// The positions of the writes under way. What lies there is neither used anew nor written a second time before
    /// they end: two writes to a unit may land in any order.
    private var underWay: [Range<UInt64>] = []
    /// Behind the last block.
    private(set) var head: UInt64 = 0
    /// The position up to which the reader says that it took blocks.
    private(set) var consumed: UInt64 = 0
    /// Under one key no count is used twice: a block that is written again has another one.
    private var writeCount: UInt64 = 0
    /// When the oldest block is written again, unless it is taken or being written; and the time until then.
    private var due: UInt64 = 0
    private var patience: UInt64
    private(set) var flow = Flow()

    init(ring: Ring, channel: BlockChannel, timing: Timing) {
        self.ring = ring
        self.channel = channel
        self.timing = timing
        patience = timing.rewriting
    }

    var hasUnconsumed: Bool { !blocks.isEmpty }
    var writesUnderWay: Int { underWay.count }

    /// When `rewrite` has something to do.
    var deadline: UInt64? {
        guard let oldest = blocks.first, underWay.count < RingWriter.depth, !isUnderWay(oldest) else { return nil }
        return due
    }

    /// The next write of new payloads; nil where there are none, or no room for them. `taken` is how far this host
    /// has taken the reader's own blocks.
    mutating func write(from source: inout some PayloadSource, for host: Int, taken: UInt64) -> RingWrite? {
        guard underWay.count < RingWriter.depth, free >= ring.quarter else { return nil }
        let start = head
        let known = blocks.count
        var room = min(Int(free), ring.unitsToEnd(at: head), ring.largestRequest)
        while room > 0 {
            let most = DataBlock.room(units: min(room, ring.largestBlock))
            var payload: [UInt8] = []
            source.fill(&payload, room: most, for: host)
            precondition(payload.count <= most, "a payload fits the room that it was given")
            if payload.isEmpty { break }
            let block = Block(position: head, units: DataBlock.units(payload: payload.count), payload: payload)
            blocks.append(block)
            head = block.end
            room -= block.units
            flow.made += 1
        }
        return head == start ? nil : issue(start..<head, sealed(blocks[known...], taken))
    }

    /// The oldest blocks once more, where their reader should have taken them by now.
    mutating func rewrite(taken: UInt64, at now: UInt64) -> RingWrite? {
        guard let deadline, now >= deadline, let oldest = blocks.first else { return nil }
        var end = oldest.position
        var room = min(ring.unitsToEnd(at: end), ring.largestRequest)
        var count = 0
        for block in blocks {
            guard block.units <= room, !isUnderWay(block) else { break }
            end = block.end
            room -= block.units
            count += 1
        }
        flow.rewritten += UInt64(count)
        patience = min(2 * patience, timing.rewritingLimit)
        return issue(oldest.position..<end, sealed(blocks[..<count], taken))
    }

    /// A write has ended.
    mutating func written(_ positions: Range<UInt64>, _ isDone: Bool, at now: UInt64) {
        guard let index = underWay.firstIndex(of: positions) else { preconditionFailure("a write ends once") }
        underWay.remove(at: index)
        guard let oldest = blocks.first else { return }
        if !isDone {
            due = min(max(due, now), now + timing.retry)
        } else if positions.contains(oldest.position) {
            due = now + patience
        }
    }

    /// The reader says how far it took blocks. What is no news is left alone: it may have been said long ago.
    mutating func consumed(_ position: UInt64, at now: UInt64) throws(PeerFault) {
        guard position <= head else { throw .cursor(said: position, made: head) }
        guard position > consumed else { return }
        consumed = position
        let taken = blocks.prefix { $0.end <= position }.count
        blocks.removeFirst(taken)
        flow.consumed += UInt64(taken)
        patience = timing.rewriting
        due = now + patience
    }

    /// Units that may be written: those of blocks that were taken, and that no write is under way to.
    private var free: UInt64 {
        let oldest = blocks.first?.position ?? head
        return underWay.reduce(oldest) { min($0, $1.lowerBound) } + ring.units - head
    }

    private func isUnderWay(_ block: Block) -> Bool { underWay.contains { $0.contains(block.position) } }

    /// Consecutive blocks, as they are written.
    private mutating func sealed(_ blocks: ArraySlice<Block>, _ taken: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(blocks.reduce(0) { $0 + $1.units } * unitSize)
        for block in blocks {
            writeCount += 1
            channel.append(
                to: &bytes, place: block.position, count: writeCount, body: DataBlock.head(consumed: taken),
                block.payload)
        }
        return bytes
    }

    private mutating func issue(_ positions: Range<UInt64>, _ bytes: [UInt8]) -> RingWrite {
        underWay.append(positions)
        return RingWrite(positions: positions, unit: ring.unit(at: positions.lowerBound), bytes: bytes)
    }
}

/// How many blocks went from one host to another.
package struct Flow: Equatable, Sendable {
    package internal(set) var made: UInt64 = 0
    package internal(set) var consumed: UInt64 = 0
    /// Counts a block as often as it was written again.
    package internal(set) var rewritten: UInt64 = 0
}
