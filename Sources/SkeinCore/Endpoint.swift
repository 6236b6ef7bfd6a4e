import CSystem

/// One end of a connection, as this process sees it: where its memory lies. A plain value; all that
/// changes is in the slot (both ends), in the private block (this end's processes), or in `local`.
@safe
package struct Endpoint {
    /// The slot both ends map.
    package let slot: SharedMemory
    /// This end's private block.
    package let block: SharedMemory
    /// What this process alone knows of the end.
    package let local: UnsafeMutablePointer<LocalState>
    /// 0 for the end that connected, 1 for the end that accepted.
    package let end: Int

    package init(slot: SharedMemory, block: SharedMemory, local: UnsafeMutablePointer<LocalState>, end: Int) {
        self.slot = slot
        self.block = block
        unsafe self.local = unsafe local
        self.end = end
    }

    @inline(__always) package var mine: SharedMemory { slot.part(end * Layout.lineStride) }
    @inline(__always) package var peer: SharedMemory { slot.part((1 - end) * Layout.lineStride) }

    @inline(__always) package func has(_ flag: UInt32) -> Bool { block.load32(Block.flags) & flag != 0 }
    /// One more of a counter of this process's control block. Threads may lose one to each other: it is for people.
    @inline(__always) package func count(_ counter: Int) {
        let record = unsafe local.pointee.record
        record.store64(counter, record.load64(counter) &+ 1)
    }
    package func set(_ flag: UInt32) { block.or32(Block.flags, flag) }
    package func clear(_ flag: UInt32) { block.clear32(Block.flags, flag) }
}

/// Process-local state of an end, and where its memory lies. Recycled, never unmapped.
@safe
package struct LocalState {
    /// Threads of this process that sleep on this end, for reading and for writing: at the beginning, as atomic
    /// words (`Endpoint.sleepers`).
    var sleepers: (UInt32, UInt32) = (0, 0)
    package var slot: UnsafeMutableRawPointer
    package var block: UnsafeMutableRawPointer
    package var end: Int
    /// Descriptors of this process that are this end.
    package var descriptors: Int32 = 0
    /// Epoll registrations of this end in this process.
    package var registrations: Int32 = 0
    /// One of the descriptors, for bells and questions on behalf of all.
    package var descriptor: Int32 = -1
    package var pool: Int32
    package var slotIndex: Int32
    package var generation: UInt32
    /// The peer's hint word when the kernel was last asked whether the peer is there.
    package var seenHint: UInt32 = 0
    /// When the kernel was last asked, in nanoseconds of the coarse clock.
    package var asked: UInt64 = 0
    /// A write found no room: an edge-triggered waiter is to hear when there is some.
    package var wantsSpace = false
    /// How often an edge-triggered waiter could hear of room since: every registration hears of each.
    package var roomEdges: UInt32 = 0
    /// O_ASYNC: armed all the time, so that each arrival rings and the kernel sends SIGIO.
    package var signals = false
    package var spin = Spin()
    package var otherOptions = OtherOptions()
    /// The socket control block in the table, where `skein ls` sees it.
    package var record: SharedMemory
    /// Threads that hand the end over just now, by descriptors of their own. Under the process lock.
    package var loans: Int32 = 0
    /// Once it is released: when, what it was, and who was released after it.
    package var released: UInt64 = 0
    package var wasLast = false
    package var wasAlone = false
    package var wasConnected = false
    package var next: UnsafeMutablePointer<LocalState>? = nil
    /// The hidden TCP socket that keeps an STP socket's port; -1 for none.
    package var portHolder: Int32 = -1
    /// The hidden socket that signals urgent data to the descriptor's owner; -1 for none. And the peer's urgent
    /// position when it was last drained.
    package var urgentSocket: Int32 = -1
    package var urgentDrained: UInt64 = 0
}

extension Endpoint {
    @inline(__always) package init(_ local: UnsafeMutablePointer<LocalState>) {
        unsafe self.init(
            slot: SharedMemory(unsafe local.pointee.slot), block: SharedMemory(unsafe local.pointee.block),
            local: unsafe local, end: unsafe local.pointee.end)
    }
}

/// How an end stands, in TCP's terms.
package struct Ending {
    /// The peer sends no more (its FIN, or what stands for it).
    package var finished = false
    /// The connection is reset: a broken pipe where the peer had finished before, else a reset connection.
    package var reset = false
    /// Nothing more comes.
    package var isOver: Bool { finished || reset }
}

// MARK: - Receiving

