import CSystem

// Connecting, accepting, and moving bytes.

/// Whom an STP address led to.
private struct Server {
    /// What names the memory pool shared with it.
    var pool: UInt64
    var dialled: Address
    var client: Address
}

@c(STPconnect) public func stpConnect(_ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32) -> Int32 {
    if let end = endpoint(descriptor), isSTP(descriptor) { return connectAgain(end, descriptor) }
    guard let socket = unsafe unconnected(descriptor) else {
        return unsafe report(hookConnect(descriptor, address, length))
    }
    if unsafe socket.pointee.hidden >= 0 { return fail(EISCONN, .state) }
    guard let name = unsafe STPName(address, length: length) else { return -1 }
    guard name.isOfThisHost || name.others != nil else { return fail(EHOSTUNREACH, .noAgent) }
    guard name.port != 0 else { return fail(EADDRNOTAVAIL, .port) }
    if unsafe socket.pointee.stp.port == 0 {
        let taken = unsafe takePort(socket, 0)
        if taken != 0 { return end(taken) }
    }
    var server: Server? = nil
    let reached =
        unsafe name.others == nil
        ? reach(descriptor, socket, name.port, &server) : reachAgent(descriptor, socket, name, &server)
    guard reached == 0, let server else { return reached }
    let greeted = unsafe greet(
        over: descriptor, pool: server.pool, dialled: server.dialled, client: server.client,
        bound: socket.pointee.stp.portHolder)
    guard let end = greeted.endpoint else {
        // The Unix socket is spent: another takes its place, so that the program can try again.
        unsafe renew(descriptor, socket)
        return greeted.reason == .noMemory ? fail(ENOMEM, .memory) : fail(ECONNREFUSED, .system)
    }
    unsafe end.setAddresses(
        local: Address(stpPort: socket.pointee.stp.port), peer: Address(stpPort: name.port, host: name.others?.host))
    if server.dialled.isSTP { end.set(EndFlag.refusesAfterShutdown) }
    return unsafe becomeConnected(descriptor, socket, end)
}

/// Connects the Unix socket to the STP listener of the port, or else to the TCP listener under Skein.
private func reach(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ port: UInt16, _ server: inout Server?
) -> Int32 {
    let name = unsafe HiddenName(device: process.folderDevice, inode: process.folderInode, port: port)
    var address = name.address
    let result = unsafe sk_connect(descriptor, &address, name.length)
    if result == 0, let peer = peerCredentials(descriptor) {
        if mayServeSTP(port, user: peer.user) {
            server = unsafe Server(
                pool: poolNumber(of: peer, port: port), dialled: Address(stpPort: port),
                client: Address(stpPort: socket.pointee.stp.port))
            return 0
        }
        unsafe renew(descriptor, socket)
    } else if result != -Int(ECONNREFUSED) {
        if result == -Int(EAGAIN) { return fail(EAGAIN, .queue) }
        return result == 0 ? fail(ECONNREFUSED, .system) : end(result)
    }
    if unsafe reachTCP(descriptor, socket, .loopback(port), &server) { return 0 }
    if unsafe reachTCP(descriptor, socket, .loopback6(port), &server) { return 0 }
    return result == 0 ? fail(ECONNREFUSED, .user) : fail(ECONNREFUSED, .noListener)
}

private func reachTCP(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ target: Address, _ server: inout Server?
) -> Bool {
    guard let listener = findListener(target) else { return false }
    let name = HiddenName(cookie: listener.cookie)
    var address = name.address
    guard unsafe sk_connect(descriptor, &address, name.length) == 0 else { return false }
    guard let peer = peerCredentials(descriptor), mayServe(listener, user: peer.user) else {
        unsafe renew(descriptor, socket)
        return false
    }
    var client = target
    client.port = unsafe socket.pointee.stp.port
    server = Server(pool: listener.cookie, dialled: target, client: client)
    return true
}

/// Connects the Unix socket to the agent, which brings it to another host.
private func reachAgent(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ target: STPName, _ server: inout Server?
) -> Int32 {
    guard let others = target.others else { return fail(EHOSTUNREACH, .noAgent) }
    let name = unsafe HiddenName(agentOfDevice: process.folderDevice, inode: process.folderInode)
    var address = name.address
    let result = unsafe sk_connect(descriptor, &address, name.length)
    if result == -Int(EAGAIN) { return fail(EAGAIN, .queue) }
    guard result == 0, let peer = peerCredentials(descriptor), mayBeAgent(peer.user) else {
        if result == 0 { unsafe renew(descriptor, socket) }
        return fail(ENETUNREACH, .noAgent)
    }
    server = unsafe Server(
        pool: poolNumber(of: peer, port: 0), dialled: .ofGroup(host: others.host, six: false, port: target.port),
        client: .ofGroup(host: others.own, six: false, port: socket.pointee.stp.port))
    return 0
}

