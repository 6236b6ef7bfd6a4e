import CSystem

/// One end that a relay holds, and the stream that stands for it elsewhere. `step` does all that can be done
/// now, in both directions; it is called when either side has news.
@safe
struct RelayedEnd {
    let end: Endpoint
    /// The end's own descriptor.
    let bell: Int32
    let stream: Int32
    /// The kernel's number of the stream's other side, by which who holds it is known.
    let streamCookie: UInt64
    /// The same of the end's own socket, by which the other holders of the end know it.
    let bellCookie: UInt64
    /// Held back until its word has come (`Gate`); -1 for none.
    var gate: Int32
    var hasBegun: Bool
    /// To be looked at again in a moment: its stream may be on its way to who wants the end itself.
    var isDue = false
    var previous: UnsafeMutablePointer<RelayedEnd>? = nil
    var next: UnsafeMutablePointer<RelayedEnd>? = nil
    /// Dropped: an event of the same look may still name it.
    var isGone = false
    fileprivate(set) var incoming = Incoming()
    fileprivate var outgoing = Outgoing()
    /// The bell is watched for room in the ring.
    var wantsRoom: Bool { outgoing.count > 0 }

    init(_ end: Endpoint, bell: Int32, stream: Int32, streamCookie: UInt64, gate: Int32) {
        self.end = end
        self.bell = bell
        self.stream = stream
        self.streamCookie = streamCookie
        bellCookie = cookie(of: bell) ?? 0
        self.gate = gate
        hasBegun = gate < 0
        // What is sent out of band stays at its place: the mark is all that tells it from other bytes.
        var on: Int32 = 1
        _ = unsafe sk_setsockopt(stream, SOL_SOCKET, 10 /* SO_OOBINLINE */, &on, 4)
    }

    enum Outcome: UInt8 { case waits, hasMore, done, broken }

    /// Pieces that one end moves before others have their turn.
    fileprivate static let turn = 16

    mutating func step(_ scratch: Scratch) -> Outcome {
        guard let more = incoming.step(self, scratch), let rest = outgoing.step(self, scratch) else {
            return .broken
        }
        if outgoing.ended && outgoing.count == 0 {
            // Nobody holds the stream any more and all that it sent is through: the relay gives up its hold.
            // Otherwise the other side has shut its sending. Its death says nothing, since others may hold the
            // connection.
            if isLeft { return .done }
            outgoing.passOnEnd(self)
        }
        if incoming.closed && outgoing.closed { return .done }
        return more || rest ? .hasMore : .waits
    }

    /// Some time has passed in which a rival could have read.
    mutating func resume() { incoming.resume(self) }

    /// Makes the rings alone have everything, for one more holder of the end: what the stream brought is in the
    /// ring, and what lies unread in it is in the ring too. False where that can't be.
    mutating func settle(unread: Int, _ scratch: Scratch) -> Bool {
        guard outgoing.step(self, scratch) == false, outgoing.count == 0, !incoming.isRefused else { return false }
        return incoming.settle(unread: unread, self)
    }

    /// Whether something that was written into the stream is not in the ring yet.
    var isBehind: Bool {
        guard !isGone, hasBegun else { return false }
        var unread: Int32 = 0
        return unsafe outgoing.count > 0 || sk_ioctl(stream, 0x541B /* FIONREAD */, &unread) == 0 && unread > 0
    }

    /// Whether the stream's other side is closed everywhere.
    fileprivate var isLeft: Bool {
        var item = pollfd(fd: stream, events: 0, revents: 0)
        var now = timespec(tv_sec: 0, tv_nsec: 0)
        return unsafe sk_ppoll(&item, 1, &now, nil) > 0 && item.revents & Int16(POLLHUP | POLLERR) != 0
    }

    fileprivate var isAlone: Bool { end.block.load32(Block.holders) == 1 }

    /// Gives back what the end has of its own beside its descriptors.
    mutating func free() { outgoing.free() }
}

/// The one buffer of a relay: nothing stays in it from one call to the next.
@safe
struct Scratch {
    let base: UnsafeMutableRawPointer
    static let size = 256 << 10
}

