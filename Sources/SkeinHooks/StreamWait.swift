import CSystem

/// How a read or write of an endpoint waits: it spins, arms, and sleeps in the kernel until the bell comes.
extension Endpoint {
    func deadline(_ timeout: Int) -> UInt64 {
        let nanoseconds = block.load64(timeout)
        return nanoseconds == 0 ? UInt64.max : sk_now() &+ nanoseconds
    }

    /// A read or write that found nothing to do asks the kernel now and then whether the peer lives.
    func noticeGone(_ descriptor: Int32) -> Bool {
        if has(EndFlag.hungUp) { return false }
        if unsafe peer.load32(Layout.hint) == local.pointee.seenHint {
            let now = sk_now()
            if unsafe now &- process.lastKernelLook < 20_000 { return false }
            unsafe process.lastKernelLook = now
        }
        askKernel(descriptor)
        return has(EndFlag.hungUp)
    }

    @inline(__always) private func isReady(_ reading: Bool, _ needed: Int = 1) -> Bool {
        if reading {
            if readable() >= needed || has(EndFlag.readShut) { return true }
        } else {
            if isWritable() || has(EndFlag.writeShut) || peerRefuses(block.load32(Block.flags)) || swallows() {
                return true
            }
        }
        let ending = self.ending()
        return unsafe ending.reset || (reading && ending.finished)
            || has(EndFlag.hungUp) || peer.load32(Layout.hint) != local.pointee.seenHint
    }

    /// Waits until reading or writing has something to do. 0, or the errno that ends the call: EINTR for every signal
    /// where the call has a part to return.
    func waitUntil(
        _ descriptor: Int32, reading: Bool, needed: Int = 1, deadline: UInt64, hasPart: Bool = false
    ) -> Int32 {
        // A peer that promises something again and again, and has nothing, must not outlast the deadline.
        if deadline != UInt64.max && sk_now() >= deadline { return EAGAIN }
        let needed = min(needed, Layout.smallCapacity)
        noticeHint(descriptor)
        if unsafe local.pointee.spin.wait(
            policy: process.spinPolicy, peerProcessor: peer.load32(Layout.processor), processors: process.processors,
            ready: { isReady(reading, needed) })
        {
            count(SocketTable.Record.spins)
            noticeHint(descriptor)
            return 0
        }
        ringForInterrupted()
        let arms: Arms = reading ? .reading : .writing
        arm(arms)
        defer { disarm(arms) }
        var patience = Patience()
        while true {
            if isReady(reading, needed) {
                noticeHint(descriptor)
                return 0
            }
            let result = sleep(
                descriptor, reading: reading, needed: needed, &patience, deadline: deadline, restarts: !hasPart)
            if result != 0 { return result }
        }
    }

    /// One sleep in the kernel. 0 to look again, or the errno that ends the wait.
    private func sleep(
        _ descriptor: Int32, reading: Bool, needed: Int, _ patience: inout Patience, deadline: UInt64,
        restarts: Bool
    ) -> Int32 {
        let own: Arms = reading ? .reading : .writing
        let company = self.company(own)
        count(SocketTable.Record.sleeps)
        if deadline == UInt64.max && company == .alone && restarts {
            // Restarts after a signal exactly where the program's own read would; takes the bell with it.
            let result = unsafe Sleep(.receive(descriptor), armed: .end(local, own)).run()
            if result == -Int(EINTR) || result == -Int(EAGAIN) || result == -Int(EBADF) { return Int32(-result) }
            if result > 0 { set(EndFlag.violated) }
            if result < 0 || !isReady(reading, needed) { askKernel(descriptor) }
            return 0
        }
        let now = sk_now()
        if now >= deadline { return EAGAIN }
        let nanoseconds = patience.limit(company, deadline) &- now
        var timeout = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        var item = pollfd(fd: descriptor, events: bellEvents, revents: 0)
        let result = unsafe withUnsafeMutablePointer(to: &item) { item in
            unsafe withUnsafePointer(to: &timeout) {
                unsafe Sleep(.poll(item, 1, $0, nil), armed: .end(local, own)).run()
            }
        }
        if result == -Int(EINTR) && deadline == UInt64.max && restarts, case .restarts = Interruption() { return 0 }
        if result < 0 { return Int32(-result) }
        if result > 0 {
            noticeHangUp(UInt32(UInt16(bitPattern: item.revents)))
            if !has(EndFlag.hungUp) && !isReady(reading, needed) {
                let drained = drain(descriptor, for: own, own: own, isReady: { isReady(reading, needed) })
                if !drained { letOthersRun() }
            }
        }
        return 0
    }
}

/// Before a sleep: a send of this thread that a signal handler has interrupted before its bell gets that now. The
/// handler may wait for what its peer does then.
@inline(__always) func ringForInterrupted() {
    var sending = unsafe sk_sending_here()
    while let one = unsafe sending {
        unsafe Endpoint(one.pointee.end.assumingMemoryBound(to: LocalState.self)).wakeReader(one.pointee.descriptor)
        unsafe sending = unsafe one.pointee.outer
    }
}
