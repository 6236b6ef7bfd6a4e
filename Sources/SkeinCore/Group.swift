import CSystem

// Hosts of a group have addresses that programs see as any other host's: made of the host's number on the medium, in
// ranges that nobody routes. What is dialled there goes to the agent of this host, in memory.

extension Address {
    /// 198.18.0.0/15 (RFC 2544) and fd53:6b65:696e::/48 ("Skein" behind a ULA's first byte), as they lie in memory.
    private static let group: (four: UInt64, mask: UInt64, six: UInt64) = (0x12c6, 0xfeff, 0x6e69_656b_53fd)
    private static let sixMask: UInt64 = 0xffff_ffff_ffff
    /// The ranges as the agent's file tells them.
    package static let groupRanges: StaticString = "198.18.0.0/15 fd53:6b65:696e::/48"
    /// Numbers of hosts are below it.
    package static let groupHosts = 65_534

    /// Whether it is an address of some host of a group.
    package var isOfGroup: Bool {
        if isIPv4 { return high & Address.group.mask == Address.group.four }
        if isMapped { return (low >> 32) & Address.group.mask == Address.group.four }
        return family == UInt16(AF_INET6) && high & Address.sixMask == Address.group.six
    }

    /// The number of the host that has this address of a group; nil where none can have it.
    package var groupHost: Int? {
        guard isOfGroup else { return nil }
        let address = unmapped()
        let place =
            address.isIPv4
            ? UInt64(UInt32(truncatingIfNeeded: address.high).byteSwapped & 0x1_ffff)
            : address.high >> 48 == 0 ? address.low.byteSwapped : 0
        return 1...UInt64(Address.groupHosts) ~= place ? Int(place) - 1 : nil
    }

    /// The address of the host with that number, of IPv6 or IPv4.
    package static func ofGroup(host: Int, six: Bool, port: UInt16) -> Address {
        var address = Address()
        address.family = UInt16(six ? AF_INET6 : AF_INET)
        address.port = port
        if six {
            address.high = group.six
            address.low = UInt64(host + 1).byteSwapped
        } else {
            address.high = group.four | UInt64(UInt32(host + 1).byteSwapped)
        }
        return address
    }
}

/// What the agent of this host says of its group: the file `group` in the runtime folder, as docs/AGENT.md has it.
///
/// It is believed where root, the folder's owner or this user wrote it, which may speak for other hosts.
package struct GroupFile {
    private static let size = 8192

    private var content = InlineArray<8192, UInt8>(repeating: 0)
    private var count = 0
    /// This host's own number.
    package private(set) var host = 0

    /// Reads it; nil where no agent has written one, or not as an agent does.
    package init?() {
        guard unsafe !process.isConfined && process.folderError == 0 else { return nil }
        let folder = unsafe process.folderPath.withCString {
            unsafe sk_openat(-100, $0, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        }
        guard folder >= 0 else { return nil }
        defer { _ = sk_close(Int32(folder)) }
        var status = stat()
        guard unsafe sk_fstat(Int32(folder), &status) == 0, unsafe UInt64(status.st_ino) == process.folderInode,
            unsafe UInt64(status.st_dev) == process.folderDevice
        else { return nil }
        let file = unsafe sk_openat(
            Int32(folder), "group", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0)
        guard file >= 0 else { return nil }
        defer { _ = sk_close(Int32(file)) }
        guard unsafe sk_fstat(Int32(file), &status) == 0, status.st_mode & 0o170000 == 0o100000,
            mayBeAgent(status.st_uid)
        else { return nil }
        var text = InlineArray<8192, UInt8>(repeating: 0)
        let got = unsafe withUnsafeMutableBytes(of: &text) {
            unsafe sk_read(Int32(file), $0.baseAddress!, GroupFile.size)
        }
        guard got > 0 else { return nil }
        self.init(text.span.extracting(0..<got))
    }

    /// What a file with this text says.
    init?(_ text: Span<UInt8>) {
        // One that fills the room may go on.
        guard text.count < GroupFile.size, let own = GroupFile.ownNumber(text) else { return nil }
        for index in text.indices { content[index] = text[index] }
        count = text.count
        host = own
    }

    /// The name of the group.
    package func withGroup(_ body: (Span<UInt8>) -> Void) {
        withBytes { GroupFile.eachLine(of: $0) { key, value in if key.isEqual(to: "group") { body(value) } } }
    }

    /// The name of the host with that number, if it lives.
    package func withName(of number: Int, _ body: (Span<UInt8>) -> Void) {
        eachHost { if $0 == number { body($1) } }
    }

    private func eachHost(_ body: (Int, Span<UInt8>) -> Void) {
        withBytes {
            GroupFile.eachLine(of: $0) { key, value in
                guard key.isEqual(to: "host"), let blank = value.index(of: ASCII.space),
                    let number = GroupFile.number(value.extracting(0..<blank))
                else { return }
                body(number, value.extracting(blank + 1..<value.count))
            }
        }
    }

    /// The number of the host with that name, in small or capital letters.
    package func number(of name: Span<UInt8>) -> Int? {
        var found: Int?
        eachHost { if $1.isEqualIgnoringCase(name) { found = $0 } }
        return found
    }

    /// The name without the group behind it, where it ends so: `HOST.GROUP.skein`. nil where it doesn't.
    package func hostPart(of name: Span<UInt8>) -> Range<Int>? {
        var part: Range<Int>?
        withGroup { group in
            let domain: StaticString = ".skein"
            let rest = name.count - group.count - 1 - domain.utf8CodeUnitCount
            guard rest > 0, name[rest] == ASCII.dot,
                name.extracting(rest + 1..<rest + 1 + group.count).isEqualIgnoringCase(group),
                name.extracting(rest + 1 + group.count..<name.count).isEqualIgnoringCase(domain)
            else { return }
            part = 0..<rest
        }
        return part
    }

    private func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        body(content.span.extracting(0..<count))
    }

    /// nil unless the lines up to it are those of this version, with its ranges.
    private static func ownNumber(_ bytes: Span<UInt8>) -> Int? {
        var own: Int?
        var isOurs = false
        var line = 0
        eachLine(of: bytes) { key, value in
            if line == 0 { isOurs = key.isEqual(to: "skein") && value.isEqual(to: "group 1") }
            if key.isEqual(to: "range") && !value.isEqual(to: Address.groupRanges) { isOurs = false }
            if key.isEqual(to: "number") { own = number(value) }
            line += 1
        }
        return isOurs ? own : nil
    }

    /// Each line's first word, and what follows it.
    private static func eachLine(of bytes: Span<UInt8>, _ body: (Span<UInt8>, Span<UInt8>) -> Void) {
        var start = 0
        while start < bytes.count {
            let rest = bytes.extracting(start..<bytes.count)
            // What has no end isn't whole.
            guard let length = rest.index(of: ASCII.newline) else { return }
            let line = rest.extracting(0..<length)
            if let blank = line.index(of: ASCII.space) {
                body(line.extracting(0..<blank), line.extracting(blank + 1..<line.count))
            }
            start += length + 1
        }
    }

    /// The number of a host in decimal digits.
    private static func number(_ digits: Span<UInt8>) -> Int? {
        guard 1...5 ~= digits.count else { return nil }
        var value = 0
        for index in digits.indices {
            guard 48...57 ~= digits[index] else { return nil }
            value = value * 10 + Int(digits[index] - 48)
        }
        return value < Address.groupHosts ? value : nil
    }
}