/// The direction from the rings to the stream. Bytes leave the ring only when the other side has read
/// them, for as long as somebody else may read the connection too: a helper that got the descriptor by accident
/// must cost its parent no byte, and who is given the end itself must find every byte in the ring.
@safe
struct Incoming {
    /// Bytes that are in the stream's queue and still in the ring, and where they begin there.
    private var lent = 0
    private var position: UInt64 = 0
    /// One of them is urgent, and may be read before the others.
    private var lentUrgent = false
    /// Bytes that were lent when somebody else read there, and may be in the stream's queue still. Whoever is given the
    /// end instead of the stream misses none of them: what nobody has read is in the ring.
    private var copies = 0
    /// Somebody else reads the ring: nothing more is lent until that one lets bytes lie, or is gone.
    private(set) var isRival = false
    /// Where the ring stood at the last look at a rival.
    private var rivalPosition: UInt64 = 0
    /// Alone, and the other side has begun to read: nobody else will ask for the bytes.
    private var isFree = false
    private var ended = false
    fileprivate private(set) var closed = false
    /// The other side reads no more.
    fileprivate private(set) var isRefused = false
    /// How much is lent: little at first, since what the other side has read in part counts as unread.
    private var portion = 4096
    private static let portionAtMost = 64 << 10

    /// Whether there may be more to do at once; nil when the connection is broken.
    fileprivate mutating func step(_ relayed: RelayedEnd, _ scratch: Scratch) -> Bool? {
        let isAlone = relayed.isAlone
        if isAlone { isRival = false } else { isFree = false }
        var turns = RelayedEnd.turn
        while turns > 0 {
            settle(relayed, isAlone)
            if ended || isRival && !(relayed.end.readable() == 0 && relayed.end.ending().isOver) { break }
            // Of an urgent byte is told at once: all that lies before it goes along.
            if lent > 0 && !relayed.end.isUrgent(behind: lent) { break }
            if lent == 0 { (position, lentUrgent) = (relayed.end.block.load64(Block.head), false) }
            let next = unsafe relayed.end.lookAhead(
                relayed.bell, scratch.base, isFree ? Scratch.size - 1 : portion, behind: lent)
            if next.count == -Int(EAGAIN) { break }
            if next.count < 0 { return nil }
            if next.count == 0 {
                ended = true
                break
            }
            let wrote = pass(next.count, next.endsUrgent, relayed, scratch)
            if wrote == -Int(EAGAIN) { break }
            if wrote < 0 {
                // What the other side still has to say must get through.
                (ended, closed, isRefused) = (true, true, true)
                return false
            }
            lent += wrote
            if next.endsUrgent { lentUrgent = true }
            if isFree { take(relayed) }
            turns -= 1
        }
        if ended && lent == 0 && !closed {
            _ = sk_shutdown(relayed.stream, 1)
            closed = true
        }
        return turns == 0
    }

    /// After a while in which somebody else might have read: who has read all that was lent gets more, if that one lets it lie.
    fileprivate mutating func resume(_ relayed: RelayedEnd) {
        let position = relayed.end.block.load64(Block.head)
        defer { rivalPosition = position }
        var queued: Int32 = 0
        guard isRival, position == rivalPosition, relayed.end.readable() > 0,
            relayed.end.mine.load32(Layout.readSleepers) <= relayed.end.sleepersHere(.reading),
            unsafe sk_ioctl(relayed.stream, 0x5411 /* SIOCOUTQ */, &queued) == 0, queued == 0
        else { return }
        (isRival, copies) = (false, 0)
    }

    /// Puts what was looked at into the stream. To how many bytes of the ring that comes, or minus the errno.
    private func pass(_ count: Int, _ endsUrgent: Bool, _ relayed: RelayedEnd, _ scratch: Scratch) -> Int {
        func send(_ count: Int, _ flags: Int) -> Int {
            let flags = Int32(truncatingIfNeeded: flags | Flag.dontWait | Flag.noSignal)
            return unsafe sk_sendto(relayed.stream, scratch.base, count, flags, nil, 0)
        }
        if !endsUrgent { return send(count, 0) }
        if relayed.end.urgentWaits() {
            let wrote = send(count, Flag.outOfBand)
            // Kernels before 5.15 have no urgent data on Unix sockets.
            if wrote != -Int(EOPNOTSUPP) { return wrote }
        }
        // Received out of band already: it isn't in the stream any more.
        let wrote = count > 1 ? send(count - 1, 0) : 0
        return wrote == count - 1 ? count : wrote
    }

