import CSystem

// A write's bytes on their way into the ring. A signal handler may come in and write to the same end.

extension Endpoint {
    /// In a signal handler that came upon its own thread in a write to this end: its bytes come first, whole. It would go
    /// on with its copying afterwards, where others' bytes lie by then.
    @inline(__always) func finishInterrupted(_ lock: Lock) {
        guard let write = unsafe sk_interrupted_write(lock.word) else { return }
        // It has moved the cursor itself, or will find its place taken.
        if unsafe block.load64(Block.tail) != write.pointee.from { return publish() }
        if unsafe finish(write) { unsafe write.pointee.is_done = 1 }
    }

    /// False where a signal handler was faster.
    @inline(__always) func finish(_ write: UnsafePointer<sk_write>) -> Bool {
        let (from, end) = unsafe (write.pointee.from, write.pointee.from &+ UInt64(write.pointee.count))
        let (old, new) = unsafe (write.pointee.old_placement, write.pointee.placement)
        if new != old { _ = block.moveOn64(Block.placement, from: old, to: new) }
        unsafe copy(write)
        guard block.moveOn64(Block.tail, from: from, to: end) else { return false }
        if unsafe write.pointee.is_urgent != 0 { publishUrgent(end) }
        publish()
        return true
    }

    @inline(__always) private func copy(_ write: UnsafePointer<sk_write>) {
        let kind = unsafe ring(write.pointee.placement).kind
        let capacity = Layout.capacity(kind)
        let ring = Layout.ring(end: end, kind: kind)
        let offset = unsafe Int(write.pointee.from & UInt64(capacity - 1))
        let vectors = unsafe Vectors(base: write.pointee.vectors, count: .max)
        unsafe vectors.forEachPiece(behind: write.pointee.skipped, count: write.pointee.count) { source, before, size in
            let begin = (offset &+ before) & (capacity - 1)
            let first = min(size, capacity &- begin)
            unsafe slot.copyIn(ring + begin, from: source, count: first)
            if first < size { unsafe slot.copyIn(ring, from: source + first, count: size &- first) }
        }
    }

    /// Tells the peer how far there are bytes, and where they lie.
    @inline(__always) private func publish() {
        publishPlacement()
        mine.raise64(Layout.tail, to: block.load64(Block.tail))
    }
}