/// Whether who runs as that user may speak for other hosts to a program of this one.
package func mayBeAgent(_ user: UInt32) -> Bool {
    unsafe user == 0 || isSameUser(user, process.effectiveUser) || isSameUser(user, process.folderOwner)
}

/// Whether who runs as that user may bring clients of other hosts to this process.
func mayBringClients(_ user: UInt32) -> Bool { unsafe user == 0 || isSameUser(user, process.effectiveUser) }

/// Whether a client of that user may say that it has dialled an address of a group from another one: the agent may, and
/// whoever has dialled this host from itself.
func mayHaveDialledInGroup(_ dialled: Address, _ client: Address, user: UInt32) -> Bool {
    guard let host = dialled.groupHost, client.isOfGroup, client.family == dialled.family else { return false }
    return mayBringClients(user) || client.sameHost(as: dialled) && GroupFile()?.host == host
}

/// Makes the connecting end of a connection that the agent carries to another host, as `connectEnd` does. The other host's
/// answer is still to come: see `EndFlag.unaccepted`.
package func connectEndToAgent(
    _ dialled: Address, from client: Address, bound: Int32
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    let name = unsafe HiddenName(agentOfDevice: process.folderDevice, inode: process.folderInode)
    let made = connectEnd(name, dialled.unmapped(), client.unmapped(), bound) { peer in
        mayBeAgent(peer.user) ? poolNumber(of: peer, port: 0) : nil
    }
    made.endpoint?.setAddresses(local: client, peer: dialled)
    return made
}

/// Makes the connecting end by which the agent brings a client of another host to the listener that `dialled`, this host's
/// address in the group, reaches: one that is bound to all addresses, or an STP listener; of this user or with an agent of
/// root's.
package func connectEndForOther(
    to dialled: Address, from: Address
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    func isBelieved(_ user: UInt32) -> Bool {
        unsafe process.effectiveUser == 0 || isSameUser(user, process.effectiveUser)
    }
    for _ in 0..<2 {
        guard let listener = findListener(dialled) else { break }
        let made = connectEnd(HiddenName(cookie: listener.cookie), dialled, from, -1) { peer in
            isBelieved(peer.user) && mayServe(listener, user: peer.user) ? listener.cookie : nil
        }
        made.endpoint?.setAddresses(local: dialled, peer: from)
        // What was remembered of the listener may be out of date.
        guard made.reason == .notUnderSkein && forgetListener(dialled) else { return made }
    }
    let name = unsafe HiddenName(device: process.folderDevice, inode: process.folderInode, port: dialled.port)
    let stated = Address(stpPort: from.port, host: from.groupHost)
    let made = connectEnd(name, Address(stpPort: dialled.port), stated, -1) { peer in
        isBelieved(peer.user) && mayServeSTP(dialled.port, user: peer.user)
            ? poolNumber(of: peer, port: dialled.port) : nil
    }
    made.endpoint?.setAddresses(local: dialled, peer: from)
    return made
}

extension Endpoint {
    /// Why the connection was not accepted: what the agent has said, as far as connect(2) may say so too.
    package var refusal: Int32 {
        let said = Int32(truncatingIfNeeded: peer.load32(Layout.refusal))
        switch said {
        case EHOSTUNREACH, ENETUNREACH, ENETDOWN, ETIMEDOUT: return said
        default: return ECONNREFUSED
        }
    }

    /// For the agent: the connection is accepted by nobody. Once it is closed, the client's connect says why.
    package func refuse(_ error: Int32) { mine.store32(Layout.refusal, UInt32(bitPattern: error)) }
}
