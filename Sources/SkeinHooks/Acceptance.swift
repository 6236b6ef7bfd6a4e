import CSystem

// A client that has a connection before its server has accepted it: STP's, and that of another host, whose agent has
// to say it first.

extension Endpoint {
    /// The client's connect isn't over before the server has accepted.
    func beginWaitingForAcceptance() {
        set(EndFlag.unaccepted)
        // Being accepted is an edge for a waiter that wants to write.
        unsafe local.pointee.wantsSpace = true
    }

    /// Sleeps until the server has accepted. 0, or the errno: EAGAIN at the deadline.
    func awaitAcceptance(_ descriptor: Int32, deadline: UInt64) -> Int32 {
        arm(.reading)
        defer { disarm(.reading) }
        while true {
            fullFence()
            if isAccepted() { return 0 }
            if has(EndFlag.hungUp) { return refusal }
            if deadline == UInt64.max {
                // Restarts after a signal exactly where the program's own connect would.
                var byte: UInt64 = 0
                let result = unsafe sk_recvfrom(descriptor, &byte, 8, 0)
                if result == -Int(EINTR) { return EINTR }
                askKernel(descriptor)
                continue
            }
            let now = sk_now()
            if now >= deadline { return EAGAIN }
            let left = deadline - now
            var timeout = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
            var item = pollfd(fd: descriptor, events: bellEvents, revents: 0)
            let result = unsafe sk_ppoll(&item, 1, &timeout, nil)
            if result < 0 { return Int32(-result) }
            noticeHangUp(UInt32(UInt16(bitPattern: item.revents)))
            if result > 0 && !isAccepted() { drain(descriptor) }
        }
    }

    /// A connect by TCP's call that waits, or is made again, until the other host has answered: 0, or minus the errno.
    /// What was refused leaves a socket that can be connected anew, as TCP leaves it.
    func finishConnect(_ descriptor: Int32, deadline: UInt64) -> Int {
        let error = awaitAcceptance(descriptor, deadline: deadline)
        switch error {
        case 0:
            clear(EndFlag.connecting)
            return 0
        case EAGAIN, EINTR:
            // It goes on without us: the next connect that finds it made says so.
            set(EndFlag.connecting)
            return error == EAGAIN ? -Int(EINPROGRESS) : -Int(EINTR)
        default:
            let pending = takeError()
            _ = disconnect(self, descriptor)
            return -Int(pending != 0 ? pending : error)
        }
    }

    /// The deadline of SO_SNDTIMEO for a connect that begins now.
    var connectDeadline: UInt64 { deadline(Block.sendTimeout) }
}
