import CSystem

// Socket options: an endpoint answers for TCP; a TCP socket passes them on and remembers what it must
// carry over to the endpoint that it may become.

/// The level and name of each of our options; nil for the two halves of SO_LINGER.
func optionName(_ option: Option) -> (level: Int32, name: Int32)? {
    switch option {
    case .noDelay: (6, 1)
    case .cork: (6, 3)
    case .keepIdle: (6, 4)
    case .keepInterval: (6, 5)
    case .keepCount: (6, 6)
    case .userTimeout: (6, 18)
    case .reuseAddress: (1, 2)
    case .sendBuffer: (1, 7)
    case .receiveBuffer: (1, 8)
    case .keepAlive: (1, 9)
    case .oobInline: (1, 10)
    case .receiveLowWater: (1, 18)
    case .lingerOn, .lingerSeconds: nil
    }
}

private func ourOption(_ level: Int32, _ name: Int32) -> Option? {
    for index in 0..<Option.count {
        let option = Option(rawValue: index)!
        if let known = optionName(option), known.level == level && known.name == name { return option }
    }
    return nil
}

/// The name by which getsockopt shows what was set: SO_SNDBUFFORCE and SO_RCVBUFFORCE have none of their own.
private func shownName(_ level: Int32, _ name: Int32) -> Int32 {
    level == SOL_SOCKET && (name == 32 || name == 33) ? name - 25 : name
}

/// What a TCP socket of Linux says of an option that nobody has set.
func usualValue(of option: Option) -> Int32 {
    switch option {
    case .sendBuffer: 2_626_560
    case .receiveBuffer: 131_072
    case .keepIdle: 7200
    case .keepInterval: 75
    case .keepCount: 9
    case .receiveLowWater: 1
    default: 0
    }
}

extension Endpoint {
    func setDefaultOptions() {
        for index in 0..<Option.count {
            let option = Option(rawValue: index)!
            setOption(option, usualValue(of: option))
        }
    }
}

extension Endpoint {
    /// Sets what the program asked for, where that has an effect with the effect.
    func change(_ option: Option, _ value: Int32) {
        setOption(option, value)
        if option == .sendBuffer { block.store32(Block.sendLimit, UInt32(value)) }
        if option == .receiveBuffer { mine.store32(Layout.receiveLimit, UInt32(value)) }
        if option == .lingerOn || option == .lingerSeconds { announceLinger() }
        if option == .oobInline { announce(EndState.urgentInline, value != 0) }
    }

    /// Whether the end of this end is to be a reset.
    fileprivate func announceLinger() {
        announce(EndState.abortive, option(.lingerOn) != 0 && option(.lingerSeconds) == 0)
    }

    private func announce(_ state: UInt32, _ holds: Bool) {
        if holds { mine.or32(Layout.state, state) } else { mine.clear32(Layout.state, state) }
    }
}

private func timeout(_ value: UnsafeRawPointer, _ length: UInt32) -> UInt64? {
    guard length >= 16 else { return nil }
    let seconds = unsafe value.loadUnaligned(as: Int.self)
    let micro = unsafe value.loadUnaligned(fromByteOffset: 8, as: Int.self)
    guard micro >= 0 && micro < 1_000_000 else { return nil }
    if seconds < 0 { return 1 }
    return UInt64(min(seconds, 1 << 32)) * 1_000_000_000 + UInt64(micro) * 1000
}

/// SO_RCVTIMEO and SO_SNDTIMEO, whose numbers have a second form for 64-bit time.
private func isReceiveTimeout(_ level: Int32, _ name: Int32) -> Bool { level == 1 && (name == 20 || name == 66) }
private func isSendTimeout(_ level: Int32, _ name: Int32) -> Bool { level == 1 && (name == 21 || name == 67) }

