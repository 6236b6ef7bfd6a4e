import CSystem

/// The byte stream of an endpoint, with TCP's answers. Results are counts or minus the errno.

let pollIn: UInt32 = 0x001
let pollPriority: UInt32 = 0x002
let pollOut: UInt32 = 0x004
let pollError: UInt32 = 0x008
let pollHangUp: UInt32 = 0x010
let pollInNormal: UInt32 = 0x040
let pollOutNormal: UInt32 = 0x100
let pollReadHangUp: UInt32 = 0x2000

extension Arms {
    /// What a wait for these poll bits has to be woken for. Who asks for no bits still hears of the end.
    init(interest: UInt32) {
        self = []
        if interest & (pollIn | pollInNormal | pollPriority | pollReadHangUp) != 0 { insert(.reading) }
        if isEmpty || interest & (pollOut | pollOutNormal) != 0 { insert(.writing) }
    }
}

extension Endpoint {
    /// TCP's poll bits, from the ring and what the kernel has said of the peer.
    @inline(__always) func readiness() -> UInt32 {
        let flags = block.load32(Block.flags)
        let ending = self.ending()
        let receiveShut = ending.finished || ending.reset || flags & EndFlag.readShut != 0
        let sendShut = ending.reset || flags & (EndFlag.writeShut | EndFlag.broken) != 0 || peerRefuses(flags)
        var bits: UInt32 = 0
        if flags & (EndFlag.unaccepted | EndFlag.taken) != 0, let special = stpReadiness(flags) { return special }
        if receiveShut { bits |= pollIn | pollInNormal | pollReadHangUp }
        if receiveShut && sendShut { bits |= pollHangUp }
        let hole = standsAtUrgent() ? 1 : 0
        let waiting = readable() - hole
        if waiting > 0 && waiting >= Int(option(.receiveLowWater)) { bits |= pollIn | pollInNormal }
        if sendShut || isWritable() { bits |= pollOut | pollOutNormal }
        if ending.reset || flags & EndFlag.broken != 0, flags & EndFlag.resetReported == 0 { bits |= pollError }
        if urgentWaits() { bits |= pollPriority }
        return bits
    }

    /// Between STP sockets a peer that has stopped reading refuses what is sent.
    @inline(__always) func peerRefuses(_ flags: UInt32) -> Bool {
        flags & EndFlag.refusesAfterShutdown != 0 && peer.load32(Layout.state) & EndState.readShut != 0
    }

    /// Whether the server has accepted this client; remembered once it has.
    func isAccepted() -> Bool {
        if !has(EndFlag.unaccepted) { return true }
        if peer.acquire32(Layout.state) & EndState.accepted == 0 { return false }
        clear(EndFlag.unaccepted)
        return true
    }

    /// The bits of an STP socket that waits to be accepted or has been taken; nil when neither holds.
    @inline(never) private func stpReadiness(_ flags: UInt32) -> UInt32? {
        if flags & EndFlag.taken != 0 { return pollPriority | pollIn | pollInNormal | pollHangUp }
        if isAccepted() { return nil }
        if !has(EndFlag.hungUp) { return 0 }
        return pollIn | pollInNormal | pollOut | pollOutNormal | pollReadHangUp | pollHangUp
            | (flags & EndFlag.resetReported == 0 ? pollError : 0)
    }

    /// Chooses the ring that writes begin in, and may be bound to (bits of `EndSetting`).
    func setRings(_ settings: UInt32) {
        block.store32(Block.settings, settings)
        if settings & EndSetting.largeRing != 0 && block.load64(Block.tail) == 0 { beginLarge() }
    }

    /// The pending error, once: what SO_ERROR, a read or a write reports.
    func takeError() -> Int32 {
        let flags = block.load32(Block.flags)
        if flags & EndFlag.resetReported != 0 { return 0 }
        if flags & EndFlag.broken != 0 {
            set(EndFlag.resetReported)
            return EPIPE
        }
        let ending = self.ending()
        if !ending.reset { return 0 }
        set(EndFlag.resetReported)
        return ending.finished ? EPIPE : isAccepted() ? ECONNRESET : refusal
    }

    // MARK: Receiving

