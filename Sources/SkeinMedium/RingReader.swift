/// One host's look into another's ring: finds blocks in their order, each once.
///
/// What doesn't prove itself at the next position is not there yet. Between blocks it looks less and less often; when
/// none came for long it stops, until a bell tells of one.
struct RingReader {
    private let channel: BlockChannel
    private let timing: Timing
    /// Known once the writer's row was read.
    private var ring: Ring?
    /// The position of the next block: all before it were handed out.
    private(set) var position: UInt64 = 0
    private var bell: UInt64 = 0
    private var poller: Poller
    private var isLooking = false
    private(set) var isReading = false
    private var lastArrival: UInt64 = 0
    /// Units of the next read.
    private var size = 1

    init(channel: BlockChannel, timing: Timing, at now: UInt64) {
        self.channel = channel
        self.timing = timing
        poller = Poller(timing: timing, at: now)
    }

    /// When a read is due.
    var deadline: UInt64? { isLooking && !isReading && ring != nil ? poller.next : nil }

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

    /// Units to read now.
    mutating func read(at now: UInt64) -> Range<UInt64>? {
        guard let ring, let deadline, now >= deadline else { return nil }
        isReading = true
        let start = ring.unit(at: position)
        return start..<start + UInt64(min(size, ring.unitsToEnd(at: position)))
    }

    /// The read has ended; nil where it failed. Returns the blocks that it shows. `isAnswerExpected` keeps it looking.
    mutating func take(_ bytes: [UInt8]?, isAnswerExpected: Bool, at now: UInt64) throws(PeerFault) -> [DataBlock] {
        guard let ring else { preconditionFailure("a ring is read once it is known") }
        isReading = false
        guard let bytes else {
            poller.failed(at: now)
            return []
        }
        var blocks: [DataBlock] = []
        var offset = 0
        while offset < bytes.count, let (header, body) = channel.open(bytes, at: offset, place: position) {
            guard header.units <= min(DataBlock.unitsAllowed, ring.unitsToEnd(at: position)),
                let block = DataBlock(body: body)
            else { throw .block(position: position) }
            blocks.append(block)
            offset += header.units * unitSize
            position += UInt64(header.units)
        }
        plan(ring, bytes, at: offset, isAnswerExpected: isAnswerExpected, now)
        return blocks
    }

    /// When and how much to read next, after what was read up to `offset` was taken.
    private mutating func plan(
        _ ring: Ring, _ bytes: [UInt8], at offset: Int, isAnswerExpected: Bool, _ now: UInt64
    ) {
        let announced = announced(bytes, at: offset, in: ring)
        if offset > 0 || announced * unitSize > bytes.count {
            // Twice as much as came: a stream comes in large reads.
            size = max(1, announced, min(2 * offset / unitSize, ring.largestRequest))
            if offset > 0 { lastArrival = now }
            poller.found(at: now)
            return
        }
        size = max(1, announced)
        if bell > position || isAnswerExpected || now <= lastArrival + timing.active {
            poller.missed(at: now)
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