extension Endpoint {
    /// Bytes that can be read now. A tail that no honest peer can have written resets the connection.
    @inline(__always) package func readable() -> Int {
        while true {
            // Our head first: another thread may read between the two loads.
            let head = block.acquire64(Block.head)
            let count = peer.acquire64(Layout.tail) &- head
            if count <= UInt64(Layout.largeCapacity + Layout.smallCapacity) { return Int(count) }
            if block.acquire64(Block.head) == head {
                set(EndFlag.violated)
                return 0
            }
        }
    }

    /// Copies up to `count` bytes out; 0 when there are none. `peek` leaves them.
    @inline(__always)
    package func take(into target: UnsafeMutableRawPointer, count: Int, peek: Bool, skipping: Int = 0) -> Int {
        take(count: count, peek: peek, skipping: skipping) { place, done, run in
            unsafe slot.copyOut(place, to: unsafe target.advanced(by: done), count: run)
        }
    }

    /// The same where `copy` knows whereto: it gets where in the slot a run lies, how many bytes come before it, and its
    /// length. It may get all of them once more.
    @inline(__always)
    func take(
        count: Int, peek: Bool, skipping: Int = 0, copy: (_ place: Int, _ done: Int, _ run: Int) -> Void
    ) -> Int {
        let lock = Lock(block, Block.readLock)
        while true {
            let generation = lock.acquire()
            var available = readable() &- skipping
            // Looked at under the lock, under which who takes a given end copies the cursors.
            if available <= 0 || has(EndFlag.taken) {
                lock.release(generation)
                return 0
            }
            let head = block.load64(Block.head)
            if let limit = urgentLimit(head: head, skipping: skipping, peek: peek) { available = min(available, limit) }
            let wanted = min(available, count)
            var done = 0
            while done < wanted {
                let position = head &+ UInt64(skipping &+ done)
                let run = contiguous(at: position, wanted: wanted &- done)
                copy(run.place, done, run.length)
                done &+= run.length
            }
            guard lock.holds(generation), peek || advance(from: head, to: head &+ UInt64(done)) else { continue }
            lock.release(generation)
            return done
        }
    }

    /// False where a signal handler has read in between.
    @inline(__always) private func advance(from head: UInt64, to newHead: UInt64) -> Bool {
        guard block.moveOn64(Block.head, from: head, to: newHead) else { return false }
        mine.raise64(Layout.head, to: newHead)
        return true
    }

    /// Takes `count` bytes at `position` out without a copy; false, and nothing taken, when somebody else
    /// has read there.
    package func skip(_ count: Int, from position: UInt64) -> Bool {
        let lock = Lock(block, Block.readLock)
        let generation = lock.acquire()
        defer { lock.release(generation) }
        guard block.load64(Block.head) == position, readable() >= count, !has(EndFlag.taken) else { return false }
        return advance(from: position, to: position &+ UInt64(count))
    }

    /// The run at `position` that lies in one piece: where in the slot, and how long it is.
    @inline(__always) func contiguous(at position: UInt64, wanted: Int) -> (place: Int, length: Int) {
        let placement = peer.acquire64(Layout.placement)
        let kind = peersKind(at: position, placement)
        let start = placement >> 1
        let limit = start > position ? Int(min(start &- position, UInt64(wanted))) : wanted
        let offset = Int(position & UInt64(Layout.capacity(kind) - 1))
        return (Layout.ring(end: 1 - end, kind: kind) + offset, min(limit, Layout.capacity(kind) &- offset))
    }

    /// The ring that the peer's byte at `position` lies in. What is unread before a change lies all in the other one:
    /// there is no further change until it has been read.
    @inline(__always) private func peersKind(at position: UInt64, _ placement: UInt64) -> UInt32 {
        UInt32(placement & 1) ^ (placement >> 1 > position ? 1 : 0)
    }

    /// The capacity of the ring that the next byte to read lies in.
    package var readCapacity: Int {
        Layout.capacity(peersKind(at: block.load64(Block.head), peer.acquire64(Layout.placement)))
    }
}

// MARK: - Sending

