import CSystem

// The queue of a hidden listener is common to all who hold that. Who was taken out of it and can't be served goes back
// there, at its end, for whoever can.

/// Takes up the client whose connection to the hidden listener was accepted as `descriptor`. `.full`: it has gone
/// back, since no number was free.
package func acceptEnd(_ descriptor: Int32, hidden: Int32, bound: Address) -> Greeting {
    let greeting = meet(descriptor, hidden: hidden, bound: bound)
    guard case .full = greeting else { return greeting }
    return meetAtLimit(descriptor, hidden: hidden, bound: bound)
}

/// One that another process has put back takes the number and the flags of what it came through; that may have been
/// put back as well.
private func meet(_ descriptor: Int32, hidden: Int32, bound: Address) -> Greeting {
    var since: UInt32 = 0
    for _ in 0..<16 {
        switch readHello(descriptor, hidden: hidden, bound: bound) {
        case .again: return .again(since: since)
        case .forwarded(let client, let missed):
            if since == 0 { since = missed }
            guard takePlace(of: descriptor, client) else { return .refused }
        case let greeting: return greeting
        }
    }
    return .refused
}

private func takePlace(of descriptor: Int32, _ client: Int32) -> Bool {
    defer { _ = sk_close(client) }
    let closesOnExec = sk_fcntl(descriptor, F_GETFD, 0) & 1 != 0
    let status = sk_fcntl(descriptor, F_GETFL, 0)
    guard sk_dup3(client, descriptor, closesOnExec ? Flag.closeOnExec : 0) >= 0 else { return false }
    _ = sk_fcntl(descriptor, F_SETFL, status)
    return true
}

/// What the client sends gets the spare numbers. Where they are of no use, since the limit was lowered below them or
/// another thread was quicker, the client goes back.
private func meetAtLimit(_ descriptor: Int32, hidden: Int32, bound: Address) -> Greeting {
    let end = sk_now() &+ 100_000_000
    var isFirst = true
    while true {
        let spares = withProcessLock { unsafe process.spares.take() }
        let isUseful = isFirst && Int(max(spares.socket, spares.copy)) < descriptorLimit()
        isFirst = false
        let isBack =
            !isUseful && spares.socket >= 0 && putBack(descriptor, to: hidden, since: 0, through: spares.socket)
        closeBoth(spares)
        if isBack { return .full }
        let greeting = meet(descriptor, hidden: hidden, bound: bound)
        guard case .full = greeting else { return greeting }
        if sk_now() > end { return .refused }
        if !isUseful { letOthersRun() }
        _ = withProcessLock { unsafe process.spares.keep(lending: true) }
    }
}

private func closeBoth(_ spares: (socket: Int32, copy: Int32)) {
    if spares.socket >= 0 { _ = sk_close(spares.socket) }
    if spares.copy >= 0 { _ = sk_close(spares.copy) }
}

/// Puts back a client whose hello has not come; `since` is when it was first missed. False where there is no way back.
package func putBack(_ client: Int32, to hidden: Int32, since: UInt32) -> Bool {
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec | Flag.nonBlock /* SOCK_SEQPACKET */, 0)
    let spares = made >= 0 ? (Int32(made), -1) : withProcessLock { unsafe process.spares.take() }
    defer { closeBoth(spares) }
    return spares.0 >= 0 && putBack(client, to: hidden, since: since, through: spares.0)
}

private func putBack(_ client: Int32, to hidden: Int32, since: UInt32, through made: Int32) -> Bool {
    var name = sockaddr_un()
    var length = UInt32(MemoryLayout<sockaddr_un>.size)
    guard unsafe sk_getsockname(hidden, &name, &length) == 0 else { return false }
    var connected = unsafe sk_connect(made, &name, length)
    if connected == -Int(EAGAIN) {
        // Others have filled the queue meanwhile; who was in it already has a place beyond its end.
        _ = sk_listen(hidden, 4096)
        connected = unsafe sk_connect(made, &name, length)
    }
    guard connected == 0 else { return false }
    // From here on it may be another's.
    sk_forget_acceptance()
    var hello = Hello()
    hello.magic = Hello.forwarded
    hello.generation = since
    var passed = (client, hidden)
    return unsafe withUnsafeBytes(of: &passed) {
        unsafe sk_send_descriptors(
            made, &hello, MemoryLayout<Hello>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), 2,
            Int32(truncatingIfNeeded: Flag.noSignal))
    } == MemoryLayout<Hello>.size
}
