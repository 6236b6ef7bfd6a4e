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
    guard network(of: hidden) == network(of: descriptor) else {
        _ = sk_close(hidden)
        return unsafe recordListener(descriptor, socket, bound, .otherNetwork)
    }
    let name = HiddenName(cookie: cookie)
    var address = name.address
    guard unsafe sk_bind(hidden, &address, name.length) == 0, sk_listen(hidden, max(backlog, 64)) == 0 else {
        _ = sk_close(hidden)
        return unsafe recordListener(descriptor, socket, bound, .kernelRefused)
    }
    // Who inherits it with its hidden one finds them so, or as whoever has left it to TCP since then.
    _ = setListenerFlags(descriptor, listenerFlags(descriptor))
    unsafe beginTranslating(descriptor, socket, hidden, bound)
}

/// The TCP listener has a hidden one beside it from now on.
func beginTranslating(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ hidden: Int32, _ bound: Address
) {
    withProcessLock {
        unsafe process.pools.keepReserve()
        _ = unsafe process.spares.keep(lending: false)
    }
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
        if !(2...Address.sizeLimit ~= length) { return Int32(finish(-Int(EINVAL))) }
        guard let address = unsafe address else { return Int32(finish(-Int(EFAULT))) }
        let isNone = unsafe address.loadUnaligned(as: UInt16.self) == 0 /* AF_UNSPEC */
        // The last connect was refused, and the program knows.
        if !isNone && end.has(EndFlag.unaccepted) && end.has(EndFlag.resetReported), disconnect(end, descriptor) == 0 {
            return unsafe hookConnect(descriptor, UnsafeRawPointer(address), length)
        }
        return Int32(finish(isNone ? disconnect(end, descriptor) : connectAgain(end, descriptor)))
    }
    guard let socket = unsafe streamSocket(descriptor), unsafe mayConnect(descriptor, socket) else {
        if unsafe forbidsForeignConnect(descriptor, address, length) {
            logFallBack(descriptor, .optionSet)
            return Int32(finish(-Int(EHOSTUNREACH)))
        }
        let result = unsafe real.connect!(descriptor, address, length)
        // To AF_UNSPEC, which ends a listener.
        if result == 0, let socket = unsafe listeningSocket(descriptor) { unsafe shutHidden(socket) }
        return result
    }
    let savedErrno = sk_errno()
    let target = unsafe Address(address, length: length)
    var reason = Reason.none
    if let target {
        let outcome = unsafe connectThroughMemory(descriptor, socket, target)
        if outcome.connected { return Int32(finish(outcome.result)) }
        if outcome.result != 0 {
            unsafe recordFailure(descriptor, socket, target, outcome.reason)
            return Int32(finish(outcome.result))
        }
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
    } else if let target, case .noAgent = reason {
        let error = sk_errno()
        unsafe recordFailure(descriptor, socket, target, reason)
        sk_set_errno(error)
    }
    return result
}

