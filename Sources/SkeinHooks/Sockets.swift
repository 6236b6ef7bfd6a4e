import CSystem

// Making, naming and connecting sockets. A TCP socket is the kernel's until it is connected to a
// listener of this host that is under Skein too.

// MARK: socket, bind, listen

@c(socket) public func hookSocket(_ family: Int32, _ type: Int32, _ protocolNumber: Int32) -> Int32 {
    let descriptor = real.socket!(family, type, protocolNumber)
    guard descriptor >= 0, unsafe rules.enabled, family == AF_INET || family == AF_INET6, type & 0xf == 1,
        protocolNumber == 0 || protocolNumber == 6
    else { return descriptor }
    unsafe setEntry(descriptor, makeStreamSocket(family: family), .stream)
    return descriptor
}

@c(bind) public func hookBind(_ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32) -> Int32 {
    let result = unsafe real.bind!(descriptor, address, length)
    if result == 0, let socket = unsafe streamSocket(descriptor) { unsafe socket.pointee.bound = true }
    return result
}

@c(listen) public func hookListen(_ descriptor: Int32, _ backlog: Int32) -> Int32 {
    let result = real.listen!(descriptor, backlog)
    if result == 0 {
        if let socket = unsafe streamSocket(descriptor) {
            unsafe beginListening(descriptor, socket, backlog)
        } else if unsafe descriptorTable != nil || rules.enabled {
            adoptListener(descriptor, backlog)
        }
    }
    return result
}

/// A listener made before this image, or by a parent without us: under Skein from now on.
func adoptListener(_ descriptor: Int32, _ backlog: Int32) {
    var family: Int32 = 0
    var length: UInt32 = 4
    guard unsafe rules.enabled, entry(descriptor) == 0,
        unsafe sk_getsockopt(descriptor, SOL_SOCKET, 39 /* SO_DOMAIN */, &family, &length) == 0,
        family == AF_INET || family == AF_INET6
    else { return }
    var type: Int32 = 0
    length = 4
    guard unsafe sk_getsockopt(descriptor, SOL_SOCKET, 3 /* SO_TYPE */, &type, &length) == 0, type == 1 else { return }
    guard let socket = unsafe makeStreamSocket(family: family) else { return }
    unsafe socket.pointee.nonBlocking = sk_fcntl(descriptor, F_GETFL, 0) & Int(Flag.nonBlock) != 0
    unsafe setEntry(descriptor, socket, .stream)
    unsafe beginListening(descriptor, socket, backlog)
}

private func beginListening(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ backlog: Int32) {
    if unsafe socket.pointee.hidden >= 0 {
        _ = unsafe sk_listen(socket.pointee.hidden, max(backlog, 64))
        return
    }
    guard let bound = boundAddress(descriptor) else { return }
    guard unsafe rules.allows(bound) else { return unsafe recordListener(descriptor, socket, bound, .refusedByRule) }
    if unsafe process.pools.isShort { return unsafe recordListener(descriptor, socket, bound, .noMemory) }
    guard unsafe process.maySetUp else { return unsafe recordListener(descriptor, socket, bound, .filtered) }
    guard let cookie = cookie(of: descriptor) else {
        return unsafe recordListener(descriptor, socket, bound, .kernelRefused)
    }
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec | Flag.nonBlock, 0)
    guard made >= 0 else {
        return unsafe recordListener(descriptor, socket, bound, made == -Int(EMFILE) ? .noDescriptor : .kernelRefused)
    }
    let hidden = hide(Int32(made))
    guard hidden >= 0 else { return unsafe recordListener(descriptor, socket, bound, .noDescriptor) }
    let name = HiddenName(cookie: cookie)
    var address = name.address
    guard unsafe sk_bind(hidden, &address, name.length) == 0, sk_listen(hidden, max(backlog, 64)) == 0 else {
        _ = sk_close(hidden)
        return unsafe recordListener(descriptor, socket, bound, .kernelRefused)
    }
    unsafe socket.pointee.nonBlocking = sk_fcntl(descriptor, F_GETFL, 0) & Int(Flag.nonBlock) != 0
    unsafe beginTranslating(descriptor, socket, hidden, bound)
}