extension Endpoint {
    /// Bytes that a write may add now.
    @inline(__always) package func writable() -> Int {
        var doubts = 0
        while true {
            let tail = block.load64(Block.tail)
            let (kind, start) = ring(block.load64(Block.placement))
            let head = peerHead(tail: tail)
            let used = tail &- max(head, start)
            if used > UInt64(Layout.capacity(kind)) {
                // Another thread wrote between the loads: look again. While nobody writes, it is the peer, whose head
                // went back just when two threads looked at it.
                if block.load64(Block.tail) == tail { doubts += 1 }
                if doubts < 64 { continue }
                set(EndFlag.violated)
                return 0
            }
            let room = Layout.capacity(kind) - Int(used)
            let grown = kind == 0 && mayGrow(head: head, tail: tail, start: start) ? Layout.largeCapacity : 0
            return limited(room + grown, unread: tail &- head)
        }
    }

    /// Room that SO_SNDBUF and the peer's SO_RCVBUF leave.
    @inline(__always) private func limited(_ room: Int, unread: UInt64) -> Int {
        let own = block.load32(Block.sendLimit)
        let peers = block.load32(Block.peerLimit)
        if own | peers == 0 { return room }
        return min(room, max(smallerLimit(own, peers) - Int(min(unread, 1 << 40)), 0))
    }

    @inline(never) private func smallerLimit(_ own: UInt32, _ peers: UInt32) -> Int {
        Int(own == 0 ? peers : peers == 0 ? own : min(own, peers))
    }

    /// Whether poll should say POLLOUT: half of the ring is free, so that a woken writer has work.
    @inline(__always) package func isWritable() -> Bool {
        let limit = limited(Layout.capacity(ring(block.load64(Block.placement)).kind), unread: 0)
        return writable() >= max(limit / 2, 1)
    }

    /// Copies up to `count` bytes in and publishes them; 0 when the ring is full.
    @inline(__always)
    package func put(from source: UnsafeRawPointer, count: Int, urgent: Bool = false) -> Int {
        var vector = unsafe iovec(iov_base: UnsafeMutableRawPointer(mutating: source), iov_len: count)
        return unsafe withUnsafePointer(to: &vector) {
            unsafe put(Vectors(base: $0, count: 1), behind: 0, count: count, urgent: urgent)
        }
    }

    /// The same from vectors, of which `skipped` bytes were put before.
    @inline(__always)
    package func put(_ vectors: Vectors, behind skipped: Int, count: Int, urgent: Bool) -> Int {
        let lock = Lock(block, Block.writeLock)
        while true {
            let generation = lock.acquire()
            finishInterrupted(lock)
            // As for reading, and before a place is chosen: that may tell the peer of another ring.
            if has(EndFlag.taken) {
                lock.release(generation)
                return 0
            }
            let tail = block.load64(Block.tail)
            let place = choosePlace(tail: tail, count: count)
            let wanted = min(place.room, count)
            if wanted <= 0 {
                lock.release(generation)
                return 0
            }
            var write = unsafe sk_write(
                lock: lock.word, vectors: vectors.base, skipped: skipped, count: wanted, from: tail,
                old_placement: place.old,
                placement: place.new, is_urgent: urgent ? 1 : 0, is_done: 0, outer: nil)
            let isDone = unsafe withUnsafeMutablePointer(to: &write) { write in
                unsafe sk_begin_write(write)
                defer { unsafe sk_end_write(write) }
                // From here on a handler that writes finishes this first; one that did so before has had the place.
                return unsafe (lock.holds(generation) && finish(write)) || write.pointee.is_done != 0
            }
            if isDone && place.new != place.old { giveLargeBack() }
            lock.release(generation)
            if isDone { return wanted }
        }
    }

    /// The peer's head, never ahead of what was written nor behind what was seen before.
    @inline(__always) func peerHead(tail: UInt64) -> UInt64 {
        let known = block.load64(Block.peerHead)
        let head = peer.acquire64(Layout.head)
        let limit = peer.load32(Layout.receiveLimit)
        if limit != block.load32(Block.peerLimit) { block.store32(Block.peerLimit, limit) }
        guard head >= known && head <= tail else { return known }
        block.store64(Block.peerHead, head)
        return head
    }

    /// A reader must have looked at the last change of ring before there is another (Layout.placement).
    @inline(__always) private func maySwitch(head: UInt64, tail: UInt64, start: UInt64) -> Bool {
        (head > start || tail == start) && block.load32(Block.settings) & EndSetting.smallRing == 0
    }

    /// The first change of all has none before it.
    @inline(__always) private func mayGrow(head: UInt64, tail: UInt64, start: UInt64) -> Bool {
        maySwitch(head: head, tail: tail, start: start)
            || (start == 0 && block.load32(Block.settings) & EndSetting.smallRing == 0)
    }