    func receive(_ descriptor: Int32, _ vectors: Vectors, flags: Int) -> Int {
        if flags & Flag.errorQueue != 0 { return -Int(EAGAIN) }
        let total = vectors.total(discards: flags & Flag.truncate != 0)
        if total < 0 { return total }
        if flags & Flag.outOfBand != 0 { return receiveUrgent(descriptor, vectors, total, flags: flags) }
        let peeks = flags & Flag.peek != 0
        var done = 0
        // What a peek has looked past.
        var hole = 0
        var deadline: UInt64 = 0
        while true {
            if has(EndFlag.taken | EndFlag.passed) {
                if has(EndFlag.taken) { break }
                letRelaysCatchUpIfAny(descriptor)
            }
            if peeks {
                (done, hole) = peek(vectors, count: total, discards: flags & Flag.truncate != 0)
            } else {
                // One that came while the read waited for more ends it.
                if done > 0 && urgentFollows(0) { break }
                if total > 0 { skipUrgent() }
                done += take(vectors, behind: done, count: total - done, discards: flags & Flag.truncate != 0)
            }
            if total == 0 && readable() > 0 { return 0 }
            if done > 0 && (done == total || isEnough(done, of: total, flags: flags)) { break }
            if has(EndFlag.readShut) && !has(EndFlag.hungUp) { askKernel(descriptor) }
            let ending = self.ending()
            if !ending.reset && has(EndFlag.readShut) { break }
            if ending.finished || ending.reset {
                // What came before the end is read first.
                if readable() > (peeks ? done + hole : 0) { continue }
                if done == 0 && ending.finished && !has(EndFlag.hungUp) {
                    // No clean end behind bytes that were written past the hooks.
                    noticeStrays(descriptor)
                    if has(EndFlag.violated) { continue }
                }
                // Behind the peer's end of file a reset is nothing to a reader, as on TCP.
                if done == 0 && ending.reset && !ending.finished {
                    let error = takeError()
                    if error != 0 { return -Int(error) }
                }
                break
            }
            if flags & Flag.dontWait != 0 || has(EndFlag.nonBlocking) {
                if done > 0 { break }
                // An urgent byte has come just now, and maybe others behind it.
                if !peeks && standsAtUrgent() && readable() > 0 { continue }
                if noticeGone(descriptor) { continue }
                return -Int(EAGAIN)
            }
            if deadline == 0 { deadline = self.deadline(Block.receiveTimeout) }
            // The writer may be waiting for the room that was made already.
            if done > 0 && !peeks { wakeWriter(descriptor) }
            let error = waitUntil(
                descriptor, reading: true, needed: peeks ? wanted(of: total, flags: flags) + hole : 1,
                deadline: deadline, hasPart: done > 0)
            if error != 0 {
                if done > 0 { break }
                return -Int(error)
            }
        }
        if done > 0 && !peeks { received(done, descriptor) }
        return done
    }

    /// How many bytes a read waits for: all with MSG_WAITALL, else what SO_RCVLOWAT says.
    private func wanted(of total: Int, flags: Int) -> Int {
        max(flags & Flag.waitAll != 0 ? total : min(Int(option(.receiveLowWater)), total), 1)
    }

    /// Whether a read that has less than it has room for waits no longer: it has what it wants, or an urgent byte comes
    /// next. What a peek leaves in the ring may keep the writer from adding to it.
    private func isEnough(_ done: Int, of total: Int, flags: Int) -> Bool {
        if done >= wanted(of: total, flags: flags) { return true }
        return flags & Flag.peek == 0 ? urgentFollows(0) : done >= Layout.smallCapacity || urgentFollows(done)
    }

    /// What follows bytes that have left the ring: they are counted, and the writer may have waited for their room.
    @inline(__always) func received(_ count: Int, _ descriptor: Int32) {
        let record = unsafe local.pointee.record
        record.store64(SocketTable.Record.bytesIn, record.load64(SocketTable.Record.bytesIn) &+ UInt64(count))
        mine.store32(Layout.processor, UInt32(truncatingIfNeeded: sk_cpu()) &+ 1)
        if unsafe local.pointee.signals { drain(descriptor) }
        if unsafe local.pointee.urgentSocket >= 0 { drainUrgentSocket() }
        wakeWriter(descriptor)
    }

