import CSystem

// connect to AF_UNSPEC dissolves a connection: TCP resets it, and the socket can be connected again. Here a fresh TCP
// socket takes the place of the end, under all its numbers in this process. For others who hold it, it is a reset one.

/// 0, or minus the errno. An STP socket can't be connected again.
func disconnect(_ end: Endpoint, _ descriptor: Int32) -> Int {
    let family = Int32(end.block.load32(Block.family))
    // A filter may end the program for asking for a socket.
    guard family == AF_INET || family == AF_INET6, unsafe process.maySetUp else { return -Int(EISCONN) }
    let made = sk_socket(family, 1 | Flag.closeOnExec, 0)
    guard made >= 0 else { return made }
    let fresh = Int32(made)
    defer { _ = sk_close(fresh) }
    guard let socket = unsafe makeStreamSocket(family: family) else { return -Int(ENOMEM) }
    _ = sk_fcntl(fresh, F_SETFL, sk_fcntl(descriptor, F_GETFL, 0))
    unsafe socket.pointee.signals = unsafe end.local.pointee.signals || end.local.pointee.urgentSocket >= 0
    if unsafe socket.pointee.signals { copyOwner(descriptor, to: fresh) }
    unsafe giveOptions(of: end, to: socket, fresh)
    end.resetBoth(descriptor)
    unsafe take(entry(descriptor), from: end, by: socket, fresh)
    return 0
}

/// Every number of the end becomes one of the socket.
private func take(
    _ word: UInt, from end: Endpoint, by socket: UnsafeMutablePointer<StreamSocket>, _ fresh: Int32
) {
    unsafe socket.pointee.descriptors = 0
    for number in 0..<Int32(programEnd) where entry(number) == word {
        let registrations = registrationsOf(number)
        let closeOnExec = sk_fcntl(number, F_GETFD, 0) & 1 != 0
        let placed = replace(number) { Int32(sk_dup3(fresh, number, closeOnExec ? Flag.closeOnExec : 0)) }
        if placed < 0 { continue }
        unsafe socket.pointee.descriptors += 1
        unsafe setEntry(number, socket, .stream)
        replay(registrations, number, end)
    }
}

extension Endpoint {
    /// The peer sees a reset, and so does whoever else holds this end or sleeps on it.
    fileprivate func resetBoth(_ descriptor: Int32) {
        mine.or32(Layout.state, EndState.reset)
        set(EndFlag.violated)
        wakeAll(descriptor)
        wakeOwnSleepers(descriptor, .reading)
        wakeOwnSleepers(descriptor, .writing)
    }
}

/// What the program has set stays set.
private func giveOptions(of end: Endpoint, to socket: UnsafeMutablePointer<StreamSocket>, _ fresh: Int32) {
    for index in 0..<Option.count {
        let option = Option(rawValue: index)!
        let value = end.option(option)
        if value == usualValue(of: option) { continue }
        unsafe remember(socket, option, value)
        guard let name = optionName(option) else { continue }
        // The kernel doubles what it is given for a buffer.
        let isBuffer = option == .sendBuffer || option == .receiveBuffer
        setOption(fresh, name.level, name.name, isBuffer ? value / 2 : value)
    }
    var linger = (end.option(.lingerOn), end.option(.lingerSeconds))
    if linger.0 != 0 { _ = unsafe sk_setsockopt(fresh, SOL_SOCKET, 13 /* SO_LINGER */, &linger, 8) }
    unsafe socket.pointee.otherOptions = unsafe end.local.pointee.otherOptions
    unsafe end.local.pointee.otherOptions.forEach { setOption(fresh, $0, $1, $2) }
    unsafe socket.pointee.receiveTimeout = end.block.load64(Block.receiveTimeout)
    unsafe socket.pointee.sendTimeout = end.block.load64(Block.sendTimeout)
    unsafe setTimeout(fresh, 20 /* SO_RCVTIMEO */, socket.pointee.receiveTimeout)
    unsafe setTimeout(fresh, 21 /* SO_SNDTIMEO */, socket.pointee.sendTimeout)
}

private func setOption(_ socket: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
    var value = value
    _ = unsafe sk_setsockopt(socket, level, name, &value, 4)
}

/// `limit` in nanoseconds, as the block has it: 0 for none.
private func setTimeout(_ socket: Int32, _ name: Int32, _ limit: UInt64) {
    if limit == 0 { return }
    let micro = Int((limit &+ 999) / 1000)
    var time = timeval(tv_sec: micro / 1_000_000, tv_usec: micro % 1_000_000)
    _ = unsafe sk_setsockopt(socket, SOL_SOCKET, name, &time, UInt32(MemoryLayout<timeval>.size))
}