/// The TCP listener has a hidden one beside it from now on.
func beginTranslating(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ hidden: Int32, _ bound: Address
) {
    withProcessLock { unsafe process.pools.keepReserve() }
    // Accept must never block in the kernel on one queue while the other has a connection.
    _ = sk_fcntl(descriptor, F_SETFL, sk_fcntl(descriptor, F_GETFL, 0) | Int(Flag.nonBlock))
    unsafe socket.pointee.hidden = hidden
    unsafe socket.pointee.bound4or6 = bound
    unsafe copySignals(descriptor, socket)
    setEntry(hidden, nil, .hidden)
    unsafe setEntry(descriptor, socket, .listener)
    unsafe recordListener(descriptor, socket, bound, .none)
    unsafe followListener(descriptor, socket)
}

// MARK: connect

@c(connect) public func hookConnect(_ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32) -> Int32 {
    if let end = endpoint(descriptor) {
        // What the kernel finds wrong with an address before it looks at the socket.
        if length < 2 || length > 128 { return Int32(finish(-Int(EINVAL))) }
        if unsafe address == nil { return Int32(finish(-Int(EFAULT))) }
        return Int32(finish(connectAgain(end)))
    }
    guard let socket = unsafe streamSocket(descriptor), unsafe mayConnect(descriptor, socket) else {
        return unsafe real.connect!(descriptor, address, length)
    }
    let savedErrno = sk_errno()
    let target = unsafe Address(address, length: length)
    var reason = Reason.none
    if let target {
        let outcome = unsafe connectThroughMemory(descriptor, socket, target)
        if outcome.connected { return Int32(finish(outcome.result)) }
        if unsafe rules.isStrict && outcome.reason != .refusedByRule {
            logFallBack(descriptor, outcome.reason)
            return Int32(finish(-Int(EHOSTUNREACH)))
        }
        reason = outcome.reason
    }
    sk_set_errno(savedErrno)
    let result = unsafe real.connect!(descriptor, address, length)
    if let target, result == 0 || sk_errno() == EINPROGRESS {
        unsafe recordFallBack(descriptor, socket, target, reason)
        logFallBack(descriptor, reason)
    }
    return result
}

/// A second connect on a connected socket: success once after a non-blocking one, then EISCONN.
private func connectAgain(_ end: Endpoint) -> Int {
    if end.has(EndFlag.connecting) {
        end.clear(EndFlag.connecting)
        let error = end.takeError()
        return error == 0 ? 0 : -Int(error)
    }
    return -Int(EISCONN)
}

private func connectThroughMemory(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ address: Address
) -> (connected: Bool, result: Int, reason: Reason) {
    let target = address.orLoopback()
    guard target.port != 0, unsafe socket.pointee.family == Int32(target.family) else { return (false, 0, .noListener) }
    guard unsafe rules.allows(target) else { return (false, 0, .refusedByRule) }
    guard unsafe process.maySetUp else { return (false, 0, .filtered) }
    guard unsafe socket.pointee.descriptors == 1 && !socket.pointee.shared else { return (false, 0, .duplicated) }
    guard isLocal(target) else { return (false, 0, .notLocal) }
    var client = target
    if unsafe socket.pointee.bound {
        guard let own = boundAddress(descriptor), own.isAny || own.unmapped().sameHost(as: target.unmapped()) else {
            return (false, 0, .boundElsewhere)
        }
        client.port = own.port
    }
    // Also with IP_BIND_ADDRESS_NO_PORT, where connecting is what gives a bound socket its port.
    if unsafe !socket.pointee.bound || client.port == 0 { client.port = nextClientPort() }
    let made = reach(target, from: client, bound: unsafe socket.pointee.bound ? descriptor : -1)
    guard let end = made.endpoint else { return (false, 0, made.reason) }
    // From here on nothing can fail but the exchange of the descriptor itself.
    let statusFlags = sk_fcntl(descriptor, F_GETFL, 0)
    let closeOnExec = sk_fcntl(descriptor, F_GETFD, 0) & 1 != 0
    let registrations = registrationsOf(descriptor)
    if statusFlags & Int(Flag.nonBlock) == 0 { _ = sk_fcntl(made.descriptor, F_SETFL, 0) }
    let signals = unsafe socket.pointee.signals
    if signals { copyOwner(descriptor, to: made.descriptor) }
    let placed = sk_dup3(made.descriptor, descriptor, closeOnExec ? Flag.closeOnExec : 0)
    _ = sk_close(made.descriptor)
    guard placed >= 0 else {
        end.release(connected: false)
        return (false, 0, .noDescriptor)
    }
    unsafe takeOptions(end, from: socket)
    let nonBlocking = statusFlags & Int(Flag.nonBlock) != 0
    if nonBlocking {
        end.set(EndFlag.nonBlocking)
        end.set(EndFlag.connecting)
    }
    installEndpoint(end, descriptor)
    if signals { end.takeSignals(descriptor, statusFlags) }
    unsafe giveBack(socket)
    replay(registrations, descriptor, end)
    return (true, nonBlocking ? -Int(EINPROGRESS) : 0, .none)
}