    /// MSG_OOB: 1, or 0 where there is no room for the byte; it is received then, too.
    private func receiveUrgent(_ descriptor: Int32, _ vectors: Vectors, _ total: Int, flags: Int) -> Int {
        guard option(.oobInline) == 0, urgentWaits() else { return -Int(EINVAL) }
        noticeEnd(descriptor)
        let ending = self.ending()
        if ending.reset && !ending.finished { return -Int(ENOTCONN) }
        guard let byte = takeUrgent(peek: flags & Flag.peek != 0) else { return -Int(EINVAL) }
        if unsafe local.pointee.urgentSocket >= 0 { drainUrgentSocket() }
        if total == 0 { return 0 }
        if flags & Flag.truncate == 0 {
            unsafe vectors.forEachPiece(behind: 0, count: 1) { place, _, _ in
                unsafe place.storeBytes(of: byte, as: UInt8.self)
            }
        }
        return 1
    }

    // MARK: Sending

    func send(_ descriptor: Int32, _ vectors: Vectors, flags: Int) -> Int {
        var sending = unsafe sk_sending(end: local, descriptor: descriptor, outer: nil)
        return unsafe withUnsafeMutablePointer(to: &sending) { sending in
            unsafe sk_begin_sending(sending)
            defer { unsafe sk_end_sending(sending) }
            return sendAll(descriptor, vectors, flags)
        }
    }

    @inline(__always) private func sendAll(_ descriptor: Int32, _ vectors: Vectors, _ flags: Int) -> Int {
        var done = 0
        var deadline: UInt64 = 0
        let total = vectors.total()
        if total < 0 { return total }
        if total == 0 { return refused(sendingRefused(descriptor), flags) }
        let urgent = flags & Flag.outOfBand != 0
        while done < total {
            // What was taken before is reported first, and the error by the next call.
            if done > 0 && cannotSend(descriptor) { break }
            let refusal = sendingRefused(descriptor)
            if refusal != 0 { return refused(refusal, flags) }
            if swallows() {
                // TCP takes the first write after the peer closed, and hears the reset then. So does a peer that
                // is there still.
                set(EndFlag.broken)
                if !has(EndFlag.hungUp) {
                    mine.or32(Layout.state, EndState.reset)
                    wakeAll(descriptor)
                }
                return total
            }
            let put = put(vectors, behind: done, count: total - done, urgent: urgent)
            if put > 0 {
                done += put
                if urgent { signalUrgent() }
                if done < total { wakeReader(descriptor) }
                continue
            }
            if unsafe !local.pointee.wantsSpace {
                // Announced first, then one more look: the peer may have made room in between.
                unsafe local.pointee.wantsSpace = true
                fullFence()
                continue
            }
            // For what this call has written, or one that it came into as a signal handler, and finished.
            wakeReader(descriptor)
            if flags & Flag.dontWait != 0 || has(EndFlag.nonBlocking) {
                if done > 0 { break }
                if noticeGone(descriptor) { continue }
                return -Int(EAGAIN)
            }
            if deadline == 0 { deadline = self.deadline(Block.sendTimeout) }
            let error = waitUntil(descriptor, reading: false, deadline: deadline)
            if error != 0 {
                if done > 0 { break }
                return -Int(error)
            }
        }
        return sent(done, descriptor)
    }

    /// What a refused call returns, after SIGPIPE where it is due.
    private func refused(_ error: Int32, _ flags: Int) -> Int {
        if error == EPIPE && flags & Flag.noSignal == 0 { _ = sk_raise(13 /* SIGPIPE */) }
        return -Int(error)
    }

    @inline(__always) private func sent(_ count: Int, _ descriptor: Int32) -> Int {
        let record = unsafe local.pointee.record
        record.store64(SocketTable.Record.bytesOut, record.load64(SocketTable.Record.bytesOut) &+ UInt64(count))
        mine.store32(Layout.processor, UInt32(truncatingIfNeeded: sk_cpu()) &+ 1)
        wakeReader(descriptor)
        return count
    }

    @inline(__always) private func cannotSend(_ descriptor: Int32) -> Bool {
        noticeHint(descriptor)
        return has(EndFlag.writeShut | EndFlag.broken) || ending().reset || swallows()
            || peerRefuses(block.load32(Block.flags))
    }

