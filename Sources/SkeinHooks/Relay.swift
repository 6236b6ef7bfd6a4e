import CSystem
import Synchronization

// A connection that leaves for where the header may not be: a program that is executed, a stranger that
// is sent the descriptor. A small process, the relay, holds the end too and pumps between the rings and an
// ordinary Unix stream socket, which the other side gets in the descriptor's place. The peer notices nothing.
// A process has one relay, started when it first hands an end on, and reaches it through a hidden channel.

/// The way to this process's relay. Change it under the process lock.
struct RelayLink {
    /// Hidden; -1 where there is no relay.
    var channel: Int32 = -1
    /// The kernel's number of the channel's socket: a program may have closed the number past the hooks.
    var socket: UInt64 = 0
    /// Names the relay's listener, and whose process it is.
    var identity: UInt32 = 0
    var user: UInt32 = 0

    mutating func moved(_ from: Int32, to: Int32) {
        if channel == from { channel = to }
    }

    fileprivate var isOurs: Bool { channel >= 0 && cookie(of: channel) == socket }
}

nonisolated(unsafe) var relayLink = RelayLink()
nonisolated(unsafe) private var streamSerial: UInt32 = 0

/// In a forked child: it hands its ends on through a relay of its own, where it may start one.
func leaveRelayToParent() {
    let channel = unsafe relayLink.channel
    if unsafe channel < 0 || !process.mayStartRelay { return }
    if unsafe relayLink.isOurs {
        clearEntry(channel)
        _ = sk_close(channel)
    }
    unsafe relayLink = RelayLink()
}

/// Hands the end behind `descriptor` to the relay. Returns the stream that stands for it, close-on-exec; nil
/// when the system refuses, or where there is no end any more. With a gate the relay waits for its word (`Gate`);
/// without, it begins at once.
func handOver(_ descriptor: Int32, gate: Int32 = -1) -> Int32? {
    guard unsafe process.mayRelay else { return nil }
    unsafe process.keepsMemory = true
    guard let loan = Loan(of: descriptor) else { return nil }
    let stream = handOver(loan.end, loan.descriptor, gate)
    loan.isOver(taken: stream != nil)
    return stream
}

private func handOver(_ end: Endpoint, _ descriptor: Int32, _ gate: Int32) -> Int32? {
    guard var handOver = end.handOver() else { return nil }
    // What was written through other relays comes before what is written through this one.
    end.letRelaysFinish(descriptor)
    // A relay that was killed is noticed here, and replaced.
    for _ in 0..<2 {
        guard let link = currentRelay(), let pair = namedPair(end, link.identity) else { return nil }
        defer { _ = sk_close(pair.ours) }
        guard let cookie = cookie(of: pair.theirs) else { return nil }
        takeSettings(of: end, descriptor, pair.theirs)
        handOver.message.stream = cookie
        end.set(EndFlag.passed)
        end.beginRelaying(by: link.identity, of: link.user)
        let descriptors: InlineArray<5, Int32> = [descriptor, pair.ours, handOver.pool, handOver.block, gate]
        let sent = send(handOver.message, over: link.channel, descriptors, count: gate < 0 ? 4 : 5)
        if sent == MemoryLayout<HandOver>.size { return pair.theirs }
        end.endRelaying(by: link.identity)
        _ = sk_close(pair.theirs)
        guard sent == -Int(EPIPE) || sent == -Int(ECONNRESET) else { return nil }
        forget(link)
    }
    return nil
}

/// An end on its way to the relay, which is one more process with it: counted before it knows.
private struct Loan {
    let end: Endpoint
    /// One of its own where there are threads: another one may close the program's, and have the next connection under
    /// the same number.
    let descriptor: Int32
    private let isCopy: Bool

    init?(of number: Int32) {
        let isCopy = sk_is_single_threaded() == 0
        let lent = withProcessLock { () -> (end: Endpoint, descriptor: Int32)? in
            let word = listed(number)
            guard kind(word) == .endpoint else { return nil }
            let descriptor = isCopy ? Loan.copy(of: number) : number
            // A close takes the entry first, so the copy is of this end.
            guard descriptor >= 0, listed(number) == word else {
                if isCopy && descriptor >= 0 { _ = sk_close(descriptor) }
                return nil
            }
            let end = unsafe Endpoint(UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!)
            end.lend()
            return (end, descriptor)
        }
        guard let lent else { return nil }
        (end, descriptor, self.isCopy) = (lent.end, lent.descriptor, isCopy)
    }