    /// Takes out of the ring what the other side has read.
    private mutating func settle(_ relayed: RelayedEnd, _ isAlone: Bool) {
        guard lent > 0 else { return }
        var queued: Int32 = 0
        _ = unsafe sk_ioctl(relayed.stream, 0x5411 /* SIOCOUTQ */, &queued)
        if queued > 0 {
            if relayed.end.block.load64(Block.head) != position { (isRival, copies, lent) = (true, copies + lent, 0) }
            return
        }
        copies = 0
        // A queue that is thrown away is empty too: the kernel says so by an error.
        if relayed.isLeft && error(of: relayed.stream) != 0 {
            (ended, closed, lent) = (true, true, 0)
            return
        }
        take(relayed)
        portion = min(portion * 2, Incoming.portionAtMost)
        isFree = isAlone && !isRival
    }

    private mutating func take(_ relayed: RelayedEnd) {
        if relayed.end.skip(lent, from: position) {
            relayed.end.received(lent, relayed.bell)
        } else {
            isRival = true
        }
        lent = 0
    }

    /// As `RelayedEnd.settle`: `unread` bytes lie in the stream's queue.
    fileprivate mutating func settle(unread: Int, _ relayed: RelayedEnd) -> Bool {
        // What has left the ring can't go back.
        if lent == 0 { isFree = isFree && unread > 0 }
        guard unread <= lent + copies, unread >= lent || !lentUrgent else { return false }
        let rest = min(unread, lent)
        lent -= rest
        if lent > 0 {
            let read = UInt64(lent)
            take(relayed)
            position &+= read
        }
        (copies, lent) = isRival ? (unread, 0) : (copies, rest)
        return true
    }
}

extension Endpoint {
    /// Whether an urgent byte that nobody has received yet lies behind the next `count`.
    fileprivate func isUrgent(behind count: Int) -> Bool {
        urgentWaits() && peer.acquire64(Layout.urgent) > block.load64(Block.head) &+ UInt64(count)
    }

    /// Copies the bytes behind the next `skipped` out and leaves them in the ring, the urgent one too, which `receive`
    /// takes out of the stream: no more than `size` of them and that one, which is then the last. 0 at the end, or
    /// minus the errno.
    fileprivate func lookAhead(
        _ descriptor: Int32, _ target: UnsafeMutableRawPointer, _ size: Int, behind skipped: Int
    ) -> (count: Int, endsUrgent: Bool) {
        while true {
            // Looked at before the bytes: none come after it.
            let ending = self.ending()
            let isOver = ending.finished || ending.reset || has(EndFlag.readShut)
            let count = unsafe take(into: target, count: size, peek: true, skipping: skipped)
            if count > 0 && urgentFollows(skipped) { return (1, true) }
            if count > 0 {
                let place = skipped + count
                let isNext =
                    unsafe urgentFollows(place)
                    && take(into: target.advanced(by: count), count: 1, peek: true, skipping: place) == 1
                return (isNext ? count + 1 : count, isNext)
            }
            // Whoever else holds the end is to hear of a reset: it is not taken away.
            if ending.reset { return (has(EndFlag.resetReported) ? 0 : -Int(ECONNRESET), false) }
            if isOver {
                let nothing = unsafe Vectors(base: nil, count: 0)
                return (receive(descriptor, nothing, flags: Flag.dontWait | Flag.peek), false)
            }
            if !noticeGone(descriptor) { return (-Int(EAGAIN), false) }
        }
    }
}

private func error(of stream: Int32) -> Int32 {
    var error: Int32 = 0
    var length: UInt32 = 4
    _ = unsafe sk_getsockopt(stream, SOL_SOCKET, 4 /* SO_ERROR */, &error, &length)
    return error
}