    @inline(__always) private func sendingRefused(_ descriptor: Int32) -> Int32 {
        noticeEnd(descriptor)
        let own = block.load32(Block.flags)
        if own & (EndFlag.unaccepted | EndFlag.refusesAfterShutdown | EndFlag.taken | EndFlag.passed) != 0 {
            if own & EndFlag.passed != 0 { _ = letRelaysCatchUp(descriptor) }
            if own & EndFlag.taken != 0 || peerRefuses(own) { return EPIPE }
            if !isAccepted() && !has(EndFlag.hungUp) && block.load32(Block.settings) & EndSetting.queuedConnect == 0 {
                return own & EndFlag.nonBlocking != 0 ? EAGAIN : ENOTCONN
            }
        }
        if ending().reset {
            let error = takeError()
            return error != 0 ? error : EPIPE
        }
        if own & (EndFlag.writeShut | EndFlag.broken) != 0 {
            if own & EndFlag.writeShut == 0 { _ = takeError() }
            return EPIPE
        }
        return 0
    }

    /// Whether what is written now is taken and lost, as TCP takes what the peer then answers with a reset: the peer
    /// is gone, or has ended both directions.
    @inline(__always) func swallows() -> Bool {
        let both = EndState.finished | EndState.readShut
        return has(EndFlag.hungUp) || peer.load32(Layout.state) & both == both
    }

    /// Bytes that the next write takes at once, after waiting for some; minus the errno when it must not wait.
    func waitForRoom(_ descriptor: Int32, blocks: Bool) -> Int {
        var deadline: UInt64 = 0
        while true {
            let room = writable()
            if room > 0 || ending().reset || swallows() { return max(room, 1) }
            if !blocks { return -Int(EAGAIN) }
            if deadline == 0 { deadline = self.deadline(Block.sendTimeout) }
            let error = waitUntil(descriptor, reading: false, deadline: deadline)
            if error != 0 { return -Int(error) }
        }
    }

    // MARK: Ends

    /// Whether TCP would have left the connection by now: it was reset, or both directions have ended.
    func isClosed() -> Bool {
        let ending = self.ending()
        return ending.reset || has(EndFlag.broken) || (ending.finished && has(EndFlag.writeShut))
    }

    func shutDown(_ descriptor: Int32, how: Int32) -> Int {
        guard how >= 0 && how <= 2 else { return -Int(EINVAL) }
        askKernel(descriptor)
        if isClosed() { return -Int(ENOTCONN) }
        if how != 0 {
            if has(EndFlag.passed) { letRelaysFinish(descriptor) }
            set(EndFlag.writeShut)
            mine.or32(Layout.state, EndState.finished)
            wakeAll(descriptor)
        }
        if how != 1 {
            set(EndFlag.readShut)
            mine.or32(Layout.state, EndState.readShut)
            if has(EndFlag.refusesAfterShutdown) { wakeAll(descriptor) }
        }
        if has(EndFlag.readShut) && has(EndFlag.writeShut) {
            // In one call or in two: what still comes is answered by a reset, as on TCP (`swallows`). The Unix socket
            // stays whole for the peer: its hang-up says that somebody has gone, and nobody has.
            wakeAll(descriptor)
        }
        if how != 1 { wakeOwnSleepers(descriptor, .reading) }
        if how != 0 { wakeOwnSleepers(descriptor, .writing) }
        return 0
    }

    /// The end is given away: threads that sleep on it without a limit are to hear of the taking, which rings no bell.
    /// They look again, and then after a while each time.
    func wakeForGift(_ descriptor: Int32) {
        let published = mine.load32(Layout.readSleepers) &+ mine.load32(Layout.writeSleepers)
        let sleepers = max(published, sleepersHere(.reading) &+ sleepersHere(.writing))
        if sleepers == 0 || has(EndFlag.deaf) { return }
        if unsafe local.pointee.registrations > 0 && sleepers <= idleArms(of: local) { return }
        set(EndFlag.deaf)
        _ = sk_shutdown(descriptor, 0)
    }

    /// Threads of this end that are blocked in what was shut. A bell comes from the peer alone; what wakes
    /// a sleeper without it is the end of reading in the kernel, which costs the bells from then on.
    func wakeOwnSleepers(_ descriptor: Int32, _ kind: Arms) {
        // The published count covers other processes of this end; the peer may have changed it.
        let published = mine.load32(kind == .reading ? Layout.readSleepers : Layout.writeSleepers)
        let sleepers = max(published, sleepersHere(kind))
        if sleepers == 0 { return }
        let inSets = unsafe local.pointee.registrations > 0 ? wakeSets(of: local, kind) : 0
        if sleepers <= inSets || has(EndFlag.deaf) { return }
        set(EndFlag.deaf)
        _ = sk_shutdown(descriptor, 0)
    }
}
