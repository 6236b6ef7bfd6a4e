/// Urgent data: of several urgent bytes the newest alone is one, as TCP has it, and has its place beside the stream.
extension Endpoint {
    /// How many bytes lie before an urgent byte that has not been taken; nil when none lies ahead. It may have come just
    /// now: a read takes it for no other byte. A peek sees what its caller asks for.
    @inline(__always) func urgentLimit(head: UInt64, skipping: Int, peek: Bool) -> Int? {
        let urgent = peer.load64(Layout.urgent)
        if urgent == 0 { return nil }
        return urgentLimit(urgent: urgent, from: head &+ UInt64(skipping), peek: peek)
    }

    @inline(never) private func urgentLimit(urgent: UInt64, from: UInt64, peek: Bool) -> Int? {
        let position = urgent &- 1
        if position == from && (peek || option(.oobInline) != 0) { return nil }
        return position >= from && position &- from < UInt64(Layout.largeCapacity * 2) ? Int(position &- from) : nil
    }

    /// Where an urgent byte lies that the reader has not passed; nil for none.
    @inline(__always) private func urgentPosition() -> UInt64? {
        peer.load64(Layout.urgent) > block.load64(Block.head) ? urgentPositionAhead() : nil
    }

    @inline(never) private func urgentPositionAhead() -> UInt64? {
        dropOvertaken()
        let urgent = peer.acquire64(Layout.urgent)
        return urgent > block.load64(Block.head) ? urgent &- 1 : nil
    }

    /// Takes out of the stream what has lost its place there (`Layout.overtaken`).
    private func dropOvertaken() {
        let overtaken = peer.acquire64(Layout.overtaken)
        let head = block.load64(Block.head)
        guard overtaken > head, overtaken &- head <= UInt64(readable()) else { return }
        _ = skip(Int(overtaken &- head), from: head)
    }

    /// Whether the next byte to read is the urgent one, and isn't to be read there.
    @inline(__always) package func standsAtUrgent() -> Bool {
        guard let position = urgentPosition() else { return false }
        return position == block.load64(Block.head) && option(.oobInline) == 0
    }

    /// Bytes that can be read before the urgent one (FIONREAD), where that isn't read in its place.
    package func readableBeforeUrgent() -> Int {
        let position = urgentPosition()
        let head = block.acquire64(Block.head)
        let count = readable()
        guard let position, option(.oobInline) == 0, position &- head < UInt64(count) else { return count }
        return Int(position &- head)
    }

    /// Whether the next byte to read is the urgent one (SIOCATMARK).
    package func atMark() -> Bool { urgentPosition() == block.load64(Block.head) }

    /// Whether an urgent byte waits that nobody has received yet (POLLPRI).
    @inline(__always) package func urgentWaits() -> Bool {
        let urgent = peer.acquire64(Layout.urgent)
        return urgent > block.load64(Block.head) && urgentWaits(urgent)
    }

    /// It is announced before it can be read.
    @inline(never) private func urgentWaits(_ urgent: UInt64) -> Bool {
        let head = block.acquire64(Block.head)
        return urgent > head && urgent &- head <= UInt64(readable()) && block.load64(Block.urgentSeen) != urgent
    }

    /// Whether the urgent byte comes next after `count` more bytes: a read ends before it.
    package func urgentFollows(_ count: Int) -> Bool {
        let urgent = peer.acquire64(Layout.urgent)
        return urgent != 0 && urgent &- 1 == block.load64(Block.head) &+ UInt64(count)
    }

    /// Takes the urgent byte out of the stream if the reader stands at it and wants it out of band. A read that
    /// steps over it loses it, as on TCP.
    @inline(__always) package func skipUrgent() {
        if let position = urgentPosition(), option(.oobInline) == 0 { _ = skip(1, from: position) }
    }

    /// recv with MSG_OOB: the byte, or nil when there is none.
    package func takeUrgent(peek: Bool) -> UInt8? {
        let lock = Lock(block, Block.readLock)
        let generation = lock.acquire()
        defer { lock.release(generation) }
        let urgent = peer.acquire64(Layout.urgent)
        guard option(.oobInline) == 0, urgentWaits(urgent) else { return nil }
        var byte: UInt8 = 0
        let place = contiguous(at: urgent &- 1, wanted: 1).place
        unsafe withUnsafeMutableBytes(of: &byte) { unsafe slot.copyOut(place, to: $0.baseAddress!, count: 1) }
        if !peek { block.store64(Block.urgentSeen, urgent) }
        return byte
    }

    /// The byte before `position`, which the tail is about to reach, is urgent. TCP drops an older one at which the reader
    /// stands then, unless it is to be read there. A signal handler may have written a newer one since.
    @inline(never) func publishUrgent(_ position: UInt64) {
        let older = mine.load64(Layout.urgent)
        let head = max(peerHead(tail: position), mine.load64(Layout.overtaken))
        let staysInLine = peer.load32(Layout.state) & EndState.urgentInline != 0
        if older != 0 && older < position && older &- 1 == head && !staysInLine {
            mine.raise64(Layout.overtaken, to: older)
        }
        mine.raise64(Layout.urgent, to: position)
    }
}