    private static func copy(of number: Int32) -> Int32 {
        let hidden = hiddenCopy(of: number)
        return hidden >= 0 ? hidden : Int32(sk_fcntl(number, F_DUPFD_CLOEXEC, 0))
    }

    func isOver(taken: Bool) {
        if isCopy { _ = sk_close(descriptor) }
        end.endLoan(isTaken: taken)
    }
}

/// What a program has set for the connection, or shut, holds for the stream too.
private func takeSettings(of end: Endpoint, _ descriptor: Int32, _ stream: Int32) {
    _ = sk_fcntl(stream, F_SETFL, sk_fcntl(descriptor, F_GETFL, 0))
    if end.has(EndFlag.writeShut) { _ = sk_shutdown(stream, 1) }
    func take(_ name: Int32, timeout place: Int) {
        // A time that is over at once is one nanosecond.
        let micro = Int((end.block.load64(place) &+ 999) / 1000)
        if micro == 0 { return }
        var limit = timeval(tv_sec: micro / 1_000_000, tv_usec: micro % 1_000_000)
        _ = unsafe sk_setsockopt(stream, SOL_SOCKET, name, &limit, UInt32(MemoryLayout<timeval>.size))
    }
    take(20 /* SO_RCVTIMEO */, timeout: Block.receiveTimeout)
    take(21 /* SO_SNDTIMEO */, timeout: Block.sendTimeout)
    func take(_ name: Int32, _ option: Option, unless usual: Int32 = 0) {
        var value = end.option(option)
        if value != usual { _ = unsafe sk_setsockopt(stream, SOL_SOCKET, name, &value, 4) }
    }
    take(2 /* SO_REUSEADDR */, .reuseAddress)
    take(9 /* SO_KEEPALIVE */, .keepAlive)
    take(10 /* SO_OOBINLINE */, .oobInline)
    take(18 /* SO_RCVLOWAT */, .receiveLowWater, unless: 1)
    var linger = (end.option(.lingerOn), end.option(.lingerSeconds))
    if linger.0 != 0 { _ = unsafe sk_setsockopt(stream, SOL_SOCKET, 13 /* SO_LINGER */, &linger, 8) }
}

/// Sends a message with the first `count` descriptors. Bytes sent, or minus the errno.
func send(_ message: HandOver, over channel: Int32, _ descriptors: InlineArray<5, Int32>, count: Int32) -> Int {
    var message = message
    var descriptors = descriptors
    return unsafe withUnsafeMutableBytes(of: &descriptors) { numbers in
        while true {
            let sent = unsafe sk_send_descriptors(
                channel, &message, MemoryLayout<HandOver>.size,
                numbers.baseAddress!.assumingMemoryBound(to: Int32.self), count,
                Int32(truncatingIfNeeded: Flag.noSignal))
            if sent != -Int(EINTR) { return sent }
        }
    }
}

/// A connected pair of stream sockets of which ours has a name, for the other's getpeername.
private func namedPair(_ end: Endpoint, _ relay: UInt32) -> (ours: Int32, theirs: Int32)? {
    guard let pair = socketPair(type: 1) else { return nil }
    // Threads may have taken the same number.
    for _ in 0..<8 {
        unsafe streamSerial &+= 1
        var name = unsafe relayName(end, relay: relay, serial: streamSerial)
        if unsafe sk_bind(pair.0, &name.address, name.length) == 0 { return (pair.0, pair.1) }
    }
    _ = sk_close(pair.0)
    _ = sk_close(pair.1)
    return nil
}

