import CSystem
import Synchronization

// A connection that leaves for where the header may not be: a program that is executed, a stranger that
// is sent the descriptor. A small process keeps the end and pumps between the rings and an ordinary Unix
// stream socket, which the other side gets in the descriptor's place. The peer notices nothing.

/// A relay that has been started and may still be called back.
struct Relay {
    /// The stream that stands in for the end, close-on-exec.
    var stream: Int32
    /// Closed by an exec that succeeds, or told what to do by a byte of `Gate`.
    var gate: Int32
}

/// Starts a relay for the end behind `descriptor`; nil when the system refuses. It waits at its gate.
func startRelay(_ end: Endpoint, _ descriptor: Int32) -> Relay? {
    guard unsafe process.mayRelay, let pair = namedPair(relayName(end)) else { return nil }
    var gate: (Int32, Int32) = (-1, -1)
    let made = unsafe withUnsafeMutableBytes(of: &gate) {
        unsafe sk_socketpair(AF_UNIX, 1 | Flag.closeOnExec, 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
    }
    guard made == 0 else {
        _ = sk_close(pair.ours)
        _ = sk_close(pair.theirs)
        return nil
    }
    let generation = lockProcess()
    end.block.add32(Block.holders, 1)
    end.set(EndFlag.forked)
    // Neither child is the program's: no SIGCHLD, nothing for its wait to find.
    let first = sk_clone_silently()
    if first == 0 {
        if sk_clone_silently() == 0 {
            resetProcessLock()
            runRelay(end, descriptor, pair.ours, gate.0)
        }
        sk_exit(0)
    }
    unlockProcess(generation)
    _ = sk_close(pair.ours)
    _ = sk_close(gate.0)
    if first < 0 {
        end.block.subtract32(Block.holders, 1)
        _ = sk_close(pair.theirs)
        _ = sk_close(gate.1)
        return nil
    }
    _ = sk_wait4(Int32(first), nil, 0x4000_0000 /* __WALL */)
    return Relay(stream: pair.theirs, gate: gate.1)
}

/// A connected pair of stream sockets of which ours has a name, for the other's getpeername.
private func namedPair(_ text: Text) -> (ours: Int32, theirs: Int32)? {
    let name = HiddenName(text)
    let listener = sk_socket(AF_UNIX, 1 | Flag.closeOnExec, 0)
    guard listener >= 0 else { return nil }
    defer { _ = sk_close(Int32(listener)) }
    var address = name.address
    guard unsafe sk_bind(Int32(listener), &address, name.length) == 0, sk_listen(Int32(listener), 1) == 0 else {
        return nil
    }
    let theirs = sk_socket(AF_UNIX, 1 | Flag.closeOnExec, 0)
    guard theirs >= 0 else { return nil }
    guard unsafe sk_connect(Int32(theirs), &address, name.length) == 0 else {
        _ = sk_close(Int32(theirs))
        return nil
    }
    let ours = sk_accept4(Int32(listener), nil, nil, Flag.closeOnExec)
    guard ours >= 0 else {
        _ = sk_close(Int32(theirs))
        return nil
    }
    return (Int32(ours), Int32(theirs))
}

/// What a relay is told at its gate. The end of file says that its maker is gone, by exec as a rule.
private enum Gate {
    /// Begin; the maker goes on, and holds the connection too.
    static let go: UInt8 = 103
    /// The exec failed.
    static let neverMind: UInt8 = 120
}

extension Relay {
    /// The maker stays: it has passed the stream on.
    func begin() { tell(Gate.go) }
    /// The exec failed: the relay ends and has touched nothing.
    func callBack() {
        tell(Gate.neverMind)
        _ = sk_close(stream)
    }

    private func tell(_ word: UInt8) {
        var word = word
        _ = unsafe sk_write(gate, &word, 1)
        _ = sk_close(gate)
    }
}

// MARK: - The relay's own process

private func runRelay(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32, _ gate: Int32) -> Never {
    // High numbers of its own, then nothing else open: it must keep nobody's files or pipes alive.
    let kept = hiddenCopy(of: descriptor)
    let side = hiddenCopy(of: stream)
    let wait = hiddenCopy(of: gate)
    guard kept >= 0, side >= 0, wait >= 0 else { sk_exit(1); fatalError() }
    var numbers = (kept, side, wait)
    if numbers.0 > numbers.1 { swap(&numbers.0, &numbers.1) }
    if numbers.1 > numbers.2 { swap(&numbers.1, &numbers.2) }
    if numbers.0 > numbers.1 { swap(&numbers.0, &numbers.1) }
    var from: UInt32 = 0
    for number in [UInt32(numbers.0), UInt32(numbers.1), UInt32(numbers.2)] {
        if number > from { _ = sk_close_range(from, number - 1, 0) }
        from = number + 1
    }
    _ = sk_close_range(from, UInt32.max, 0)
    unsafe sk_become_background("skein-relay")
    unsafe descriptorTable = nil
    identifyProcess()
    unsafe process.spinPolicy = .off
    unsafe end.local.pointee.record = withProcessLock { unsafe process.table.claim() }
    installEndpoint(end, kept)
    end.forgetSleepers()
    unsafe end.local.pointee.registrations = 0
    var word: UInt8 = 0
    let told = unsafe sk_read(wait, &word, 1)
    // The exec has taken the maker's own descriptors, and with them its hold.
    if told == 0 { end.block.subtract32(Block.holders, 1) }
    if told == 0 || word == Gate.go {
        _ = sk_close(wait)
        unsafe pump(Endpoint(end.local), kept, side)
    }
    _ = hookClose(kept)
    sk_exit(0)
    fatalError()
}

/// The direction from the rings to the stream. Bytes leave the ring only when the other side has read
/// them, for as long as the program that was left behind may read the connection too: a helper that got the
/// descriptor by accident must cost its parent no byte.
@safe
private struct Incoming {
    let buffer: UnsafeMutableRawPointer
    /// Bytes that are in the stream's queue and still in the ring, and where they begin there.
    var lent = 0
    var position: UInt64 = 0
    /// Somebody else reads the ring: nothing more is lent while there is somebody else.
    var rival = false
    var ended = false
    var closed = false
    /// How long to wait until the next look at what no event tells, in nanoseconds.
    var patience: UInt64 = Incoming.shortest

    static let size = 256 << 10
    /// How much is lent: little at first, since what the other side has read in part counts as unread.
    var portion = 4096
    static let portionAtMost = 64 << 10
    static let shortest: UInt64 = 200_000
    static let longest: UInt64 = 1_000_000_000
}

/// The direction from the stream to the rings.
@safe
private struct Outgoing {
    let buffer: UnsafeMutableRawPointer
    var start = 0
    var count = 0
    var ended = false
    var closed = false
    static let size = 256 << 10
}

private func pump(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32) {
    // Not from malloc: the process was cloned from one whose other threads may hold its locks.
    guard let first = unsafe allocate(Incoming.size), let second = unsafe allocate(Outgoing.size) else { return }
    var incoming = unsafe Incoming(buffer: first)
    var outgoing = unsafe Outgoing(buffer: second)
    while !(incoming.closed && outgoing.closed) {
        let alone = end.block.load32(Block.holders) == 1
        var items = (pollfd(fd: -1, events: 0, revents: 0), pollfd(fd: stream, events: 0, revents: 0))
        if incoming.lent == 0 && !incoming.ended && (alone || !incoming.rival) { items.0.events |= Int16(POLLIN) }
        if outgoing.count > 0 { items.0.events |= Int16(POLLOUT) }
        if items.0.events != 0 { items.0.fd = descriptor }
        if alone && incoming.lent > 0 { items.1.events |= Int16(POLLOUT) }
        if outgoing.count == 0 && !outgoing.ended { items.1.events |= Int16(POLLIN) }
        let looksAgain = !alone && (incoming.lent > 0 || incoming.rival)
        let limit = looksAgain ? sk_now() &+ incoming.patience : UInt64.max
        let result = unsafe withUnsafeMutableBytes(of: &items) {
            unsafe pollAll($0.baseAddress!.assumingMemoryBound(to: pollfd.self), 2, deadline: limit, mask: nil)
        }
        if result < 0 && result != -Int(EINTR) { return }
        incoming.patience =
            result == 0
            ? min(incoming.patience * 2, incoming.rival ? Incoming.longest : Patience.shortest) : Incoming.shortest
        if !incoming.step(end, descriptor, stream, alone: alone) || !outgoing.step(end, descriptor, stream) { return }
        // Nobody holds the stream any more and all that it sent is through: the relay gives up its hold.
        if outgoing.ended && outgoing.count == 0 && isLeft(stream) { return }
        outgoing.passOnEnd(end, descriptor)
    }
}

extension Incoming {
    /// False when the stream or the connection is broken.
    mutating func step(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32, alone: Bool) -> Bool {
        settle(end, stream, alone)
        if lent == 0 && !ended && (alone || !rival) {
            position = end.block.load64(Block.head)
            var vector = unsafe iovec(iov_base: buffer, iov_len: alone ? Incoming.size : portion)
            let got = unsafe withUnsafePointer(to: &vector) {
                unsafe end.receive(descriptor, Vectors(base: $0, count: 1), flags: Flag.dontWait | Flag.peek)
            }
            if got == 0 { ended = true }
            if got < 0 && got != -Int(EAGAIN) { return false }
            if got > 0 {
                let wrote = unsafe sk_sendto(
                    stream, buffer, got, Int32(truncatingIfNeeded: Flag.dontWait | Flag.noSignal), nil, 0)
                if wrote < 0 && wrote != -Int(EAGAIN) {
                    // The other side reads no more. What it still has to say must get through.
                    (ended, closed) = (true, true)
                    return true
                }
                lent = max(wrote, 0)
                settle(end, stream, alone)
            }
        }
        if ended && lent == 0 && !closed {
            _ = sk_shutdown(stream, 1)
            closed = true
        }
        return true
    }

    /// Takes out of the ring what the other side has read, or alone can read.
    private mutating func settle(_ end: Endpoint, _ stream: Int32, _ alone: Bool) {
        guard lent > 0 else { return }
        var queued: Int32 = 0
        if !alone { _ = unsafe sk_ioctl(stream, 0x5411 /* SIOCOUTQ */, &queued) }
        if queued == 0 {
            if end.skip(lent, from: position) {
                unsafe end.received(lent, end.local.pointee.descriptor)
                portion = min(portion * 2, Incoming.portionAtMost)
            } else {
                rival = true
            }
            lent = 0
        } else if end.block.load64(Block.head) != position {
            rival = true
            lent = 0
        }
    }
}

extension Outgoing {
    mutating func step(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32) -> Bool {
        if count == 0 && !ended {
            let got = unsafe sk_recvfrom(stream, buffer, Outgoing.size, Int32(truncatingIfNeeded: Flag.dontWait))
            if got > 0 {
                start = 0
                count = got
            } else if got == 0 {
                ended = true
            } else if got != -Int(EAGAIN) && got != -Int(EINTR) {
                return false
            }
        }
        if count > 0 {
            var vector = unsafe iovec(iov_base: buffer.advanced(by: start), iov_len: count)
            let wrote = unsafe withUnsafePointer(to: &vector) {
                unsafe end.send(descriptor, Vectors(base: $0, count: 1), flags: Flag.dontWait | Flag.noSignal)
            }
            if wrote > 0 {
                start += wrote
                count -= wrote
            } else if wrote != -Int(EAGAIN) {
                return false
            }
        }
        return true
    }

    /// The other side has shut its sending; not what its death means, since others may hold the connection.
    mutating func passOnEnd(_ end: Endpoint, _ descriptor: Int32) {
        guard ended && count == 0 && !closed else { return }
        _ = end.shutDown(descriptor, how: 1)
        closed = true
    }
}

/// Whether the stream's other end is closed everywhere.
private func isLeft(_ stream: Int32) -> Bool {
    var item = pollfd(fd: stream, events: 0, revents: 0)
    var now = timespec(tv_sec: 0, tv_nsec: 0)
    return unsafe sk_ppoll(&item, 1, &now, nil) > 0 && item.revents & Int16(POLLHUP | POLLERR) != 0
}
