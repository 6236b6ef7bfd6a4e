import CSystem

// Making, naming, listening and closing. Until it is connected an STP socket is a Unix socket that
// becomes the connection itself, or the listener.

private let seqPacket: Int32 = 5

@c(STPsocket) public func stpSocket(_ domain: Int32, _ type: Int32, _ protocolNumber: Int32) -> Int32 {
    guard domain == Int32(Address.stpFamily) else { return report(hookSocket(domain, type, protocolNumber)) }
    let flags = type & (Flag.nonBlock | Flag.closeOnExec)
    guard type & ~flags == 1 /* SOCK_STREAM */ else { return fail(ESOCKTNOSUPPORT, .type) }
    guard protocolNumber == 0 || protocolNumber == Int32(Address.stpFamily) else { return fail(EPROTONOSUPPORT, .type) }
    guard becomeReady() else { return -1 }
    let made = sk_socket(AF_UNIX, seqPacket | flags, 0)
    guard made >= 0 else { return end(made) }
    let descriptor = Int32(made)
    guard let socket = unsafe makeStreamSocket(family: Int32(Address.stpFamily)) else {
        _ = sk_close(descriptor)
        return fail(ENOMEM, .memory)
    }
    unsafe socket.pointee.isSTP = true
    unsafe recordSTP(descriptor, socket, SocketTable.State.unconnected)
    unsafe setEntry(descriptor, socket, .stream)
    return succeed(descriptor)
}

@c(STPbind) public func stpBind(_ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32) -> Int32 {
    guard let socket = unsafe unconnected(descriptor) else {
        if isSTP(descriptor) { return fail(EINVAL, .state) }
        return unsafe report(hookBind(descriptor, address, length))
    }
    if unsafe socket.pointee.stp.port != 0 { return fail(EINVAL, .state) }
    var name = STPName()
    name.isOfThisHost = true
    if unsafe address != nil || length != 0 {
        guard let given = unsafe STPName(address, length: length) else { return -1 }
        name = given
    }
    guard name.isOfThisHost else { return fail(EADDRNOTAVAIL, .host) }
    let result = unsafe takePort(socket, name.port)
    if result != 0 { return end(result) }
    let named = unsafe takeName(descriptor, socket)
    if named != 0 { unsafe givePortBack(socket) }
    return end(named)
}

/// Takes a port (0: any free one) by binding a hidden TCP socket to it: the system's own allocator, that
/// also takes it back however this process ends. 0 or minus the errno.
func takePort(_ socket: UnsafeMutablePointer<StreamSocket>, _ port: UInt16) -> Int {
    let result = unsafe takePort(socket, port, AF_INET6)
    if result == -Int(EAFNOSUPPORT) || result == -Int(EADDRNOTAVAIL) { return unsafe takePort(socket, port, AF_INET) }
    return result
}

private func takePort(_ socket: UnsafeMutablePointer<StreamSocket>, _ port: UInt16, _ family: Int32) -> Int {
    let made = sk_socket(family, 1 | Flag.closeOnExec, 0)
    guard made >= 0 else { return made }
    var off: Int32 = 0
    var on: Int32 = 1
    if family == AF_INET6 { _ = unsafe sk_setsockopt(Int32(made), 41, 26 /* IPV6_V6ONLY */, &off, 4) }
    if unsafe socket.pointee.options[Option.reuseAddress.rawValue] != 0 {
        _ = unsafe sk_setsockopt(Int32(made), SOL_SOCKET, 2 /* SO_REUSEADDR */, &on, 4)
    }
    var address = Address()
    address.family = UInt16(family)
    address.port = port
    var raw = InlineArray<4, UInt64>(repeating: 0)
    var length: UInt32 = 32
    var result = 0
    unsafe withUnsafeMutableBytes(of: &raw) { bytes in
        unsafe address.store(bytes.baseAddress!, &length)
        result = unsafe sk_bind(Int32(made), bytes.baseAddress!, length)
        length = 32
        if unsafe result == 0 && sk_getsockname(Int32(made), bytes.baseAddress!, &length) == 0,
            let bound = unsafe Address(bytes.baseAddress!, length: length)
        {
            address = bound
        }
    }
    // Wanted for taking the port, not for giving it away: TCP could listen beside a socket that has it set.
    _ = unsafe sk_setsockopt(Int32(made), SOL_SOCKET, 2 /* SO_REUSEADDR */, &off, 4)
    let holder = result == 0 ? hide(Int32(made)) : -1
    guard holder >= 0 else {
        if result != 0 { _ = sk_close(Int32(made)) }
        return result != 0 ? result : Int(holder)
    }
    setEntry(holder, nil, .hidden)
    unsafe socket.pointee.stp.port = address.port
    unsafe socket.pointee.stp.portHolder = holder
    unsafe socket.pointee.description.local.port = address.port
    if let record = unsafe socket.pointee.record {
        SocketTable.change(record, SocketTable.Record.localPort, to: UInt32(address.port))
    }
    return 0
}

private func givePortBack(_ socket: UnsafeMutablePointer<StreamSocket>) {
    unsafe clearEntry(socket.pointee.stp.portHolder)
    _ = unsafe sk_close(socket.pointee.stp.portHolder)
    unsafe socket.pointee.stp.portHolder = -1
    unsafe socket.pointee.stp.port = 0
}

