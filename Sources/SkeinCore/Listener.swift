import CSystem

/// The TCP listener that the kernel would give a connection to: who it belongs to, and its cookie,
/// the kernel's own number of that socket, which names the hidden Unix listener beside it.
package struct ListenerIdentity {
    package var cookie: UInt64 = 0
    package var user: UInt32 = 0
    package init() {}
}

/// Asks the kernel (sock_diag, with TCP's own look-up) which listener `address` reaches in this network
/// namespace; nil when none does or when it can't be asked. Answers are believed for a short time: a
/// listener that went away takes its hidden name along, so a stale one fails to connect and is asked anew.
package func findListener(_ address: Address) -> ListenerIdentity? {
    let target = address.unmapped()
    let now = sk_now()
    let place = KnownListeners.place(of: target)
    if let known = withProcessLock({ unsafe knownListeners[place].take(target, now) }) { return known }
    var asked = KnownListeners(target, until: now + believed)
    ask(&asked)
    let identity = asked.take(target, now)
    if identity != nil { withProcessLock { unsafe knownListeners[place] = asked } }
    return identity
}

/// True when there was something to forget.
package func forgetListener(_ address: Address) -> Bool {
    let place = KnownListeners.place(of: address.unmapped())
    return withProcessLock {
        let known = unsafe knownListeners[place].until != 0
        unsafe knownListeners[place] = KnownListeners()
        return known
    }
}

/// Which listener an address reaches, for several client ports. One listener gives the same answer to all
/// of them. Of those that share a port (SO_REUSEPORT) the kernel takes one by a hash of both addresses: then each
/// connection uses up one answer, and so goes where a client of TCP with that port would have gone.
private struct KnownListeners {
    static let answers = 8
    var address = Address()
    var identities = InlineArray<8, ListenerIdentity>(repeating: ListenerIdentity())
    var count = 0
    var isShared = false
    var until: UInt64 = 0

    init() {}
    init(_ address: Address, until: UInt64) {
        self.address = address
        self.until = until
    }

    static func place(of target: Address) -> Int { Int((target.high ^ target.low ^ UInt64(target.port)) & 7) }

    mutating func add(_ identity: ListenerIdentity) {
        if count > 0 && identity.cookie != identities[0].cookie { isShared = true }
        identities[count] = identity
        count += 1
    }

    mutating func take(_ target: Address, _ now: UInt64) -> ListenerIdentity? {
        guard count > 0, until > now, address.port == target.port, address.sameHost(as: target) else { return nil }
        let identity = identities[count - 1]
        if isShared { count -= 1 }
        return identity
    }
}

/// Nanoseconds.
private let believed: UInt64 = 200_000_000
nonisolated(unsafe) private var knownListeners = InlineArray<8, KnownListeners>(repeating: KnownListeners())

/// One question for each answer that there is room for, in one packet; each gets a packet of its own.
private func ask(_ known: inout KnownListeners) {
    let opened = sk_socket(AF_NETLINK, 3 | Int32(Flag.closeOnExec) /* SOCK_RAW */, NETLINK_SOCK_DIAG)
    guard opened >= 0 else { return }
    let descriptor = Int32(opened)
    defer { _ = sk_close(descriptor) }
    let request = DiagnosisRequest(known.address)
    var requests = InlineArray<8, DiagnosisRequest>(repeating: request)
    var random = unsafe sk_now() ^ UInt64(process.processIdentifier) << 40
    for index in 0..<KnownListeners.answers {
        random = random &* 0x5851_f42d_4c95_7f2d &+ 0x1405_7b7e_f767_814f
        // From below 1024, where hardly ever a client is: the look-up would find its connection, not the listener.
        requests[index].body.id.idiag_dport = sk_swap16(UInt16(1 + (random >> 33) % 1023))
    }
    let size = MemoryLayout<DiagnosisRequest>.stride * KnownListeners.answers
    guard unsafe sk_sendto(descriptor, &requests, size, 0, nil, 0) > 0 else { return }
    for _ in 0..<KnownListeners.answers {
        if let identity = answer(descriptor) { known.add(identity) }
    }
}

private func answer(_ descriptor: Int32) -> ListenerIdentity? {
    var answer = InlineArray<64, UInt64>(repeating: 0)
    return unsafe withUnsafeMutableBytes(of: &answer) { bytes -> ListenerIdentity? in
        let received = unsafe sk_recvfrom(
            descriptor, bytes.baseAddress!, bytes.count, Int32(truncatingIfNeeded: Flag.dontWait))
        guard received >= MemoryLayout<nlmsghdr>.size + MemoryLayout<inet_diag_msg>.size else { return nil }
        let header = unsafe bytes.load(as: nlmsghdr.self)
        guard header.nlmsg_type == UInt16(SOCK_DIAG_BY_FAMILY) else { return nil }
        let found = unsafe bytes.load(fromByteOffset: MemoryLayout<nlmsghdr>.size, as: inet_diag_msg.self)
        guard found.idiag_state == 10 /* TCP_LISTEN */ else { return nil }
        var identity = ListenerIdentity()
        identity.cookie = UInt64(found.id.idiag_cookie.0) | UInt64(found.id.idiag_cookie.1) << 32
        identity.user = found.idiag_uid
        return identity
    }
}

private struct DiagnosisRequest {
    var header = nlmsghdr()
    var body = inet_diag_req_v2()