/// The end that connects to whoever listens there: a TCP listener under Skein, or an STP listener.
private func reach(
    _ target: Address, from client: Address, bound: Int32
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    guard let listener = findListener(target) else {
        let made = connectEndToSTP(target, from: client, bound: bound)
        return made.endpoint == nil ? (nil, -1, .noListener) : made
    }
    var made = connectEnd(to: target, from: client, bound: bound, listener: listener)
    // What was remembered of the listener may be out of date.
    if made.reason == .notUnderSkein, forgetListener(target), let now = findListener(target) {
        made = connectEnd(to: target, from: client, bound: bound, listener: now)
    }
    // The server that had the connection went away before it was greeted: another may hold the listener.
    if made.reason == .kernelRefused { made = connectEnd(to: target, from: client, bound: bound, listener: listener) }
    return made
}

nonisolated(unsafe) private var portCounter: UInt32 = 0

/// A port to show for an unbound client, from the range 32768 to 60999; the kernel's range for TCP too.
/// It is a name, not a claim: two processes may show the same, as two hosts behind one address may.
private func nextClientPort() -> UInt16 {
    let range: UInt32 = 28232
    let start = unsafe UInt32(bitPattern: process.processIdentifier) &* 2_654_435_761
    unsafe portCounter = unsafe portCounter &+ 1
    return unsafe UInt16(32768 + (start &+ portCounter) % range)
}

func installEndpoint(_ end: Endpoint, _ descriptor: Int32) {
    unsafe end.local.pointee.descriptors = 1
    unsafe end.local.pointee.descriptor = descriptor
    end.describe(descriptor)
    unsafe setEntry(descriptor, end.local, .endpoint)
    unsafe process.table.settle()
    adoptStandardStream(descriptor)
}

func takeOptions(_ end: Endpoint, from socket: UnsafeMutablePointer<StreamSocket>) {
    unsafe end.local.pointee.otherOptions = unsafe socket.pointee.otherOptions
    end.setDefaultOptions()
    for index in 0..<14 where unsafe socket.pointee.optionsSet & (1 << UInt32(index)) != 0 {
        unsafe end.change(Option(rawValue: index)!, socket.pointee.options[index])
    }
    unsafe end.block.store64(Block.receiveTimeout, socket.pointee.receiveTimeout)
    unsafe end.block.store64(Block.sendTimeout, socket.pointee.sendTimeout)
    guard unsafe socket.pointee.isSTP else { return }
    unsafe end.block.store32(Block.closeLimit, socket.pointee.stp.closeLimit)
    unsafe end.block.store32(Block.giftLimit, socket.pointee.stp.giftLimit)
    unsafe end.setRings(socket.pointee.stp.settings)
}

// MARK: accept

