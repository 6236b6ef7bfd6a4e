import CSystem

/// The kernel's half of a connection: bells through the Unix socket, and hang-up.
///
/// A bell is an empty packet: a hint to look, never counted. A program that reads the descriptor
/// without us sees end of file, never a byte that is not the connection's.
extension Endpoint {
    /// Wakes the peer's readers if any sleep. Call after bytes or an end were published.
    @inline(__always) package func wakeReader(_ descriptor: Int32) {
        fullFence()
        if peer.load32(Layout.readSleepers) != 0 { ring(descriptor) }
    }

    /// Wakes the peer's writers if any sleep and enough is free to be worth it.
    @inline(__always) package func wakeWriter(_ descriptor: Int32) {
        fullFence()
        if peer.load32(Layout.writeSleepers) != 0 { ringIfHalfFree(descriptor) }
    }

    /// Wakes whoever of the peer sleeps, for whatever: its connection ends.
    package func wakeAll(_ descriptor: Int32) {
        fullFence()
        if peer.load32(Layout.readSleepers) | peer.load32(Layout.writeSleepers) != 0 { ring(descriptor) }
    }

    @inline(never) private func ringIfHalfFree(_ descriptor: Int32) {
        let unread = peer.acquire64(Layout.tail) &- block.load64(Block.head)
        if unread <= UInt64(readCapacity / 2) { ring(descriptor) }
    }

    /// One bell for each sleeper of either kind: they share one queue (the model in Tests/Models says why).
    @inline(never) package func ring(_ descriptor: Int32) {
        let sleepers = peer.load32(Layout.readSleepers) &+ peer.load32(Layout.writeSleepers)
        for _ in 0..<min(max(sleepers, 1), 16) {
            let result = sk_sendto(
                descriptor, nil, 0, Int32(truncatingIfNeeded: Flag.dontWait | Flag.noSignal), nil, 0)
            count(SocketTable.Record.bells)
            if result == -Int(EPIPE) || result == -Int(ECONNRESET) { return askKernel(descriptor) }
            if result < 0 { return }
        }
    }

    /// Takes one bell out of the queue. Only for who knows that nobody else of this end waits for it; see below.
    package func drain(_ descriptor: Int32) {
        var byte: UInt64 = 0
        let got = unsafe sk_recvfrom(descriptor, &byte, 8, Int32(truncatingIfNeeded: Flag.dontWait))
        // Not a bell: somebody of the other end wrote past the hooks. Those bytes have no place in the
        // stream, so the connection is reset rather than silently short of them.
        if got > 0 { set(EndFlag.violated) }
    }

    /// Drains a bell that says nothing to a sleeper with that interest. False where another sleeper has
    /// use for it: then it stays, and the caller lets that one run. Who waits for news alone (edges) has no interest in
    /// this sense: others of its kind may wait for what it has seen already. `own` counts the caller's own arms,
    /// where they are still on; `isReady` is what the caller waits for, which it looks at again anyway.
    ///
    /// The bell is seen first, then everybody's condition, then that very bell is taken, under a lock against
    /// others who do the same: what was queued before the look says nothing new, and a bell that comes after
    /// it stays, so no sleeper is robbed of one (Tests/Models).
    package func drain(_ descriptor: Int32, for interest: Arms, own: Arms, isReady: () -> Bool) -> Bool {
        // Nobody else drains here: no lock, and no system call for seeing the bell.
        if sk_is_single_threaded() != 0 && block.load32(Block.holders) == 1 {
            return drainUnlessDue(descriptor, for: interest, own: own)
        }
        let lock = Lock(block, Block.drainLock)
        let generation = lock.acquire()
        defer { lock.release(generation) }
        var byte: UInt64 = 0
        let seen = unsafe sk_recvfrom(
            descriptor, &byte, 8, Int32(truncatingIfNeeded: Flag.dontWait | Flag.peek))
        if seen < 0 || isReady() { return true }
        return drainUnlessDue(descriptor, for: interest, own: own)
    }

    private func drainUnlessDue(_ descriptor: Int32, for interest: Arms, own: Arms) -> Bool {
        let readers = mine.load32(Layout.readSleepers) &- (own.contains(.reading) ? 1 : 0)
        let writers = mine.load32(Layout.writeSleepers) &- (own.contains(.writing) ? 1 : 0)
        // What the caller itself waits for has been seen to be false.
        if !interest.contains(.reading) && readers != 0 && (readable() > 0 || ending().isOver) { return false }
        if !interest.contains(.writing) && writers != 0 && isWritable() { return false }
        drain(descriptor)
        return true
    }

    /// Looks, without taking anything, for packets that are no bells: bytes that somebody wrote past the hooks.
    package func noticeStrays(_ descriptor: Int32) {
        var count: Int32 = 0
        if unsafe sk_ioctl(descriptor, 0x541B /* FIONREAD */, &count) == 0 && count > 0 { set(EndFlag.violated) }
    }