/// A connected pair of Unix sockets, close-on-exec.
private func socketPair(type: Int32) -> (Int32, Int32)? {
    var pair: (Int32, Int32) = (-1, -1)
    let made = unsafe withUnsafeMutableBytes(of: &pair) {
        unsafe sk_socketpair(
            AF_UNIX, type | Flag.closeOnExec, 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
    }
    return made == 0 ? pair : nil
}

// MARK: - Starting the relay

/// Starts the relay while the program lets us, if there is none.
func reserveRelay() { _ = currentRelay() }

private func currentRelay() -> RelayLink? {
    let link = withProcessLock { unsafe relayLink }
    if link.isOurs { return link }
    guard unsafe process.mayStartRelay, let started = startRelay() else { return nil }
    return withProcessLock {
        // Another thread may have started one meanwhile: that one serves, and this one ends.
        if unsafe relayLink.isOurs {
            clearEntry(started.channel)
            _ = sk_close(started.channel)
        } else {
            unsafe relayLink = started
        }
        return unsafe relayLink
    }
}

private func forget(_ link: RelayLink) {
    withProcessLock {
        guard unsafe relayLink.socket == link.socket else { return }
        clearEntry(unsafe relayLink.channel)
        _ = unsafe sk_close(relayLink.channel)
        unsafe relayLink = RelayLink()
    }
}

/// Makes the channel and the listener, and the process between them.
private func startRelay() -> RelayLink? {
    guard let pair = socketPair(type: 5) else { return nil }
    defer { _ = sk_close(pair.0) }
    guard let (listener, identity) = makeListener() else {
        _ = sk_close(pair.1)
        return nil
    }
    defer { _ = sk_close(listener) }
    // A relay that is stopped holds its maker up for no longer than this, a descriptor.
    var limit = timeval(tv_sec: 1, tv_usec: 0)
    _ = unsafe sk_setsockopt(
        pair.1, SOL_SOCKET, 21 /* SO_SNDTIMEO */, &limit, UInt32(MemoryLayout<timeval>.size))
    let generation = lockProcess()
    // Neither child is the program's: no SIGCHLD, nothing for its wait to find.
    let first = sk_clone_silently()
    if first == 0 {
        if sk_clone_silently() == 0 {
            resetProcessLock()
            runRelay(channel: pair.0, listener: listener, identity: identity)
        }
        sk_exit(0)
    }
    unlockProcess(generation)
    if first > 0 { _ = sk_wait4(Int32(first), nil, 0x4000_0000 /* __WALL */) }
    let channel = first > 0 ? hide(pair.1) : -1
    guard channel >= 0, let cookie = cookie(of: channel) else {
        if first <= 0 { _ = sk_close(pair.1) }
        return nil
    }
    setEntry(channel, nil, .hidden)
    return RelayLink(channel: channel, socket: cookie, identity: identity, user: sk_geteuid())
}

private func makeListener() -> (descriptor: Int32, identity: UInt32)? {
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec | Flag.nonBlock, 0)
    guard made >= 0 else { return nil }
    for _ in 0..<4 {
        var identity: UInt32 = 0
        _ = unsafe sk_getrandom(&identity, 4)
        if identity == 0 { continue }
        var name = relayListenerName(identity)
        if unsafe sk_bind(Int32(made), &name.address, name.length) == 0 && sk_listen(Int32(made), 128) == 0 {
            return (Int32(made), identity)
        }
    }
    _ = sk_close(Int32(made))
    return nil
}

// MARK: - The gate

/// Holds back what has been handed over until an exec or a spawn has happened. All relayed ends of one call
/// share it. The end of file says that the maker is gone, by exec as a rule.
struct Gate {
    /// The relay's side; every message takes a copy along.
    let inner: Int32
    private let outer: Int32

    enum Word {
        /// Begin; the maker goes on, and holds the connection too.
        static let go: UInt8 = 103
        /// The exec failed: the relay has touched nothing and lets go.
        static let neverMind: UInt8 = 120
    }

    init?() {
        guard unsafe process.mayRelay, let pair = socketPair(type: 1) else { return nil }
        inner = hide(pair.0)
        outer = hide(pair.1)
        if inner < 0 || outer < 0 {
            if inner >= 0 { _ = sk_close(inner) }
            if outer >= 0 { _ = sk_close(outer) }
            return nil
        }
    }

    /// The last use of it.
    func say(_ word: UInt8) {
        var word = word
        _ = sk_close(inner)
        _ = unsafe sk_sendto(outer, &word, 1, Int32(truncatingIfNeeded: Flag.noSignal), nil, 0)
        _ = sk_close(outer)
    }
}
