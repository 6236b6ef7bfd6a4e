import CSystem

// The owner of a descriptor (F_SETOWN) and its signals. The kernel sends SIGIO for a connection by itself: a bell
// is a packet. For what it can't see, something that it does see stands in.

/// Whether this command of fcntl asks for signals.
func asksForSignals(_ command: Int32, _ argument: Int) -> Bool {
    switch command {
    case F_SETOWN, ownerCommands.setSignal, ownerCommands.setOwner: true
    case F_SETFL: argument & Int(Flag.async) != 0
    default: false
    }
}

private let ownerCommands = (setSignal: Int32(10), getSignal: Int32(11), setOwner: Int32(15), getOwner: Int32(16))

/// F_GETOWN_EX's answer: what kind of number, and the number; 0 for nobody.
private func owner(of descriptor: Int32) -> (kind: Int32, number: Int32) {
    var owner: (kind: Int32, number: Int32) = (0, 0)
    let result = unsafe withUnsafeMutableBytes(of: &owner) {
        sk_fcntl(descriptor, ownerCommands.getOwner, Int(bitPattern: $0.baseAddress!))
    }
    return result < 0 ? (0, 0) : owner
}

private func setOwner(of descriptor: Int32, _ owner: (kind: Int32, number: Int32)) {
    var owner = owner
    _ = unsafe withUnsafeMutableBytes(of: &owner) {
        sk_fcntl(descriptor, ownerCommands.setOwner, Int(bitPattern: $0.baseAddress!))
    }
}

/// The owner of one descriptor, and the signal that it asked for, become those of another.
func copyOwner(_ descriptor: Int32, to other: Int32) {
    setOwner(of: other, owner(of: descriptor))
    _ = sk_fcntl(other, ownerCommands.setSignal, sk_fcntl(descriptor, ownerCommands.getSignal, 0))
}

/// A hidden listener signals as the TCP listener beside it does. An STP listener's hidden one is itself.
func copySignals(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) {
    let hidden = unsafe socket.pointee.hidden
    guard hidden >= 0, unsafe !socket.pointee.isSTP else { return }
    copyOwner(descriptor, to: hidden)
    let async = sk_fcntl(descriptor, F_GETFL, 0) & Int(Flag.async)
    _ = sk_fcntl(hidden, F_SETFL, Int(Flag.nonBlock) | async)
}

// MARK: - SIGURG

// An end with an owner has a datagram socket of its own that signals SIGURG for each packet. The line that the two
// ends share tells the peer its name and a secret, without which the kernel drops a packet: names of sockets are
// known to everybody.

extension Endpoint {
    /// The descriptor's owner has changed: whoever it is now hears of urgent data.
    func followOwner(_ descriptor: Int32) {
        let owner = owner(of: descriptor)
        if owner.number == 0 { return stopSignallingUrgent() }
        guard unsafe !process.isConfined else { return }
        if unsafe local.pointee.urgentSocket < 0 { unsafe local.pointee.urgentSocket = makeUrgentSocket() }
        let socket = unsafe local.pointee.urgentSocket
        guard socket >= 0 else { return }
        setOwner(of: socket, owner)
        _ = sk_fcntl(socket, ownerCommands.setSignal, 23 /* SIGURG */)
        _ = sk_fcntl(socket, F_SETFL, Int(Flag.nonBlock | Flag.async))
    }

    /// The socket that became this end had an owner or O_ASYNC, which stands in these flags.
    func takeSignals(_ descriptor: Int32, _ statusFlags: Int) {
        _ = sk_fcntl(descriptor, F_SETFL, statusFlags)
        setSignals(statusFlags & Int(Flag.async) != 0)
        followOwner(descriptor)
    }

    /// In every process that holds this end: the name is taken back.
    private func stopSignallingUrgent() {
        guard unsafe local.pointee.urgentSocket >= 0 else { return }
        mine.store64(Layout.urgentSecret, 0)
        unsafe clearEntry(local.pointee.urgentSocket)
        _ = unsafe sk_close(local.pointee.urgentSocket)
        unsafe local.pointee.urgentSocket = -1
    }

    /// Its hidden number; -1 where none can be had: then there is no SIGURG.
    private func makeUrgentSocket() -> Int32 {
        let made = sk_socket(AF_UNIX, 2 /* SOCK_DGRAM */ | Flag.closeOnExec | Flag.nonBlock, 0)
        guard made >= 0 else { return -1 }
        let socket = hide(Int32(made))
        guard socket >= 0 else { return -1 }
        var secret: UInt64 = 0
        guard unsafe sk_getrandom(&secret, 8) == 8, secret != 0, takeOnly(secret, socket),
            let cookie = cookie(of: socket)
        else {
            _ = sk_close(socket)
            return -1
        }
        let name = HiddenName(urgentCookie: cookie)
        var address = name.address
        guard unsafe sk_bind(socket, &address, name.length) == 0 else {
            _ = sk_close(socket)
            return -1
        }
        setEntry(socket, nil, .hidden)
        mine.store64(Layout.urgentCookie, cookie)
        mine.release64(Layout.urgentSecret, secret)
        return socket
    }

    /// Tells the peer's owner that there is urgent data.
    @inline(never) func signalUrgent() {
        var secret = peer.acquire64(Layout.urgentSecret)
        guard secret != 0, unsafe !process.isConfined else { return }
        let made = sk_socket(AF_UNIX, 2 | Flag.closeOnExec | Flag.nonBlock, 0)
        guard made >= 0 else { return }
        let name = HiddenName(urgentCookie: peer.load64(Layout.urgentCookie))
        var address = name.address
        _ = unsafe sk_sendto(
            Int32(made), &secret, 8, Int32(truncatingIfNeeded: Flag.noSignal), &address, name.length)
        _ = sk_close(Int32(made))
    }

    /// Takes the packets whose signals have been sent: a full queue would send no more.
    @inline(never) func drainUrgentSocket() {
        let urgent = peer.load64(Layout.urgent)
        guard unsafe urgent != local.pointee.urgentDrained else { return }
        unsafe local.pointee.urgentDrained = urgent
        var packet: UInt64 = 0
        while unsafe sk_recvfrom(
            local.pointee.urgentSocket, &packet, 8, Int32(truncatingIfNeeded: Flag.dontWait)) > 0
        {}
    }
}

/// Lets the kernel drop, without a signal, every packet that doesn't begin with the secret.
private func takeOnly(_ secret: UInt64, _ socket: Int32) -> Bool {
    func step(_ code: UInt64, _ constant: UInt32, ifNot skipped: UInt64 = 0) -> UInt64 {
        code | skipped << 24 | UInt64(constant) << 32
    }
    let (load, equal, give): (UInt64, UInt64, UInt64) = (0x20, 0x15, 0x06)
    // The filter reads words as the network writes them.
    let first = UInt32(truncatingIfNeeded: secret).byteSwapped
    let second = UInt32(truncatingIfNeeded: secret >> 32).byteSwapped
    var steps: InlineArray<6, UInt64> = [
        step(load, 0), step(equal, first, ifNot: 3), step(load, 4), step(equal, second, ifNot: 1),
        step(give, UInt32.max), step(give, 0),
    ]
    return unsafe withUnsafeMutableBytes(of: &steps) { bytes in
        var program = (UInt64(6), bytes.baseAddress!)
        return unsafe sk_setsockopt(socket, SOL_SOCKET, 26 /* SO_ATTACH_FILTER */, &program, 16) == 0
    }
}