@c(setsockopt) public func hookSetOption(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer?, _ length: UInt32
) -> Int32 {
    if let end = endpoint(descriptor) { return unsafe Int32(finish(setOption(end, level, name, value, length))) }
    if unsafe refusesZeroCopy(descriptor, level, name, value, length) { return Int32(finish(-Int(ENOPROTOOPT))) }
    let result = unsafe real.setsockopt!(descriptor, level, name, value, length)
    if result != 0 && level != SOL_SOCKET, let value = unsafe value, let relayed = relayAddresses(descriptor) {
        return Int32(finish(unsafe setRelayedOption(relayed.relay, descriptor, level, name, value, length) ?? 0))
    }
    guard result == 0, let socket = unsafe streamSocket(descriptor), let value = unsafe value else { return result }
    if isReceiveTimeout(level, name) {
        unsafe socket.pointee.receiveTimeout = unsafe timeout(value, length) ?? 0
    } else if isSendTimeout(level, name) {
        unsafe socket.pointee.sendTimeout = unsafe timeout(value, length) ?? 0
    } else if level == 1 && name == 13 && length >= 8 {
        unsafe remember(socket, .lingerOn, value.loadUnaligned(as: Int32.self))
        unsafe remember(socket, .lingerSeconds, value.loadUnaligned(fromByteOffset: 4, as: Int32.self))
    } else if let option = ourOption(level, shownName(level, name)), length >= 4 {
        let shown = number(of: descriptor, level, shownName(level, name))
        unsafe remember(socket, option, shown ?? value.loadUnaligned(as: Int32.self))
    } else if length >= 4, let shown = number(of: descriptor, level, name) {
        unsafe socket.pointee.otherOptions.set(level, name, shown)
    }
    return result
}

/// What the kernel says of a socket's option, where that is a number.
private func number(of descriptor: Int32, _ level: Int32, _ name: Int32) -> Int32? {
    var value: Int32 = 0
    var length: UInt32 = 4
    guard unsafe sk_getsockopt(descriptor, level, name, &value, &length) == 0, length == 4 else { return nil }
    return value
}

/// Nobody would tell a program that its bytes have been sent from where they lie: it must not wait for that. A
/// connection that is TCP already may have it.
private func refusesZeroCopy(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer?, _ length: UInt32
) -> Bool {
    guard level == SOL_SOCKET, name == 60 /* SO_ZEROCOPY */, length >= 4, let value = unsafe value,
        unsafe value.loadUnaligned(as: Int32.self) == 1, unsafe streamSocket(descriptor) != nil
    else { return false }
    var raw = InlineArray<4, UInt64>(repeating: 0)
    var room: UInt32 = 32
    return unsafe withUnsafeMutableBytes(of: &raw) {
        unsafe sk_getpeername(descriptor, $0.baseAddress!, &room) != 0
    }
}

func remember(_ socket: UnsafeMutablePointer<StreamSocket>, _ option: Option, _ value: Int32) {
    unsafe socket.pointee.optionsSet |= 1 << UInt32(option.rawValue)
    unsafe socket.pointee.options[option.rawValue] = value
}

/// The value that getsockopt gives back for one that was set; nil where TCP takes no such value.
private func shown(_ option: Option, _ value: Int32) -> Int32? {
    switch option {
    case .noDelay, .keepAlive, .reuseAddress, .oobInline, .cork: value != 0 ? 1 : 0
    case .keepIdle, .keepInterval: 1...32767 ~= value ? value : nil
    case .keepCount: 1...127 ~= value ? value : nil
    case .userTimeout: value >= 0 ? value : nil
    case .receiveLowWater: value < 0 ? Int32.max : max(value, 1)
    default: value
    }
}

private func setOption(
    _ end: Endpoint, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer?, _ length: UInt32
) -> Int {
    if length > UInt32(Int32.max) { return -Int(EINVAL) }
    guard let value = unsafe value else { return -Int(EFAULT) }
    if isReceiveTimeout(level, name) || isSendTimeout(level, name) {
        guard let nanoseconds = unsafe timeout(value, length) else { return length < 16 ? -Int(EINVAL) : -Int(EDOM) }
        end.block.store64(isReceiveTimeout(level, name) ? Block.receiveTimeout : Block.sendTimeout, nanoseconds)
        return 0
    }
    if level == 1 && name == 13 {
        guard length >= 8 else { return -Int(EINVAL) }
        unsafe end.setOption(.lingerOn, value.loadUnaligned(as: Int32.self))
        unsafe end.setOption(.lingerSeconds, value.loadUnaligned(fromByteOffset: 4, as: Int32.self))
        end.announceLinger()
        return 0
    }
    let option = ourOption(level, shownName(level, name))
    if let option, option != .sendBuffer && option != .receiveBuffer {
        guard length >= 4, let shown = unsafe shown(option, value.loadUnaligned(as: Int32.self)) else {
            return -Int(EINVAL)
        }
        end.change(option, shown)
        return 0
    }
    return unsafe setAsTCP(end, option, level, name, value, length)
}