/// The direction from the stream to the rings.
@safe
private struct Outgoing {
    /// What the ring took in part: memory of its own until the rest has gone.
    private var held: UnsafeMutableRawPointer? = nil
    private var heldSize = 0
    private var start = 0
    private(set) var count = 0
    private var isUrgent = false
    private(set) var ended = false
    private(set) var closed = false

    /// Whether there may be more to do at once; nil for want of memory.
    mutating func step(_ relayed: RelayedEnd, _ scratch: Scratch) -> Bool? {
        if let held = unsafe held {
            guard let wrote = unsafe put(relayed, held.advanced(by: start), count) else {
                return refuse(relayed, scratch)
            }
            start += wrote
            count -= wrote
            if count > 0 { return false }
            free()
        }
        for _ in 0..<RelayedEnd.turn where !ended {
            // No more than the ring has room for; a little, so that a full one is heard of again.
            let wanted = min(max(relayed.end.writable(), 4096), Scratch.size)
            let got = receive(relayed.stream, scratch, wanted)
            if got == -Int(EAGAIN) || got == -Int(EINTR) { return false }
            if got <= 0 {
                // Thrown away on the other side, or closed there.
                ended = true
                return false
            }
            guard let wrote = unsafe put(relayed, scratch.base, got) else { return refuse(relayed, scratch) }
            if wrote < got { return unsafe keep(scratch.base.advanced(by: wrote), got - wrote) ? false : nil }
        }
        return !ended
    }

    /// As recv, but an urgent byte comes alone. Seen first and then taken, since it may come at any moment; what lies
    /// before it stays so.
    private mutating func receive(_ stream: Int32, _ scratch: Scratch, _ wanted: Int) -> Int {
        let flags = Int32(truncatingIfNeeded: Flag.dontWait)
        let seen = unsafe sk_recvfrom(stream, scratch.base, 1, flags | Int32(truncatingIfNeeded: Flag.peek))
        if seen <= 0 { return seen }
        var isAtMark: Int32 = 0
        isUrgent = unsafe sk_ioctl(stream, 0x8905 /* SIOCATMARK */, &isAtMark) == 0 && isAtMark != 0
        return unsafe sk_recvfrom(stream, scratch.base, isUrgent ? 1 : wanted, flags)
    }

    /// How many bytes the ring took; nil when it takes no more.
    private func put(_ relayed: RelayedEnd, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> Int? {
        var vector = unsafe iovec(iov_base: bytes, iov_len: count)
        let wrote = unsafe withUnsafePointer(to: &vector) {
            unsafe relayed.end.send(
                relayed.bell, Vectors(base: $0, count: 1),
                flags: Flag.dontWait | Flag.noSignal | (isUrgent ? Flag.outOfBand : 0))
        }
        // Written to a peer that is gone, which TCP answers by a reset: the next write is to hear of it.
        if relayed.end.has(EndFlag.broken) { return nil }
        return wrote == -Int(EAGAIN) ? 0 : wrote < 0 ? nil : wrote
    }

    /// Who writes into the stream is refused from now on. What comes the other way he still reads, and then the end: it
    /// would be a reset if there were anything in the stream that nobody has read.
    private mutating func refuse(_ relayed: RelayedEnd, _ scratch: Scratch) -> Bool {
        _ = sk_shutdown(relayed.stream, 0)
        let flags = Int32(truncatingIfNeeded: Flag.dontWait)
        while unsafe sk_recvfrom(relayed.stream, scratch.base, Scratch.size, flags) > 0 {}
        free()
        (ended, closed) = (true, true)
        return false
    }

    private mutating func keep(_ bytes: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        guard let memory = unsafe allocate(count) else { return false }
        unsafe memcpy(memory, bytes, count)
        unsafe held = unsafe memory
        heldSize = count
        (start, self.count) = (0, count)
        return true
    }

    mutating func free() {
        if let held = unsafe held { unsafe _ = sk_munmap(held, heldSize) }
        unsafe held = nil
        count = 0
    }

    mutating func passOnEnd(_ relayed: RelayedEnd) {
        guard !closed else { return }
        _ = relayed.end.shutDown(relayed.bell, how: 1)
        closed = true
    }
}