    /// Where bytes behind `tail` go, as `Block.placement` says it, and for how many there is room. Nothing is changed yet.
    @inline(__always) private func choosePlace(tail: UInt64, count: Int) -> (old: UInt64, new: UInt64, room: Int) {
        let old = block.load64(Block.placement)
        let (kind, start) = ring(old)
        var head = block.load64(Block.peerHead)
        var room = limited(
            Layout.capacity(kind) &- Int(truncatingIfNeeded: tail &- max(head, start)), unread: tail &- head)
        if room < count || kind == 1 {
            head = peerHead(tail: tail)
            room = limited(
                Layout.capacity(kind) &- Int(truncatingIfNeeded: tail &- max(head, start)), unread: tail &- head)
        }
        if kind == 0 {
            if room >= count || !mayGrow(head: head, tail: tail, start: start) { return (old, old, room) }
            let grown = limited(Layout.largeCapacity, unread: tail &- head)
            if grown <= room { return (old, old, room) }
            block.store32(Block.smallWrites, 0)
            return (old, tail << 1 | 1, grown)
        }
        if head == tail && count <= Layout.smallCapacity / 4 {
            let small = block.load32(Block.smallWrites) &+ 1
            block.store32(Block.smallWrites, small)
            if small >= 1024 && maySwitch(head: head, tail: tail, start: start) {
                block.store32(Block.smallWrites, 0)
                return (old, tail << 1, limited(Layout.smallCapacity, unread: 0))
            }
        } else if count > Layout.smallCapacity / 4 {
            block.store32(Block.smallWrites, 0)
        }
        return (old, old, room)
    }

    /// After a change of ring.
    @inline(never) private func giveLargeBack() {
        guard ring(block.load64(Block.placement)).kind == 0 else { return }
        unsafe _ = sk_madvise(
            slot.base.advanced(by: Layout.ring(end: end, kind: 1)), Layout.largeCapacity, MADV_REMOVE)
    }

    /// The ring that is written to, and from which position on: one word, so that who takes the lock over finds either
    /// change whole.
    @inline(__always) func ring(_ placement: UInt64) -> (kind: UInt32, start: UInt64) {
        (UInt32(placement & 1), placement >> 1)
    }

    /// Before the first byte that lies there.
    @inline(__always) func publishPlacement() {
        let word = block.load64(Block.placement)
        if mine.load64(Layout.placement) != word { mine.release64(Layout.placement, word) }
    }

    /// For an end that has written nothing: begins in the large ring.
    package func beginLarge() {
        block.store64(Block.placement, 1)
        publishPlacement()
    }

    /// Bytes written that the peer has not read (SIOCOUTQ, and what a close waits for).
    package func unsent() -> Int {
        let tail = block.load64(Block.tail)
        let left = tail &- peerHead(tail: tail)
        return left > UInt64(2 * Layout.largeCapacity) ? 0 : Int(left)
    }
}

// MARK: - How it stands

extension Endpoint {
    /// What the ring and the kernel have said about the peer, in TCP's terms.
    @inline(__always) package func ending() -> Ending {
        let said = peer.acquire32(Layout.state)
        let flags = block.load32(Block.flags)
        let relevant = said & (EndState.finished | EndState.reset)
        if relevant == 0 && flags & (EndFlag.hungUp | EndFlag.violated | EndFlag.broken) == 0 { return Ending() }
        return ending(said: said, flags: flags)
    }

    @inline(never) private func ending(said: UInt32, flags: UInt32) -> Ending {
        if flags & EndFlag.violated != 0 { return Ending(finished: false, reset: true) }
        let finished = said & EndState.finished != 0
        // Both directions had ended before: whatever came then found no connection.
        if finished && flags & EndFlag.writeShut != 0 { return Ending(finished: true) }
        var ending = Ending(finished: finished, reset: said & EndState.reset != 0)
        if flags & EndFlag.hungUp != 0 {
            // A peer that left bytes unread answers as TCP does: with a reset. A write that was swallowed
            // after its end left nothing. So does a listener that is gone before it accepted.
            let left = peer.acquire64(Layout.head) != block.load64(Block.tail)
            if left || (end == 0 && said & EndState.accepted == 0) { ending.reset = true }
            if said & EndState.abortive != 0 { ending.reset = true }
            // The relay was killed: what its program had still in the stream is lost.
            if said & (EndState.relayed | EndState.finished) == EndState.relayed { ending.reset = true }
            if !ending.reset { ending.finished = true }
        }
        return ending
    }
}