/// An option of which TCP alone knows what may be set and what is shown then (a system's limits, names of
/// congestion controls, privileges). Most do nothing in memory.
private func setAsTCP(
    _ end: Endpoint, _ option: Option?, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer, _ length: UInt32
) -> Int {
    switch (level, name) {
    case (6, 31 /* TCP_ULP */): return -Int(ENOENT)
    case (6, 19 /* TCP_REPAIR */): return -Int(EPERM)
    case (1, 60 /* SO_ZEROCOPY */):
        if unsafe length >= 4 && value.loadUnaligned(as: Int32.self) == 1 { return -Int(ENOPROTOOPT) }
    case (6, 12 /* TCP_QUICKACK */):
        // Set before each read by some: not worth a question.
        guard length >= 4 else { return -Int(EINVAL) }
        unsafe end.local.pointee.otherOptions.set(level, name, value.loadUnaligned(as: Int32.self) & 1)
        return 0
    default: break
    }
    let asked = withTCPSocket(like: end) { socket in
        let result = unsafe sk_setsockopt(socket, level, name, value, length)
        return (result: result, shown: result == 0 ? number(of: socket, level, shownName(level, name)) : nil)
    }
    if let asked, asked.result < 0 { return asked.result }
    guard let shown = unsafe asked == nil && length >= 4 ? value.loadUnaligned(as: Int32.self) : asked?.shown else {
        return 0
    }
    if let option {
        end.change(option, shown)
    } else {
        unsafe end.local.pointee.otherOptions.set(level, name, shown)
    }
    return 0
}

/// Asks a TCP socket that is nobody's. nil where none can be had: behind a seccomp filter, or without a descriptor.
private func withTCPSocket<Result>(like end: Endpoint, _ ask: (Int32) -> Result) -> Result? {
    if unsafe process.isConfined { return nil }
    let family = Int32(end.block.load32(Block.family)) == AF_INET6 ? AF_INET6 : AF_INET
    let made = sk_socket(family, 1 | Flag.closeOnExec, 0)
    guard made >= 0 else { return nil }
    defer { _ = sk_close(Int32(made)) }
    return ask(Int32(made))
}

@c(getsockopt) public func hookGetOption(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let end = knownEndpoint(descriptor), let value = unsafe value, let length = unsafe length else {
        return unsafe getKernelOption(descriptor, level, name, value, length)
    }
    if unsafe length.pointee > UInt32(Int32.max) { return Int32(finish(-Int(EINVAL))) }
    if isReceiveTimeout(level, name) || isSendTimeout(level, name) {
        let nanoseconds = end.block.load64(isReceiveTimeout(level, name) ? Block.receiveTimeout : Block.sendTimeout)
        return unsafe give(value, length, Int(nanoseconds / 1_000_000_000), Int(nanoseconds % 1_000_000_000 / 1000))
    }
    if level == 6 && name == 11 { return unsafe giveInformation(end, value, length) }
    if level == 1 && name == 13 {
        var pair = (end.option(.lingerOn), end.option(.lingerSeconds))
        return unsafe withUnsafeBytes(of: &pair) { unsafe give(value, length, $0.baseAddress!, 8) }
    }
    if level == 0 && name == 4, let text = text(of: level, name) { return unsafe give(value, length, text) }
    if level == 1 && name == 28 /* SO_PEERNAME */ { return unsafe givePeerName(end, value, length) }
    if level == 1 && (name == 57 /* SO_COOKIE */ || name == 71 /* SO_NETNS_COOKIE */) {
        // The kernel counts the socket beneath like any other.
        return unsafe Int32(finish(sk_getsockopt(descriptor, level, name, value, length)))
    }
    if var answer = integerOption(end, level, name) {
        return unsafe withUnsafeBytes(of: &answer) { unsafe give(value, length, $0.baseAddress!, 4) }
    }
    let asked = withTCPSocket(like: end) { unsafe sk_getsockopt($0, level, name, value, length) }
    if let asked { return Int32(finish(asked)) }
    if let text = text(of: level, name) { return unsafe give(value, length, text) }
    return Int32(finish(-Int(ENOPROTOOPT)))
}

/// SO_PEERNAME: the address, for who has no room for more than an address.
private func givePeerName(
    _ end: Endpoint, _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>
) -> Int32 {
    let address = end.peerAddress
    let room = unsafe length.pointee
    var size: UInt32 = 0
    unsafe address.store(value, &size)
    guard room <= size else { return Int32(finish(-Int(EINVAL))) }
    unsafe address.store(value, length)
    unsafe length.pointee = room
    return 0
}