    /// Asks the kernel whether any holder of the other end is left, and whether what lies in the queue are bells.
    package func askKernel(_ descriptor: Int32) {
        unsafe local.pointee.seenHint = peer.load32(Layout.hint)
        var poll = pollfd(fd: descriptor, events: bellEvents, revents: 0)
        var now = timespec(tv_sec: 0, tv_nsec: 0)
        if unsafe sk_ppoll(&poll, 1, &now, nil) > 0 {
            noticeHangUp(UInt32(UInt16(bitPattern: poll.revents)))
            if poll.revents & Int16(POLLIN) != 0 && !has(EndFlag.hungUp) { noticeStrays(descriptor) }
        }
    }

    /// What to ask poll for, to hear a bell or the end.
    @inline(__always) package var bellEvents: Int16 { has(EndFlag.deaf) ? 0 : Int16(POLLIN) | readHangUp }

    /// Takes in what poll said of the Unix socket. No honest peer ends its sending in the kernel while it lives: one
    /// that does counts as gone, since the end of file that it leaves behind would be a bell without end.
    package func noticeHangUp(_ said: UInt32) {
        let half = said & UInt32(readHangUp) != 0 && !has(EndFlag.deaf)
        guard half || said & UInt32(POLLHUP | POLLERR) != 0, !has(EndFlag.hungUp) else { return }
        // First: the end must not look clean to another thread meanwhile.
        unsafe noticeStrays(local.pointee.descriptor)
        // A reset behind an orderly end: reading ends well, writing doesn't.
        let both = EndState.finished | EndState.abortive
        if peer.acquire32(Layout.state) & both == both && !has(EndFlag.writeShut) { set(EndFlag.broken) }
        set(EndFlag.hungUp)
    }

    /// As `noticeHint`, for who may never wait: also asks whenever the coarse clock has ticked. A peer that
    /// was killed leaves no hint.
    @inline(__always) package func noticeEnd(_ descriptor: Int32) {
        let now = sk_now_coarse()
        if unsafe now != local.pointee.asked {
            unsafe local.pointee.asked = now
            if !has(EndFlag.hungUp) { askKernel(descriptor) }
        } else {
            noticeHint(descriptor)
        }
    }

    /// Asks the kernel only if the peer has closed something since the last time.
    @inline(__always) package func noticeHint(_ descriptor: Int32) {
        if unsafe peer.load32(Layout.hint) != local.pointee.seenHint { askKernel(descriptor) }
    }
}

/// Linux's POLLRDHUP, which not every header of the C library has.
private let readHangUp: Int16 = 0x2000

/// For which of its two counts an end has a sleeper.
package struct Arms: OptionSet {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let reading = Arms(rawValue: 1)
    package static let writing = Arms(rawValue: 2)
}

extension Endpoint {
    package func arm(_ arms: Arms) {
        if arms.contains(.reading) {
            sleepers.add32(place(.reading), 1)
            mine.add32(Layout.readSleepers, 1)
        }
        if arms.contains(.writing) {
            sleepers.add32(place(.writing), 1)
            mine.add32(Layout.writeSleepers, 1)
        }
    }

    package func disarm(_ arms: Arms) {
        if arms.contains(.reading) {
            mine.subtract32(Layout.readSleepers, 1)
            sleepers.subtract32(place(.reading), 1)
        }
        if arms.contains(.writing) {
            mine.subtract32(Layout.writeSleepers, 1)
            sleepers.subtract32(place(.writing), 1)
        }
    }

    /// Sleepers of this process alone. The published counts lie where the peer can write: nothing that
    /// decides about our own memory goes by them.
    package func sleepersHere(_ kind: Arms) -> UInt32 { sleepers.load32(place(kind)) }

    /// For a forked child: whoever sleeps is its parent's.
    package func forgetSleepers() {
        sleepers.store32(place(.reading), 0)
        sleepers.store32(place(.writing), 0)
    }

    private var sleepers: SharedMemory { unsafe SharedMemory(UnsafeMutableRawPointer(local)) }
    private func place(_ kind: Arms) -> Int { kind == .reading ? 0 : 4 }

    /// Whether others of this end sleep too: all share one queue of bells.
    @inline(__always) package func hasOtherSleepers(than own: Arms) -> Bool {
        let count: UInt32 = own == [.reading, .writing] ? 2 : own.isEmpty ? 0 : 1
        return mine.load32(Layout.readSleepers) &+ mine.load32(Layout.writeSleepers) > count
    }
}

/// For who has left a bell to another sleeper.
package func letOthersRun() {
    var moment = timespec(tv_sec: 0, tv_nsec: 500_000)
    _ = unsafe sk_ppoll(nil, 0, &moment, nil)
}

/// Flags and commands that reach Swift as differing types, as plain integers.
package enum Flag {
    package static let dontWait: Int = 0x40
    package static let noSignal: Int = 0x4000
    package static let peek: Int = 2
    package static let outOfBand: Int = 1
    package static let waitAll: Int = 0x100
    package static let waitForOne: Int = 0x10000
    package static let truncate: Int = 0x20
    package static let errorQueue: Int = 0x2000
    package static let fastOpen: Int = 0x2000_0000
    package static let nonBlock: Int32 = 0o4000
    package static let closeOnExec: Int32 = 0o2000000
    package static let async: Int32 = 0o20000
}
