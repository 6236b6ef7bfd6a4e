import CSystem

/// The TCP listener that the kernel would give a connection to: who it belongs to, and its cookie,
/// the kernel's own number of that socket, which names the hidden Unix listener beside it.
package struct ListenerIdentity {
    package var cookie: UInt64 = 0
    package var user: UInt32 = 0
    package init() {}
}

/// Asks the kernel (sock_diag, with TCP's own look-up) which listener `address` reaches in this network
/// namespace; nil when none does or when it can't be asked. An answer is believed for a short time: a
/// listener that went away takes its hidden name along, so a stale one fails to connect and is asked anew.
package func findListener(_ address: Address) -> ListenerIdentity? {
    let target = address.unmapped()
    let now = sk_now()
    let place = Int((target.high ^ target.low ^ UInt64(target.port)) & 7)
    let known = withProcessLock { unsafe knownListeners[place] }
    if known.until > now && known.address.port == target.port && known.address.sameHost(as: target) {
        return known.identity
    }
    guard let identity = ask(target) else { return nil }
    withProcessLock {
        unsafe knownListeners[place] = KnownListener(address: target, identity: identity, until: now + believed)
    }
    return identity
}

/// True when there was something to forget.
package func forgetListener(_ address: Address) -> Bool {
    let target = address.unmapped()
    let place = Int((target.high ^ target.low ^ UInt64(target.port)) & 7)
    return withProcessLock {
        let known = unsafe knownListeners[place].until != 0
        unsafe knownListeners[place] = KnownListener()
        return known
    }
}

private struct KnownListener {
    var address = Address()
    var identity = ListenerIdentity()
    var until: UInt64 = 0
}

/// Nanoseconds.
private let believed: UInt64 = 200_000_000
nonisolated(unsafe) private var knownListeners = InlineArray<8, KnownListener>(repeating: KnownListener())

private func ask(_ address: Address) -> ListenerIdentity? {
    let opened = sk_socket(AF_NETLINK, 3 | Int32(Flag.closeOnExec) /* SOCK_RAW */, NETLINK_SOCK_DIAG)
    guard opened >= 0 else { return nil }
    let descriptor = Int32(opened)
    defer { _ = sk_close(descriptor) }
    var request = DiagnosisRequest()
    request.header.nlmsg_len = UInt32(MemoryLayout<DiagnosisRequest>.size)
    request.header.nlmsg_type = UInt16(SOCK_DIAG_BY_FAMILY)
    request.header.nlmsg_flags = UInt16(NLM_F_REQUEST)
    request.body.sdiag_family = UInt8(address.family)
    request.body.sdiag_protocol = UInt8(6)
    request.body.idiag_states = UInt32.max
    request.body.id.idiag_sport = sk_swap16(address.port)
    request.body.id.idiag_cookie = (UInt32.max, UInt32.max)
    unsafe withUnsafeMutableBytes(of: &request.body.id.idiag_src) { bytes in
        unsafe bytes.storeBytes(of: address.high, as: UInt64.self)
        unsafe bytes.storeBytes(of: address.low, toByteOffset: 8, as: UInt64.self)
    }
    unsafe withUnsafeMutableBytes(of: &request.body.id.idiag_dst) { bytes in
        unsafe bytes.storeBytes(of: address.high, as: UInt64.self)
        unsafe bytes.storeBytes(of: address.low, toByteOffset: 8, as: UInt64.self)
    }
    guard unsafe sk_sendto(descriptor, &request, MemoryLayout<DiagnosisRequest>.size, 0, nil, 0) > 0 else { return nil }
    var answer = InlineArray<512, UInt64>(repeating: 0)
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
}

/// The kernel's number of a socket, unique in this boot.
package func cookie(of descriptor: Int32) -> UInt64? {
    var value: UInt64 = 0
    var length: UInt32 = 8
    guard unsafe sk_getsockopt(descriptor, SOL_SOCKET, 57 /* SO_COOKIE */, &value, &length) == 0 else { return nil }
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

/// Whether an address is one of this host: the kernel lets a socket bind it. Loopback needs no question.
package func isLocal(_ address: Address) -> Bool {
    let target = address.unmapped()
    if target.isLoopback { return true }
    if target.isAny { return false }
    let opened = sk_socket(Int32(target.family), 2 | Flag.closeOnExec /* SOCK_DGRAM */, 0)
    guard opened >= 0 else { return false }
    defer { _ = sk_close(Int32(opened)) }
    var probe = target
    probe.port = 0
    var raw: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    var length: UInt32 = 32
    return unsafe withUnsafeMutableBytes(of: &raw) { bytes in
        unsafe probe.store(bytes.baseAddress!, &length)
        return unsafe sk_bind(Int32(opened), bytes.baseAddress!, length) == 0
    }
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
