/// Urgent data: of several urgent bytes the newest alone is one, as TCP has it, and has its place beside the stream.
extension Endpoint {
    /// How many bytes lie before an urgent byte that has not been taken; nil when none lies ahead.
    @inline(__always) func urgentLimit(head: UInt64, skipping: Int) -> Int? {
        let urgent = peer.load64(Layout.urgent)
        if urgent == 0 { return nil }
        return urgentLimit(urgent: urgent, head: head, skipping: skipping)
    }

    @inline(never) private func urgentLimit(urgent: UInt64, head: UInt64, skipping: Int) -> Int? {
        let position = urgent &- 1
        let from = head &+ UInt64(skipping)
        return position > from && position &- from < UInt64(Layout.largeCapacity * 2) ? Int(position &- from) : nil
    }

    /// Whether an urgent byte lies in what can be read, and does not count as readable.
    @inline(__always) package func urgentAhead() -> Bool {
        let urgent = peer.load64(Layout.urgent)
        if urgent <= block.load64(Block.head) || option(.oobInline) != 0 { return false }
        dropOvertaken()
        return true
    }

    /// Takes out of the stream what has lost its place there (`Layout.overtaken`).
    @inline(never) private func dropOvertaken() {
        let overtaken = peer.acquire64(Layout.overtaken)
        let head = block.load64(Block.head)
        guard overtaken > head, overtaken &- head <= UInt64(readable()), option(.oobInline) == 0 else { return }
        _ = skip(Int(overtaken &- head), from: head)
    }

    /// Bytes that can be read before the urgent one (FIONREAD), where that isn't read in its place.
    package func readableBeforeUrgent() -> Int {
        let isAhead = urgentAhead()
        let count = readable()
        if !isAhead { return count }
        return max(min(count, Int(truncatingIfNeeded: peer.load64(Layout.urgent) &- 1 &- block.load64(Block.head))), 0)
    }

    /// Whether the next byte to read is the urgent one (SIOCATMARK).
    package func atMark() -> Bool {
        dropOvertaken()
        let urgent = peer.acquire64(Layout.urgent)
        let head = block.load64(Block.head)
        return urgent != 0 && (urgent &- 1 == head || urgent == head)
    }

    /// Whether an urgent byte waits that nobody has received yet (POLLPRI).
    package func urgentWaits() -> Bool {
        let urgent = peer.acquire64(Layout.urgent)
        return urgent != 0 && block.load64(Block.urgentSeen) != urgent && urgent > block.load64(Block.head)
    }

    /// Whether the urgent byte comes next after `count` more bytes: a read ends before it.
    package func urgentFollows(_ count: Int) -> Bool {
        let urgent = peer.acquire64(Layout.urgent)
        return urgent != 0 && urgent &- 1 == block.load64(Block.head) &+ UInt64(count)
    }

    /// Takes the urgent byte out of the stream if the reader stands at it and wants it out of band. A read that
    /// steps over it loses it, as on TCP; a peek keeps it for MSG_OOB.
    package func skipUrgent(peek: Bool) {
        let urgent = peer.load64(Layout.urgent)
        guard urgent != 0, urgentAhead(), urgent &- 1 == block.load64(Block.head) else { return }
        let isNew = block.load64(Block.urgentSeen) != urgent
        block.store64(Block.urgentSeen, urgent)
        var byte: UInt8 = 0
        _ = unsafe withUnsafeMutableBytes(of: &byte) { unsafe take(into: $0.baseAddress!, count: 1, peek: false) }
        if peek && isNew { block.store32(Block.urgentByte, UInt32(byte) | 256) }
    }

    /// recv with MSG_OOB: the byte, or nil when there is none.
    package func takeUrgent(peek: Bool) -> UInt8? {
        let kept = block.load32(Block.urgentByte)
        if kept & 256 != 0 {
            if !peek { block.store32(Block.urgentByte, 0) }
            return UInt8(truncatingIfNeeded: kept)
        }
        let urgent = peer.acquire64(Layout.urgent)
        guard urgent != 0, option(.oobInline) == 0, block.load64(Block.urgentSeen) != urgent else { return nil }
        let head = block.load64(Block.head)
        guard urgent &- 1 >= head, urgent &- 1 &- head < UInt64(readable()) else { return nil }
        var byte: UInt8 = 0
        let place = contiguous(at: urgent &- 1, wanted: 1).place
        unsafe withUnsafeMutableBytes(of: &byte) { unsafe slot.copyOut(place, to: $0.baseAddress!, count: 1) }
        if !peek { block.store64(Block.urgentSeen, urgent) }
        return byte
    }

    /// The byte before `position`, which the tail is about to reach, is urgent. TCP drops an older one at which the reader
    /// stands then. A signal handler may have written a newer one since.
    @inline(never) func publishUrgent(_ position: UInt64) {
        let older = mine.load64(Layout.urgent)
        let head = max(peerHead(tail: position), mine.load64(Layout.overtaken))
        if older != 0 && older < position && older &- 1 == head { mine.raise64(Layout.overtaken, to: older) }
        mine.raise64(Layout.urgent, to: position)
    }
}