/// Gives the Unix socket the name under which clients find the port. 0 or minus the errno.
func takeName(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) -> Int {
    if unsafe socket.pointee.stp.isNamed { return 0 }
    let name = unsafe HiddenName(
        device: process.folderDevice, inode: process.folderInode, port: socket.pointee.stp.port)
    var address = name.address
    let result = unsafe sk_bind(descriptor, &address, name.length)
    if result == 0 { unsafe socket.pointee.stp.isNamed = true }
    return result
}

@c(STPlisten) public func stpListen(_ descriptor: Int32, _ backlog: Int32) -> Int32 {
    guard let socket = unsafe unconnected(descriptor) else {
        if isSTP(descriptor) { return fail(EINVAL, .state) }
        return report(hookListen(descriptor, backlog))
    }
    if unsafe socket.pointee.stp.port == 0 {
        let taken = unsafe takePort(socket, 0)
        if taken != 0 { return end(taken) }
    }
    let named = unsafe takeName(descriptor, socket)
    if named != 0 { return end(named) }
    let result = sk_listen(descriptor, max(backlog, 0))
    if unsafe result != 0 || socket.pointee.hidden >= 0 { return end(result) }
    return unsafe end(beginListening(descriptor, socket))
}

/// The Unix socket listens already. 0 or minus the errno.
func beginListening(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) -> Int {
    // The copy stands where a TCP listener's hidden one does: waits and accept are the same then.
    let hidden = hiddenCopy(of: descriptor)
    guard hidden >= 0 else { return Int(hidden) }
    _ = setListenerFlags(descriptor, listenerFlags(descriptor))
    unsafe socket.pointee.hidden = hidden
    unsafe socket.pointee.bound4or6 = unsafe Address(stpPort: socket.pointee.stp.port)
    setEntry(hidden, nil, .hidden)
    unsafe eachCopy(descriptor, socket) { unsafe setEntry($0, socket, .listener) }
    unsafe recordSTP(descriptor, socket, SocketTable.State.listening)
    unsafe followListener(descriptor, socket)
    return 0
}

/// Every descriptor of this process that is the socket, `descriptor` first.
func eachCopy(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ body: (Int32) -> Void) {
    var left = unsafe socket.pointee.descriptors - 1
    body(descriptor)
    var number: Int32 = 0
    while left > 0 && number < Int32(descriptorTableSize) {
        if unsafe number != descriptor && streamSocket(number) == socket {
            body(number)
            left -= 1
        }
        number += 1
    }
}

// MARK: - Ends

@c(STPclose) public func stpClose(_ descriptor: Int32) -> Int32 {
    var code = STPCode.none
    if let end = endpoint(descriptor), isSTP(descriptor), !end.awaitRead(descriptor) { code = .unread }
    let result = hookClose(descriptor)
    if result != 0 { return report(result) }
    sk_set_stp_error(code.rawValue)
    return 0
}

@c(STPshutdown) public func stpShutdown(_ descriptor: Int32, _ how: Int32) -> Int32 {
    guard isSTP(descriptor) else { return report(hookShutdown(descriptor, how)) }
    guard how >= 0 && how <= 2 else { return fail(EINVAL, .option) }
    if unsafe unconnected(descriptor) != nil { return fail(ENOTCONN, .state) }
    return how == 2 ? stpClose(descriptor) : report(hookShutdown(descriptor, how))
}

extension Endpoint {
    /// Waits until the peer has read everything, has gone or reads no more; false when the limit passed.
    func awaitRead(_ descriptor: Int32) -> Bool {
        let limit = closeLimit()
        let othersRemain = unsafe local.pointee.descriptors > 1 || block.load32(Block.holders) > 1
        if othersRemain || has(EndFlag.taken) || (option(.lingerOn) != 0 && option(.lingerSeconds) == 0) { return true }
        // Closing resets then: a peer that were told of an end first would take it for a good one.
        if readable() > 0 { return true }
        if limit == 0 || isRead() { return true }
        set(EndFlag.writeShut)
        mine.or32(Layout.state, EndState.finished)
        wakeReader(descriptor)
        let deadline = sk_now() &+ limit * 1_000_000
        arm(.writing)
        defer { disarm(.writing) }
        while !isRead() {
            let now = sk_now()
            if now >= deadline { return false }
            let left = deadline - now
            var timeout = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
            var item = pollfd(fd: descriptor, events: bellEvents, revents: 0)
            guard unsafe sk_ppoll(&item, 1, &timeout, nil) > 0 else { continue }
            noticeHangUp(UInt32(UInt16(bitPattern: item.revents)))
            if !isRead() { drain(descriptor) }
        }
        return true
    }

    /// Milliseconds: SO_LINGER's time where it is on.
    private func closeLimit() -> UInt64 {
        if option(.lingerOn) == 0 { return UInt64(block.load32(Block.closeLimit)) }
        return UInt64(UInt32(bitPattern: option(.lingerSeconds))) * 1000
    }

    private func isRead() -> Bool {
        unsent() == 0 || has(EndFlag.hungUp | EndFlag.violated)
            || peer.acquire32(Layout.state) & (EndState.readShut | EndState.reset) != 0
    }
}
