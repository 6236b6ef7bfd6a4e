/// One host's look into another's ring: finds blocks in their order, each once.
///
/// What doesn't prove itself at the next position is not there yet. Between blocks it looks less and less often; when
/// none came for long it stops, until a bell tells of one. Where all that a read asked for was there, the writer is
/// ahead: then several reads of consecutive units are under way, and taken in order.
struct RingReader {
    /// Reads under way at a time.
    static let depth = 4

    /// A read whose units begin where those of the one before end.
    private struct Read {
        let number: UInt64
        let end: UInt64
        /// Nil while it is under way.
        var outcome: Outcome?
    }

    private enum Outcome {
        case units([UInt8])
        case failed
    }

    private let channel: BlockChannel
    private let timing: Timing
    /// Known once the writer's row was read.
    private var ring: Ring?
    /// The position of the next block: all before it were handed out.
    private(set) var position: UInt64 = 0
    private var bell: UInt64 = 0
    private var poller: Poller
    private var isLooking = false
    /// Until then it isn't looked again and again for what isn't there.
    private var leisureEnd: UInt64 = 0
    private var lastArrival: UInt64 = 0
    /// Units of the next read.
    private var size = 1

    /// The oldest first. All but the first are made on the guess that the writer is ahead.
    private var reads: [Read] = []
    private var lastNumber: UInt64 = 0
    /// How many may be under way: more and more, while all that they ask for is there.
    private var allowed = 1
    /// Reads under way that a wrong guess has made useless.
    private var forgotten = 0
    /// The beginning of the next block, where a read ended in the midst of it. The next read goes on behind it.
    private var fragment: [UInt8] = []

    init(channel: BlockChannel, timing: Timing, at now: UInt64) {
        self.channel = channel
        self.timing = timing
        poller = Poller(timing: timing, at: now)
    }

    /// When a read is due.
    var deadline: UInt64? { nextRead == nil ? nil : poller.next }

    /// The writer's row says where its ring is, and up to where it has blocks.
    mutating func ring(_ ring: Ring, bell: UInt64, at now: UInt64) throws(PeerFault) {
        // It may be a whole ring ahead of what was taken, since no unit is used again before.
        guard bell <= position || bell - position <= ring.units else { throw .bell(said: bell, taken: position) }
        self.ring = ring
        self.bell = bell
        if bell > position { look(at: now) }
    }

    /// From now on a block may come.
    mutating func look(at now: UInt64) {
        isLooking = true
        poller.found(at: now)
    }

    /// From now on a block may come that nobody waits for.
    mutating func expect(at now: UInt64) {
        isLooking = true
        leisureEnd = now + timing.eager
        poller.expect(in: timing.expectation, at: now)
    }

    // MARK: Reads

    /// Units to read now, with the number of the read.
    mutating func read(at now: UInt64) -> (number: UInt64, units: Range<UInt64>)? {
        guard let ring, let deadline, now >= deadline, let next = nextRead else { return nil }
        lastNumber += 1
        reads.append(Read(number: lastNumber, end: next.upperBound))
        let start = ring.unit(at: next.lowerBound)
        return (lastNumber, start..<start + UInt64(next.count))
    }

    /// The positions of the next read, if there is to be one before another has ended.
    private var nextRead: Range<UInt64>? {
        guard let ring, isLooking, reads.count < allowed, reads.count + forgotten < RingReader.depth else { return nil }
        let start = reads.last?.end ?? position + UInt64(fragment.count / unitSize)
        // The writer can't have blocks beyond.
        let room = ring.units - (start - position)
        let count = min(UInt64(size), UInt64(ring.unitsToEnd(at: start)), room)
        return count > 0 ? start..<start + count : nil
    }

    /// A read has ended; nil where it failed. Returns the blocks that can be taken now. `isAnswerExpected` keeps it
    /// looking.
    mutating func take(
        _ number: UInt64, _ bytes: [UInt8]?, isAnswerExpected: Bool, at now: UInt64
    ) throws(PeerFault) -> [DataBlock] {
        guard let index = reads.firstIndex(where: { $0.number == number }) else {
            precondition(forgotten > 0, "a read ends once")
            forgotten -= 1
            return []
        }
        reads[index].outcome = bytes.map(Outcome.units) ?? .failed
        var blocks: [DataBlock] = []
        while let outcome = reads.first?.outcome {
            reads.removeFirst()
            switch outcome {
            case .units(let bytes): try take(bytes, &blocks, isAnswerExpected: isAnswerExpected, at: now)
            case .failed:
                giveUp()
                poller.failed(at: now)
            }
        }
        return blocks
    }

    /// What was read behind the next position is of no use.
    private mutating func giveUp() {
        forgotten += reads.count { $0.outcome == nil }
        reads = []
        fragment = []
        allowed = 1
    }

    // MARK: Blocks

    /// Takes the blocks of the oldest read.
    private mutating func take(
        _ read: [UInt8], _ blocks: inout [DataBlock], isAnswerExpected: Bool, at now: UInt64
    ) throws(PeerFault) {
        guard let ring else { preconditionFailure("a ring is read once it is known") }
        let bytes = fragment.isEmpty ? read : fragment + read
        fragment = []
        var offset = 0
        while offset < bytes.count, let (header, body) = channel.open(bytes, at: offset, place: position) {
            guard header.units <= min(DataBlock.unitsAllowed, ring.unitsToEnd(at: position)),
                let block = DataBlock(body: body)
            else { throw .block(position: position) }
            blocks.append(block)
            offset += header.units * unitSize
            position += UInt64(header.units)
        }
        if offset > 0 { lastArrival = now }
        let announced = announced(bytes, at: offset, in: ring)
        let isLarge = read.count == ring.largestRead * unitSize
        // A block that goes on behind what was read: it may be wholly there, too.
        let isCut = offset + announced * unitSize > bytes.count && (!reads.isEmpty || isLarge && offset > 0)
        if offset == bytes.count || isCut {
            fragment = Array(bytes[offset...])
            // A stream comes in large reads.
            size = min(2 * read.count / unitSize, ring.largestRead)
            if isLarge { allowed = min(allowed + 1, RingReader.depth) }
            poller.found(at: now)
        } else {
            giveUp()
            plan(ring, units: offset / unitSize, of: bytes.count / unitSize, announced, isAnswerExpected, now)
        }
    }

    /// When and how much to read next, after a read that showed fewer units than were asked for. `announced` is how many
    /// the next block has.
    private mutating func plan(
        _ ring: Ring, units: Int, of asked: Int, _ announced: Int, _ isAnswerExpected: Bool, _ now: UInt64
    ) {
        size = max(1, announced, min(2 * units, ring.largestRead))
        if units > 0 || announced > asked {
            poller.found(at: now)
        } else if bell > position || isAnswerExpected || now <= lastArrival + timing.active {
            poller.missed(at: now, least: now < leisureEnd ? timing.expectation : 0)
        } else {
            isLooking = false
        }
    }

    /// Units of a block that begins there, as its header says, which nothing proves yet; 0 where there is none.
    private func announced(_ bytes: [UInt8], at offset: Int, in ring: Ring) -> Int {
        guard let header = BlockHeader(bytes, at: offset, kind: .data), header.place == position,
            header.writer == channel.writer,
            header.units <= min(DataBlock.unitsAllowed, ring.unitsToEnd(at: position))
        else { return 0 }
        return header.units
    }
}