/// Puts a fresh Unix socket in the place of a spent one.
private func renew(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) {
    let flags = sk_fcntl(descriptor, F_GETFL, 0)
    let closeOnExec = sk_fcntl(descriptor, F_GETFD, 0) & 1 != 0
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec, 0)
    guard made >= 0 else { return }
    _ = sk_fcntl(Int32(made), F_SETFL, flags)
    unsafe eachCopy(descriptor, socket) { _ = sk_dup3(Int32(made), $0, closeOnExec ? Flag.closeOnExec : 0) }
    _ = sk_close(Int32(made))
    if unsafe socket.pointee.stp.isNamed {
        unsafe socket.pointee.stp.isNamed = false
        _ = unsafe takeName(descriptor, socket)
    }
}

private func becomeConnected(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ end: Endpoint
) -> Int32 {
    let nonBlocking = sk_fcntl(descriptor, F_GETFL, 0) & Int(Flag.nonBlock) != 0
    let deadline = unsafe socket.pointee.sendTimeout == 0 ? UInt64.max : sk_now() &+ socket.pointee.sendTimeout
    let queued = unsafe socket.pointee.stp.settings & EndSetting.queuedConnect != 0
    unsafe takeOptions(end, from: socket)
    clearTimeouts(descriptor)
    if nonBlocking { end.set(EndFlag.nonBlocking) }
    if !queued {
        end.beginWaitingForAcceptance()
        if nonBlocking { end.set(EndFlag.connecting) }
    }
    let registrations = registrationsOf(descriptor)
    unsafe end.local.pointee.portHolder = unsafe socket.pointee.stp.portHolder
    let copies = unsafe socket.pointee.descriptors
    unsafe eachCopy(descriptor, socket) { unsafe setEntry($0, end.local, .endpoint) }
    installEndpoint(end, descriptor)
    unsafe end.local.pointee.descriptors = copies
    if unsafe socket.pointee.signals { end.takeSignals(descriptor, sk_fcntl(descriptor, F_GETFL, 0)) }
    if let record = unsafe socket.pointee.record { withProcessLock { unsafe process.table.give(record) } }
    unsafe giveBack(socket)
    replay(registrations, descriptor, end, inKernel: true)
    if queued { return succeed(0) }
    if nonBlocking { return fail(EINPROGRESS, .none) }
    let error = end.awaitAcceptance(descriptor, deadline: deadline)
    if error == 0 { return succeed(0) }
    // It goes on without us: the next connect that finds it made says so.
    if error == EAGAIN || error == EINTR { end.set(EndFlag.connecting) } else { _ = end.takeError() }
    if error == EAGAIN { return fail(EINPROGRESS, .none) }
    // Another host's agent has looked, and accepted for nobody.
    let isRemote = end.peerAddress.stpHost != nil
    return fail(error, isRemote && error == ECONNREFUSED ? .noListener : code(for: error))
}

/// The timeouts are the endpoint's from here on; the Unix socket must not keep them too.
private func clearTimeouts(_ descriptor: Int32) {
    var none: (UInt64, UInt64) = (0, 0)
    _ = unsafe sk_setsockopt(descriptor, SOL_SOCKET, 20 /* SO_RCVTIMEO */, &none, 16)
    _ = unsafe sk_setsockopt(descriptor, SOL_SOCKET, 21 /* SO_SNDTIMEO */, &none, 16)
}

private func connectAgain(_ end: Endpoint, _ descriptor: Int32) -> Int32 {
    if !end.isAccepted() {
        end.askKernel(descriptor)
        if end.isAccepted() { return connectAgain(end, descriptor) }
        if end.has(EndFlag.hungUp) {
            let error = end.takeError()
            return fail(error != 0 ? error : ECONNABORTED, .notAccepted)
        }
        if end.has(EndFlag.nonBlocking) { return fail(EALREADY, .state) }
        let error = end.awaitAcceptance(descriptor, deadline: UInt64.max)
        if error == 0 { end.clear(EndFlag.connecting) }
        return error == 0 ? succeed(0) : fail(error, code(for: error))
    }
    guard end.has(EndFlag.connecting) else { return fail(EISCONN, .state) }
    end.clear(EndFlag.connecting)
    return succeed(0)
}

// MARK: - Accepting

@c(STPaccept) public func stpAccept(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    if isSTP(descriptor) {
        guard let socket = unsafe unconnected(descriptor), unsafe socket.pointee.hidden >= 0 else {
            return fail(EINVAL, .state)
        }
    }
    return unsafe report(hookAccept4(descriptor, address, length, 0))
}

// MARK: - Bytes

@c(STPsend) public func stpSend(_ descriptor: Int32, _ message: UnsafeRawPointer?, _ length: Int, _ flags: Int32) -> Int
{
    if unsafe unconnected(descriptor) != nil { return Int(fail(ENOTCONN, .state)) }
    return unsafe report(hookSend(descriptor, UnsafeMutableRawPointer(mutating: message), length, flags))
}

@c(STPrecv) public func stpReceive(
    _ descriptor: Int32, _ message: UnsafeMutableRawPointer?, _ length: Int, _ flags: Int32
) -> Int {
    if unsafe unconnected(descriptor) != nil { return Int(fail(ENOTCONN, .state)) }
    let result = unsafe report(hookRecv(descriptor, message, length, flags))
    if result < 0 && sk_errno() == EINVAL && Int(flags) & Flag.outOfBand != 0 { return Int(fail(EINVAL, .urgent)) }
    return result
}