@c(accept) public func hookAccept(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 { unsafe hookAccept4(descriptor, address, length, 0) }

@c(accept4) public func hookAccept4(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int32 {
    if unsafe descriptorTable == nil || entry(descriptor) == 0 { adoptIfListening(descriptor) }
    guard let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.hidden >= 0 else {
        let result = unsafe real.accept4!(descriptor, address, length, flags)
        // From a listener that has only TCP, for the reason that its record tells.
        if result >= 0, let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.record != nil {
            recordCarried(result, unsafe socket.pointee.reason)
        }
        return result
    }
    let refusal = unsafe address == nil ? 0 : refusal(of: address, length)
    if refusal != 0 { return Int32(finish(refusal)) }
    return unsafe Int32(finish(accept(descriptor, socket, address, length, flags)))
}

private func adoptIfListening(_ descriptor: Int32) {
    guard unsafe rules.enabled else { return }
    var listening: Int32 = 0
    var length: UInt32 = 4
    if unsafe sk_getsockopt(descriptor, SOL_SOCKET, 30 /* SO_ACCEPTCONN */, &listening, &length) == 0 && listening != 0
    {
        adoptListener(descriptor, 128)
    }
}

private func accept(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ address: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    guard flags & ~(Flag.nonBlock | Flag.closeOnExec) == 0 else { return -Int(EINVAL) }
    let start = unsafe socket.pointee.receiveTimeout == 0 ? 0 : sk_now()
    var patience: UInt64 = 0
    while true {
        if unsafe socket.pointee.hiddenIsShut && !socket.pointee.isSTP && socket.pointee.hidden >= 0 {
            // Who had connected before is in the queue still.
            let late = unsafe acceptFromMemory(socket, address, length, flags)
            if late >= 0 { return late }
            unsafe stopTranslating(socket)
        }
        if unsafe socket.pointee.hidden < 0 {
            // A wait may have been woken by nothing but the end of the hidden one.
            if unsafe socket.pointee.promised && !socket.pointee.nonBlocking && !isReadable(descriptor) {
                unsafe socket.pointee.promised = false
                return -Int(ECONNABORTED)
            }
            let accepted = unsafe real.accept4!(descriptor, address, length, flags)
            if accepted >= 0 { recordCarried(accepted, unsafe socket.pointee.reason) }
            return accepted < 0 ? -Int(sk_errno()) : Int(accepted)
        }
        for attempt in 0..<2 {
            let memoryFirst = unsafe (attempt == 0) == socket.pointee.turn
            let result =
                unsafe memoryFirst
                ? acceptFromMemory(socket, address, length, flags)
                : socket.pointee.isSTP ? -Int(EAGAIN) : acceptFromKernel(descriptor, address, length, flags)
            if result == -Int(EAGAIN) { continue }
            unsafe socket.pointee.promised = false
            // The queue that had one goes on being asked first, but not for ever.
            unsafe socket.pointee.streak = unsafe attempt == 0 ? socket.pointee.streak &+ 1 : 0
            if unsafe attempt == 1 || socket.pointee.streak & 7 == 7 { unsafe socket.pointee.turn.toggle() }
            return result
        }
        if unsafe socket.pointee.nonBlocking { return -Int(EAGAIN) }
        if unsafe socket.pointee.promised {
            // A client's hello comes a moment after its connection.
            let now = sk_now()
            if patience == 0 { patience = now &+ 100_000_000 }
            if unsafe socket.pointee.pendingCount > 0 && now < patience {
                letOthersRun()
                continue
            }
            // A wait took somebody for a client who was none. A program that waits for others too must not
            // be held up here.
            unsafe socket.pointee.promised = false
            return -Int(ECONNABORTED)
        }
        let error = unsafe waitForConnection(descriptor, socket, start)
        if error != 0 { return -error }
        // Another thread may have closed it meanwhile.
        guard unsafe streamSocket(descriptor) == socket else { return -Int(EBADF) }
    }
}

private func acceptFromKernel(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    let accepted = unsafe sk_accept4(descriptor, address, length, flags)
    if accepted >= 0 && mustRefuse(Int32(accepted)) {
        _ = sk_close(Int32(accepted))
        return -Int(EAGAIN)
    }
    if accepted >= 0 { recordCarried(Int32(accepted), .clientOverTCP) }
    return accepted
}

/// Whether a plain client came by TCP where no rule sent it there, and --strict leaves it no other way.
private func mustRefuse(_ accepted: Int32) -> Bool {
    guard unsafe rules.isStrict else { return false }
    guard let dialled = boundAddress(accepted) else { return true }
    return unsafe rules.allows(dialled)
}

private func acceptFromMemory(
    _ socket: UnsafeMutablePointer<StreamSocket>, _ address: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    for index in unsafe 0..<socket.pointee.pendingCount {
        let waiting = unsafe socket.pointee.pending[index]
        let greeting = unsafe acceptEnd(waiting, bound: socket.pointee.bound4or6)
        if case .again = greeting { continue }
        unsafe removePending(socket, index)
        if case .endpoint(let end) = greeting {
            // It was kept above the program's numbers; the program gets the lowest free one.
            let moved = sk_fcntl(waiting, 1030 /* F_DUPFD_CLOEXEC */, 0)
            _ = sk_close(waiting)
            if moved < 0 {
                end.release(connected: false)
                return moved
            }
            if flags & Flag.closeOnExec == 0 { _ = sk_fcntl(Int32(moved), F_SETFD, 0) }
            if flags & Flag.nonBlock != 0 { _ = sk_fcntl(Int32(moved), F_SETFL, Int(Flag.nonBlock)) }
            return unsafe finishAccept(end, Int32(moved), socket, address, length, flags)
        }
        _ = sk_close(waiting)
        return unsafe acceptFromMemory(socket, address, length, flags)
    }
    for _ in 0..<strangersAtOnce {
        let accepted = unsafe sk_accept4(socket.pointee.hidden, nil, nil, flags)
        guard accepted >= 0 else {
            return accepted == -Int(ECONNABORTED) ? -Int(EAGAIN) : accepted
        }
        let descriptor = Int32(accepted)
        switch unsafe acceptEnd(descriptor, bound: socket.pointee.bound4or6) {
        case .endpoint(let end): return unsafe finishAccept(end, descriptor, socket, address, length, flags)
        case .refused: _ = sk_close(descriptor)
        case .again: unsafe keepPending(socket, descriptor)
        }
    }
    return -Int(ECONNABORTED)
}

/// How many that say no hello, or a wrong one, an accept turns away before its program has a word again: others
/// may connect without end, and ECONNABORTED makes programs ask anew.
private let strangersAtOnce = 64

private func isReadable(_ descriptor: Int32) -> Bool {
    var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    var now = timespec(tv_sec: 0, tv_nsec: 0)
    return unsafe sk_ppoll(&item, 1, &now, nil) > 0
}

/// The hidden listener is dead: the listener is TCP's alone.
func stopTranslating(_ socket: UnsafeMutablePointer<StreamSocket>, _ reason: Reason? = nil) {
    unsafe socket.pointee.hiddenIsShut = false
    if unsafe socket.pointee.isSTP || socket.pointee.hidden < 0 { return }
    let hidden = unsafe socket.pointee.hidden
    unfollowPending(hidden)
    clearEntry(hidden)
    _ = sk_close(hidden)
    unsafe socket.pointee.hidden = -1
    var visible: Int32 = -1
    for number in 0..<programEnd where unsafe streamSocket(Int32(number)) == socket {
        visible = Int32(number)
        unsafe setEntry(visible, socket, .stream)
        unsafe showOwnBlocking(visible, socket)
    }
    unsafe recordListener(visible, socket, socket.pointee.bound4or6, reason ?? socket.pointee.leavesFor)
}

private func finishAccept(
    _ end: Endpoint, _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>,
    _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    unsafe takeOptions(end, from: socket)
    if flags & Flag.nonBlock != 0 { end.set(EndFlag.nonBlocking) }
    installEndpoint(end, descriptor)
    if unsafe process.pools.isShort && !socket.pointee.isSTP {
        // The next one might be refused: clients that come from now on use TCP, whoever holds the listener.
        _ = unsafe sk_shutdown(socket.pointee.hidden, 2)
        unsafe stopTranslating(socket, .noMemory)
    }
    unsafe end.block.address(family: Block.family, host: Block.peerAddress, port: Block.peerPort).store(address, length)
    return Int(descriptor)
}

/// A client that has connected but not said hello yet (it was interrupted in between) holds nobody up.
private func keepPending(_ socket: UnsafeMutablePointer<StreamSocket>, _ descriptor: Int32) {
    if unsafe socket.pointee.pendingCount == 16 {
        let oldest = unsafe socket.pointee.pending[0]
        unsafe removePending(socket, 0)
        _ = sk_close(oldest)
    }
    let kept = hide(descriptor)
    if kept < 0 { return }
    setEntry(kept, nil, .hidden)
    unsafe socket.pointee.pending[socket.pointee.pendingCount] = kept
    unsafe socket.pointee.pendingCount += 1
    unsafe followPending(socket, kept)
}

private func removePending(_ socket: UnsafeMutablePointer<StreamSocket>, _ index: Int) {
    unsafe unfollowPending(socket.pointee.pending[index])
    unsafe clearEntry(socket.pointee.pending[index])
    for later in unsafe index + 1..<max(socket.pointee.pendingCount, index + 1) {
        unsafe socket.pointee.pending[later - 1] = unsafe socket.pointee.pending[later]
    }
    unsafe socket.pointee.pendingCount -= 1
}

/// Sleeps until either queue may have a connection; 0, or the errno.
private func waitForConnection(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ start: UInt64
) -> Int {
    var items = InlineArray<18, pollfd>(repeating: pollfd(fd: -1, events: Int16(POLLIN), revents: 0))
    items[0].fd = descriptor
    items[1].fd = unsafe socket.pointee.hidden
    for index in unsafe 0..<socket.pointee.pendingCount { items[index + 2].fd = unsafe socket.pointee.pending[index] }
    let count = unsafe UInt(2 + socket.pointee.pendingCount)
    var timeout = timespec(tv_sec: 0, tv_nsec: 0)
    let limited = unsafe socket.pointee.receiveTimeout != 0
    if limited {
        let end = unsafe start &+ socket.pointee.receiveTimeout
        let now = sk_now()
        if now >= end { return Int(EAGAIN) }
        timeout = timespec(tv_sec: Int((end - now) / 1_000_000_000), tv_nsec: Int((end - now) % 1_000_000_000))
    }
    let result = unsafe withUnsafeMutableBytes(of: &items) { bytes in
        unsafe withUnsafePointer(to: &timeout) {
            unsafe Sleep(
                .poll(bytes.baseAddress!.assumingMemoryBound(to: pollfd.self), Int(count), limited ? $0 : nil, nil),
                armed: .nothing
            ).run()
        }
    }
    if unsafe items[1].revents & Int16(POLLHUP) != 0 && !socket.pointee.isSTP { unsafe stopTranslating(socket) }
    if result == -Int(EINTR) && !limited && sk_handlers_restart() != 0 { return 0 }
    return result < 0 ? -result : 0
}

// MARK: Names

/// Whether a name can be stored there, as the kernel has it: 0, or minus the errno.
private func refusal(of address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?) -> Int {
    guard let length = unsafe length else { return -Int(EFAULT) }
    if unsafe length.pointee > UInt32(Int32.max) { return -Int(EINVAL) }
    return unsafe address == nil && length.pointee > 0 ? -Int(EFAULT) : 0
}

private func isUnix(_ address: UnsafeRawPointer?, _ room: UInt32) -> Bool {
    guard let address = unsafe address, room >= 2 else { return false }
    return unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX)
}

@c(getsockname) public func hookGetSocketName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let end = endpoint(descriptor) else {
        let room = unsafe length?.pointee ?? 0
        let result = unsafe real.getsockname!(descriptor, address, length)
        if unsafe result == 0 && isUnix(address, room), let relayed = relayAddresses(descriptor) {
            unsafe length?.pointee = room
            unsafe relayed.local.store(address, length)
        }
        return result
    }
    let refusal = unsafe refusal(of: address, length)
    if refusal != 0 { return Int32(finish(refusal)) }
    unsafe end.block.address(family: Block.family, host: Block.localAddress, port: Block.localPort).store(
        address, length)
    return 0
}

@c(getpeername) public func hookGetPeerName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let end = endpoint(descriptor) else {
        let room = unsafe length?.pointee ?? 0
        let result = unsafe real.getpeername!(descriptor, address, length)
        if unsafe result == 0 && isUnix(address, room), let relayed = relayAddresses(descriptor) {
            unsafe length?.pointee = room
            unsafe relayed.peer.store(address, length)
        }
        return result
    }
    end.askKernel(descriptor)
    if end.has(EndFlag.hungUp | EndFlag.violated) && end.ending().reset { return Int32(finish(-Int(ENOTCONN))) }
    let refusal = unsafe refusal(of: address, length)
    if refusal != 0 { return Int32(finish(refusal)) }
    unsafe end.block.address(family: Block.family, host: Block.peerAddress, port: Block.peerPort).store(address, length)
    return 0
}

@c(shutdown) public func hookShutdown(_ descriptor: Int32, _ how: Int32) -> Int32 {
    guard let end = endpoint(descriptor) else {
        if let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.hidden >= 0 {
            _ = unsafe sk_shutdown(socket.pointee.hidden, how)
        }
        return real.shutdown!(descriptor, how)
    }
    return Int32(finish(end.shutDown(descriptor, how: how)))
}
