import CSystem

// Names of hosts of the group: HOST.GROUP.skein always, and HOST alone where nothing else knows it. The system's functions
// make the answers, from the host's address as text.

private typealias Information = UnsafeMutablePointer<addrinfo>
private typealias FindInformation =
    @convention(c) (
        UnsafePointer<CChar>?, UnsafePointer<CChar>?, UnsafePointer<addrinfo>?, UnsafeMutablePointer<Information?>?
    ) -> Int32
private typealias FindHost = @convention(c) (UnsafePointer<CChar>?) -> UnsafeMutablePointer<hostent>?
private typealias FindHostInto =
    @convention(c) (
        UnsafePointer<CChar>?, UnsafeMutablePointer<hostent>?, UnsafeMutablePointer<CChar>?, Int,
        UnsafeMutablePointer<UnsafeMutablePointer<hostent>?>?, UnsafeMutablePointer<Int32>?
    ) -> Int32

@c(getaddrinfo) public func hookGetAddressInformation(
    _ name: UnsafePointer<CChar>?, _ service: UnsafePointer<CChar>?, _ hints: UnsafePointer<addrinfo>?,
    _ result: UnsafeMutablePointer<UnsafeMutablePointer<addrinfo>?>?
) -> Int32 {
    let find = unsafe unsafeBitCast(sk_next_symbol("getaddrinfo"), to: FindInformation.self)
    func found(_ host: Int) -> Int32 { unsafe answer(host, name, service, hints, result, find) }
    switch unsafe whole(name) {
    case .host(let host): return found(host)
    case .nobody: return EAI_NONAME
    case .foreign: break
    }
    let outcome = unsafe find(name, service, hints, result)
    let isNumeric = unsafe (hints?.pointee.ai_flags ?? 0) & AI_NUMERICHOST != 0
    guard outcome != 0 && outcome != EAI_SERVICE && !isNumeric, let host = unsafe short(name) else { return outcome }
    return found(host)
}

@c(gethostbyname) public func hookGetHostByName(_ name: UnsafePointer<CChar>?) -> UnsafeMutablePointer<hostent>? {
    let find = unsafe unsafeBitCast(sk_next_symbol("gethostbyname"), to: FindHost.self)
    func found(_ host: Int) -> UnsafeMutablePointer<hostent>? {
        unsafe text(of: host, six: false).withCString { unsafe find($0) }
    }
    if case .host(let host) = unsafe whole(name) { return unsafe found(host) }
    if let entry = unsafe find(name) { return unsafe entry }
    guard let host = unsafe short(name) else { return nil }
    return unsafe found(host)
}

@c(gethostbyname_r) public func hookGetHostByNameInto(
    _ name: UnsafePointer<CChar>?, _ entry: UnsafeMutablePointer<hostent>?, _ buffer: UnsafeMutablePointer<CChar>?,
    _ size: Int, _ result: UnsafeMutablePointer<UnsafeMutablePointer<hostent>?>?, _ error: UnsafeMutablePointer<Int32>?
) -> Int32 {
    let find = unsafe unsafeBitCast(sk_next_symbol("gethostbyname_r"), to: FindHostInto.self)
    func found(_ host: Int) -> Int32 {
        unsafe text(of: host, six: false).withCString { unsafe find($0, entry, buffer, size, result, error) }
    }
    if case .host(let host) = unsafe whole(name) { return found(host) }
    let outcome = unsafe find(name, entry, buffer, size, result, error)
    guard unsafe result?.pointee == nil && outcome != ERANGE, let host = unsafe short(name) else { return outcome }
    return found(host)
}

private enum Meaning {
    case host(Int)
    /// The group is ours, and no host of that name lives.
    case nobody
    /// It is for others to know.
    case foreign
}

/// What HOST.GROUP.skein means, with a dot at the end or without.
private func whole(_ name: UnsafePointer<CChar>?) -> Meaning {
    guard unsafe rules.enabled, let name = unsafe name else { return .foreign }
    return unsafe withName(name) { name in
        let name = name.last == ASCII.dot ? name.extracting(0..<name.count - 1) : name
        // Most names aren't worth a look at the file.
        let domain = 6
        guard name.count > domain,
            name.extracting(name.count - domain..<name.count).isEqualIgnoringCase(".skein"),
            let group = GroupFile(), let part = group.hostPart(of: name)
        else { return .foreign }
        return group.number(of: name.extracting(part)).map { .host($0) } ?? .nobody
    }
}

/// The host with that name alone.
private func short(_ name: UnsafePointer<CChar>?) -> Int? {
    guard unsafe rules.enabled, let name = unsafe name else { return nil }
    return unsafe withName(name) { GroupFile()?.number(of: $0) }
}

/// The bytes of a name that has a NUL behind it.
func withName<Result>(_ name: UnsafePointer<CChar>, _ body: (Span<UInt8>) -> Result) -> Result {
    let count = unsafe strlen(name)
    return unsafe name.withMemoryRebound(to: UInt8.self, capacity: count) {
        body(unsafe UnsafeBufferPointer(start: $0, count: count).span)
    }
}

/// Both addresses of a host, or that of the family which is asked for, IPv4's first: who tries one alone is right with it.
private func answer(
    _ host: Int, _ name: UnsafePointer<CChar>?, _ service: UnsafePointer<CChar>?, _ hints: UnsafePointer<addrinfo>?,
    _ result: UnsafeMutablePointer<Information?>?, _ find: FindInformation
) -> Int32 {
    var wanted = unsafe hints?.pointee ?? addrinfo()
    let family = unsafe wanted.ai_family
    // No interface has such an address.
    unsafe wanted.ai_flags = wanted.ai_flags & ~(AI_ADDRCONFIG | AI_V4MAPPED) | AI_NUMERICHOST
    var outcome = EAI_NONAME
    var last: Information?
    for six in [false, true] where family == 0 || family == (six ? AF_INET6 : AF_INET) {
        unsafe wanted.ai_family = six ? AF_INET6 : AF_INET
        var more: Information?
        let found = unsafe text(of: host, six: six).withCString { unsafe find($0, service, &wanted, &more) }
        guard found == 0, let first = unsafe more else {
            if unsafe last == nil { outcome = found }
            continue
        }
        outcome = 0
        if let last = unsafe last {
            unsafe last.pointee.ai_next = unsafe first
        } else {
            unsafe result?.pointee = unsafe first
        }
        if unsafe last == nil && wanted.ai_flags & AI_CANONNAME != 0, let name = unsafe name {
            unsafe free(first.pointee.ai_canonname)
            unsafe first.pointee.ai_canonname = strdup(name)
        }
        unsafe wanted.ai_flags &= ~AI_CANONNAME
        unsafe last = unsafe first
        while let next = unsafe last?.pointee.ai_next { unsafe last = unsafe next }
    }
    return outcome
}

/// The address of a host as text.
private func text(of host: Int, six: Bool) -> Text {
    var text = Text(six ? "fd53:6b65:696e::" : "198.")
    let place = UInt64(host + 1)
    if six {
        text.append(hex: place)
    } else {
        text.append(decimal: 18 + place >> 16)
        text.append(".")
        text.append(decimal: place >> 8 & 255)
        text.append(".")
        text.append(decimal: place & 255)
    }
    return text
}