/// A second connect on a connected socket: success once after a non-blocking one, then EISCONN.
private func connectAgain(_ end: Endpoint, _ descriptor: Int32) -> Int {
    if end.has(EndFlag.unaccepted) {
        end.askKernel(descriptor)
        if !end.isAccepted() && !end.has(EndFlag.hungUp) && end.has(EndFlag.nonBlocking) { return -Int(EALREADY) }
        return end.finishConnect(descriptor, deadline: end.connectDeadline)
    }
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
    guard isAtHome(descriptor) else { return (false, 0, .otherNetwork) }
    guard !refusesIPv4(descriptor, target) else { return (false, 0, .noListener) }
    let (found, lack) = route(to: target)
    guard let route = found else { return (false, 0, lack) }
    var client = route.client
    if unsafe socket.pointee.bound {
        guard let own = boundAddress(descriptor), own.isAny || own.unmapped().sameHost(as: target.unmapped()) else {
            return (false, 0, .boundElsewhere)
        }
        if !own.isAny { client = target }
        client.port = own.port
    }
    // Also with IP_BIND_ADDRESS_NO_PORT, where connecting is what gives a bound socket its port.
    if unsafe !socket.pointee.bound || client.port == 0 { client.port = nextClientPort() }
    // Another thread must not take the Unix socket for TCP's, nor find TCP's unconnected once the server has the client.
    setEntry(descriptor, nil, .arriving)
    let made = reach(target, by: route.way, from: client, bound: unsafe socket.pointee.bound ? descriptor : -1)
    guard let end = made.endpoint else {
        unsafe setEntry(descriptor, socket, .stream)
        return (false, route.result(of: made.reason), made.reason)
    }
    // From here on nothing can fail but the exchange of the descriptor itself.
    let statusFlags = sk_fcntl(descriptor, F_GETFL, 0)
    let closeOnExec = sk_fcntl(descriptor, F_GETFD, 0) & 1 != 0
    let registrations = registrationsOf(descriptor, UInt(bitPattern: socket) | Kind.stream.rawValue)
    if statusFlags & Int(Flag.nonBlock) == 0 { _ = sk_fcntl(made.descriptor, F_SETFL, 0) }
    let signals = unsafe socket.pointee.signals
    if signals { copyOwner(descriptor, to: made.descriptor) }
    let placed = sk_dup3(made.descriptor, descriptor, closeOnExec ? Flag.closeOnExec : 0)
    closeConnecting(made.descriptor)
    guard placed >= 0 else {
        unsafe setEntry(descriptor, socket, .stream)
        end.release(connected: false)
        return (false, route.result(of: .noDescriptor), .noDescriptor)
    }
    unsafe takeOptions(end, from: socket)
    let nonBlocking = statusFlags & Int(Flag.nonBlock) != 0
    if nonBlocking {
        end.set(EndFlag.nonBlocking)
        end.set(EndFlag.connecting)
    }
    if case .agent = route.way { end.beginWaitingForAcceptance() }
    installEndpoint(end, descriptor)
    if signals { end.takeSignals(descriptor, statusFlags) }
    unsafe giveBack(socket)
    replay(registrations, descriptor, end)
    if nonBlocking { return (true, -Int(EINPROGRESS), .none) }
    return (true, end.isAccepted() ? 0 : end.finishConnect(descriptor, deadline: end.connectDeadline), .none)
}

/// Whether TCP would refuse the address because it is IPv4's, in IPv6's form, on a socket for IPv6 alone.
private func refusesIPv4(_ descriptor: Int32, _ target: Address) -> Bool {
    guard target.isMapped else { return false }
    var only: Int32 = 0
    var length: UInt32 = 4
    return unsafe sk_getsockopt(descriptor, 41 /* IPPROTO_IPV6 */, 26 /* IPV6_V6ONLY */, &only, &length) < 0
        || only != 0
}

/// The end that connects to whoever listens there: a TCP listener under Skein, or an STP listener; or to the agent.
private func reach(
    _ target: Address, by way: Route.Way, from client: Address, bound: Int32
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    if case .agent = way {
        let made = connectEndToAgent(target, from: client, bound: bound)
        return (made.endpoint, made.descriptor, made.reason == .notUnderSkein ? .noAgent : made.reason)
    }
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
    for index in 0..<Option.count where unsafe socket.pointee.optionsSet & (1 << UInt32(index)) != 0 {
        unsafe end.change(Option(rawValue: index)!, socket.pointee.options[index])
    }
    unsafe end.block.store64(Block.receiveTimeout, socket.pointee.receiveTimeout)
    unsafe end.block.store64(Block.sendTimeout, socket.pointee.sendTimeout)
    guard unsafe socket.pointee.isSTP else { return }
    unsafe end.block.store32(Block.closeLimit, socket.pointee.stp.closeLimit)
    unsafe end.block.store32(Block.giftLimit, socket.pointee.stp.giftLimit)
    unsafe end.setRings(socket.pointee.stp.settings)
}

/// The listener was shut down. Who waits in its queue is reset, as by TCP.
private func shutHidden(_ socket: UnsafeMutablePointer<StreamSocket>) {
    let hidden = unsafe socket.pointee.hidden
    _ = sk_shutdown(hidden, 2)
    while true {
        let waiting = arrive {
            sk_accept4(hidden, nil, nil, Flag.closeOnExec)
        } look: {
            _ = sk_close($0)
            clearArrival($0)
        }
        if waiting < 0 { return }
    }
}

@c(shutdown) public func hookShutdown(_ descriptor: Int32, _ how: Int32) -> Int32 {
    guard let end = endpoint(descriptor) else {
        let result = real.shutdown!(descriptor, how)
        if result == 0 && how != 1, let socket = unsafe listeningSocket(descriptor) { unsafe shutHidden(socket) }
        return result
    }
    return Int32(finish(end.shutDown(descriptor, how: how)))
}