/// Options that are no number: none of IP's options is set (sshd refuses a connection that has some), and
/// a congestion control has a name.
private func text(of level: Int32, _ name: Int32) -> StaticString? {
    switch (level, name) {
    case (0, 4 /* IP_OPTIONS */): ""
    case (6, 13 /* TCP_CONGESTION */): "cubic\0"
    default: nil
    }
}

private func give(
    _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>, _ text: StaticString
) -> Int32 { unsafe give(value, length, text.utf8Start, text.utf8CodeUnitCount) }

/// A relay's stream says that it is TCP, and has the options of the connection that it stands for.
private func getKernelOption(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    let result = unsafe real.getsockopt!(descriptor, level, name, value, length)
    let saysWhat = level == SOL_SOCKET && (name == 38 /* SO_PROTOCOL */ || name == 39 /* SO_DOMAIN */)
    guard result != 0 || saysWhat, let value = unsafe value, let length = unsafe length,
        saysWhat || level != SOL_SOCKET
    else { return result }
    let savedErrno = sk_errno()
    guard let relayed = relayAddresses(descriptor) else {
        sk_set_errno(savedErrno)
        return result
    }
    if !saysWhat, let result = unsafe getRelayedOption(relayed.relay, descriptor, level, name, value, length) {
        return Int32(finish(result))
    }
    if let text = text(of: level, name) { return unsafe give(value, length, text) }
    var answer = !saysWhat ? 0 : name == 38 ? 6 : Int32(relayed.local.family)
    return unsafe withUnsafeBytes(of: &answer) { unsafe give(value, length, $0.baseAddress!, 4) }
}

private func integerOption(_ end: Endpoint, _ level: Int32, _ name: Int32) -> Int32? {
    if let option = ourOption(level, name) { return end.option(option) }
    if let other = unsafe end.local.pointee.otherOptions.value(level, name) { return other }
    switch (level, name) {
    case (1, 3): return 1  // SO_TYPE: SOCK_STREAM
    case (1, 4):  // SO_ERROR
        unsafe end.askKernel(end.local.pointee.descriptor)
        return end.takeError()
    case (1, 30): return 0  // SO_ACCEPTCONN
    case (1, 38): return 6  // SO_PROTOCOL: IPPROTO_TCP
    case (1, 39): return Int32(end.block.load32(Block.family))  // SO_DOMAIN
    case (6, 12): return 1  // TCP_QUICKACK
    case (6, 2): return 65483  // TCP_MAXSEG of loopback
    case (0, 14 /* IP_MTU */): return loopbackSize(end)
    case (41, 24 /* IPV6_MTU */) where end.block.load32(Block.family) == UInt32(AF_INET6): return 65536
    case (6, 10): return 65536  // TCP_WINDOW_CLAMP
    case (1, 49): return processor(of: end)  // SO_INCOMING_CPU
    default: return nil
    }
}

/// Loopback's largest packet, of which IPv4 can't name the last byte.
private func loopbackSize(_ end: Endpoint) -> Int32 {
    end.peerAddress.unmapped().isIPv4 ? 65535 : 65536
}

/// Where the peer ran when it last read or wrote.
private func processor(of end: Endpoint) -> Int32 {
    let published = Int32(truncatingIfNeeded: end.peer.load32(Layout.processor))
    return published > 0 ? published - 1 : sk_cpu()
}

/// The number that TCP gives the state: established, close-wait, fin-wait-2, closed.
private func tcpState(_ end: Endpoint) -> UInt8 {
    unsafe end.askKernel(end.local.pointee.descriptor)
    if end.isClosed() { return 7 }
    if end.has(EndFlag.writeShut) { return 5 }
    return end.ending().finished ? 8 : 1
}

/// TCP_INFO: the state alone.
private func giveInformation(
    _ end: Endpoint, _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>
) -> Int32 {
    var information = InlineArray<32, UInt64>(repeating: 0)
    return unsafe withUnsafeMutableBytes(of: &information) { bytes in
        unsafe bytes[0] = tcpState(end)
        return unsafe give(value, length, bytes.baseAddress!, min(Int(length.pointee), 104))
    }
}

private func give(
    _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>, _ source: UnsafeRawPointer, _ size: Int
) -> Int32 {
    let count = unsafe min(size, Int(length.pointee))
    unsafe memcpy(value, source, count)
    unsafe length.pointee = UInt32(count)
    return 0
}

private func give(
    _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>, _ seconds: Int, _ micro: Int
) -> Int32 {
    var pair = (seconds, micro)
    return unsafe withUnsafeBytes(of: &pair) { unsafe give(value, length, $0.baseAddress!, 16) }
}