    /// Of the listener at `address`, by a client at the same address.
    init(_ address: Address) {
        header.nlmsg_len = UInt32(MemoryLayout<DiagnosisRequest>.size)
        header.nlmsg_type = UInt16(SOCK_DIAG_BY_FAMILY)
        header.nlmsg_flags = UInt16(NLM_F_REQUEST)
        body.sdiag_family = UInt8(address.family)
        body.sdiag_protocol = UInt8(6)
        body.idiag_states = UInt32.max
        body.id.idiag_sport = sk_swap16(address.port)
        body.id.idiag_cookie = (UInt32.max, UInt32.max)
        // Where the kernel says that such packets come in, for listeners that are bound to an interface.
        body.id.idiag_if = address.isIPv4 || address.isLoopback ? 1 /* lo */ : address.scope
        unsafe withUnsafeMutableBytes(of: &body.id.idiag_src) { bytes in
            unsafe bytes.storeBytes(of: address.high, as: UInt64.self)
            unsafe bytes.storeBytes(of: address.low, toByteOffset: 8, as: UInt64.self)
        }
        body.id.idiag_dst = body.id.idiag_src
    }
}

/// The kernel's number of a socket, unique in this boot.
package func cookie(of descriptor: Int32) -> UInt64? { number(of: descriptor, 57 /* SO_COOKIE */) }

/// The kernel's number of the network namespace that a socket belongs to; nil on a Linux before 5.14.
package func network(of descriptor: Int32) -> UInt64? { number(of: descriptor, 71 /* SO_NETNS_COOKIE */) }

/// TCP's or another protocol's number.
package func protocolNumber(of descriptor: Int32) -> UInt64? { number(of: descriptor, 38 /* SO_PROTOCOL */) }

private func number(of descriptor: Int32, _ option: Int32) -> UInt64? {
    var value: UInt64 = 0
    var length: UInt32 = 8
    guard unsafe sk_getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0 else { return nil }
    return value
}

/// The address that the kernel gives as a socket's own.
package func boundAddress(_ descriptor: Int32) -> Address? {
    var raw = InlineArray<4, UInt64>(repeating: 0)
    var length: UInt32 = 32
    return unsafe withUnsafeMutableBytes(of: &raw) { bytes in
        guard unsafe sk_getsockname(descriptor, bytes.baseAddress!, &length) == 0 else { return nil }
        return unsafe Address(bytes.baseAddress!, length: length)
    }
}

/// Whether TCP would bring who dials the address to this very host; nil where no descriptor is free to ask. Loopback
/// needs no question.
package func isLocal(_ address: Address) -> Bool? {
    let target = address.unmapped()
    if target.isLoopback && !target.isLoopbackBroadcast { return true }
    if target.isAny { return false }
    let opened = sk_socket(Int32(target.family), 2 | Flag.closeOnExec /* SOCK_DGRAM */, 0)
    if opened == -Int(EMFILE) { return nil }
    guard opened >= 0 else { return false }
    defer { _ = sk_close(Int32(opened)) }
    return routesToItself(target, Int32(opened))
}

/// A datagram socket that is connected sends nothing, and gets the source that the routes give it. That is the address
/// dialled where this host has it, and never for a broadcast, a multicast or somebody else's. Whether the address
/// can be bound would not tell: with ip_nonlocal_bind each can. Netlink would, but waits for who changes routes.
private func routesToItself(_ target: Address, _ socket: Int32) -> Bool {
    var raw: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    var length: UInt32 = 32
    let connected = unsafe withUnsafeMutableBytes(of: &raw) { bytes in
        unsafe target.store(bytes.baseAddress!, &length)
        return unsafe sk_connect(socket, bytes.baseAddress!, length) == 0
    }
    return connected && boundAddress(socket)?.sameHost(as: target) == true
}

/// The abstract name of the hidden Unix listener beside the TCP listener with this cookie. Abstract
/// names live in the network namespace, as the listener does, and vanish with their last descriptor.
package struct HiddenName {
    package var address = sockaddr_un()
    package var length: UInt32 = 0

    package init(cookie: UInt64) {
        var text = Text("skein/")
        text.append(decimal: UInt64(Layout.version))
        text.append("/tcp/")
        text.append(hex: cookie)
        self.init(text)
    }

    /// The name of the STP listener of `port` on the host that this runtime folder makes.
    package init(device: UInt64, inode: UInt64, port: UInt16) {
        var text = Text("skein/")
        text.append(decimal: UInt64(Layout.version))
        text.append("/stp/")
        text.append(hex: device)
        text.append(":")
        text.append(hex: inode)
        text.append("/")
        text.append(decimal: UInt64(port))
        self.init(text)
    }

    /// The name under which the agent of that host takes clients for other hosts.
    package init(agentOfDevice device: UInt64, inode: UInt64) {
        var text = Text("skein/")
        text.append(decimal: UInt64(Layout.version))
        text.append("/agent/")
        text.append(hex: device)
        text.append(":")
        text.append(hex: inode)
        self.init(text)
    }

    /// The name of the socket by which an end's owner hears of urgent data.
    package init(urgentCookie cookie: UInt64) {
        var text = Text("skein/")
        text.append(decimal: UInt64(Layout.version))
        text.append("/urgent/")
        text.append(hex: cookie)
        self.init(text)
    }

    package init(_ text: Text) {
        address.sun_family = UInt16(AF_UNIX)
        _ = unsafe withUnsafeMutableBytes(of: &address.sun_path) { path in
            unsafe text.withCString { name in
                unsafe memcpy(path.baseAddress!.advanced(by: 1), name, text.count)
            }
        }
        length = UInt32(3 + text.count)
    }
}
