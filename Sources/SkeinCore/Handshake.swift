import CSystem

/// The one packet that the connecting end sends, with the pool's memfd: everything the accepting end
/// needs. A client whose port is below 1024 sends the TCP socket along that it bound to it, as the proof that it
/// may. From then on there are only bells.
package struct Hello {
    package static let magic: UInt32 = 0x4e49_4b53  // "SKIN"
    /// In place of a hello: the descriptors are a client's connection that `putBack` speaks of and the hidden listener;
    /// `generation` is when its hello was first missed.
    package static let forwarded: UInt32 = 0x4657_4b53  // "SKWF"

    package var magic = Hello.magic
    package var version = Layout.version
    package var slot: Int32 = 0
    package var generation: UInt32 = 0
    package var dialled = Address()
    package var client = Address()

    package init() {}
}

/// What connecting or accepting yields, or why there is none.
package enum Reason: UInt32 {
    case none = 0
    case noListener, notLocal, notUnderSkein, backlogFull, otherUser, noMemory, noDescriptor, refusedByRule
    case versionDiffers, protocolError, registeredElsewhere, duplicated, boundElsewhere, disabled, kernelRefused
    case optionSet, clientOverTCP, handedOn, filtered, shortHandedOn, otherNetwork, noAgent

    /// One sentence for `skein why`.
    package var text: StaticString {
        switch self {
        case .none: "on shared memory"
        case .noListener: "no TCP listener of this host has that address"
        case .notLocal: "the address belongs to another host"
        case .notUnderSkein: "the listener does not run under skein (start it with 'skein run')"
        case .backlogFull: "the listener's queue was full"
        case .otherUser: "the hidden listener belongs to another user than the TCP listener"
        case .noMemory: "no memory for rings"
        case .noDescriptor: "the limit of descriptors is reached"
        case .refusedByRule: "a rule excludes it (--only, --not)"
        case .versionDiffers: "the other end has another version of Skein"
        case .protocolError: "the other end broke the handshake"
        case .registeredElsewhere: "the socket is in an epoll set that can't be followed"
        case .duplicated: "the socket had been duplicated before it was connected"
        case .boundElsewhere: "the socket is bound to another address than it connects to"
        case .disabled: "Skein is switched off here"
        case .kernelRefused: "the kernel refused a socket, a memfd or netlink"
        case .optionSet: "the program asked for what only TCP has: MPTCP, or TCP Fast Open by sendto"
        case .clientOverTCP: "the client came over TCP: it does not run under skein, or fell back itself"
        case .handedOn: "the listener was handed to a program that does not run under skein"
        case .filtered: "a seccomp filter of the program forbids what it takes"
        case .shortHandedOn: "its process hands short connections on to others, which is faster over TCP"
        case .otherNetwork: "the socket is of another network namespace than its thread"
        case .noAgent: "the address is that of a host of a group, and no agent of one is here ('skein agent')"
        }
    }
}

/// The other end's credentials, as the kernel knows them.
package func peerCredentials(_ descriptor: Int32) -> (process: Int32, user: UInt32)? {
    var credentials: (Int32, UInt32, UInt32) = (0, 0, 0)
    var length: UInt32 = 12
    guard unsafe sk_getsockopt(descriptor, SOL_SOCKET, 17 /* SO_PEERCRED */, &credentials, &length) == 0 else {
        return nil
    }
    return (credentials.0, credentials.1)
}

/// Makes the connecting end to the TCP listener: a Unix socket on a number of its own, which no other thread uses until
/// `closeConnecting`, and its memory. `bound` is
/// the TCP socket that has the client's port, -1 where none has.
package func connectEnd(
    to dialled: Address, from client: Address, bound: Int32, listener: ListenerIdentity
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    let made = connectEnd(HiddenName(cookie: listener.cookie), dialled, client, bound) { peer in
        mayServe(listener, user: peer.user) ? listener.cookie : nil
    }
    made.endpoint?.setAddresses(local: client, peer: dialled)
    return made
}

/// Makes the connecting end to the STP listener of the port that was dialled, for a client that speaks TCP.
package func connectEndToSTP(
    _ dialled: Address, from client: Address, bound: Int32
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    guard unsafe process.folderInode != 0 else { return (nil, -1, .noListener) }
    let name = unsafe HiddenName(device: process.folderDevice, inode: process.folderInode, port: dialled.port)
    let made = connectEnd(name, Address(stpPort: dialled.port), Address(stpPort: client.port), bound) { peer in
        mayServeSTP(dialled.port, user: peer.user) ? poolNumber(of: peer, port: dialled.port) : nil
    }
    made.endpoint?.setAddresses(local: client, peer: dialled)
    return made
}

/// `pool` gives the number of the memory pool that is shared with such a server, nil for an impostor.
func connectEnd(
    _ name: HiddenName, _ dialled: Address, _ client: Address, _ bound: Int32,
    pool: ((process: Int32, user: UInt32)) -> UInt64?
) -> (
    endpoint: Endpoint?, descriptor: Int32, reason: Reason
) {
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec | Flag.nonBlock /* SOCK_SEQPACKET */, 0)
    guard made >= 0 else { return (nil, -1, made == -Int(EMFILE) ? .noDescriptor : .kernelRefused) }
    let descriptor = Int32(made)
    unsafe process.noteConnecting?(descriptor, true)
    func fail(_ reason: Reason) -> (endpoint: Endpoint?, descriptor: Int32, reason: Reason) {
        closeConnecting(descriptor)
        return (nil, -1, reason)
    }
    var address = name.address
    let connected = unsafe sk_connect(descriptor, &address, name.length)
    guard connected == 0 else { return fail(connected == -Int(EAGAIN) ? .backlogFull : .notUnderSkein) }
    guard let server = peerCredentials(descriptor), let number = pool(server) else { return fail(.otherUser) }
    let greeted = greet(over: descriptor, pool: number, dialled: dialled, client: client, bound: bound)
    guard let endpoint = greeted.endpoint else { return fail(greeted.reason) }
    return (endpoint, descriptor, .none)
}

/// Closes the number on which `connectEnd` has made a Unix socket.
package func closeConnecting(_ descriptor: Int32) {
    _ = sk_close(descriptor)
    unsafe process.noteConnecting?(descriptor, false)
}

/// Whether a hidden listener of that user may stand beside the TCP listener.
package func mayServe(_ listener: ListenerIdentity, user: UInt32) -> Bool {
    user == 0 || isSameUser(user, listener.user)
}

/// Whether two numbers that the kernel gave are proof of one user.
package func isSameUser(_ one: UInt32, _ other: UInt32) -> Bool { one == other && isKnown(one) }

/// False for the number that stands for everybody who has none in this user namespace: it proves nothing.
private func isKnown(_ user: UInt32) -> Bool {
    guard user == 65534 else { return true }
    let namespace = unsafe sk_openat(-100, "/proc/self/ns/user", O_RDONLY | O_CLOEXEC, 0)
    guard namespace >= 0 else { return false }
    defer { _ = sk_close(Int32(namespace)) }
    var status = stat()
    // The number that the kernel gives the first of them, in which everybody has a number.
    return unsafe sk_fstat(Int32(namespace), &status) == 0 && status.st_ino == 0xEFFF_FFFD
}

/// Whether a listener of that user may answer for the STP port: a name alone proves nothing. Ports below
/// 1024 are root's, and where TCP listens, on either loopback address, the port belongs to that listener.
package func mayServeSTP(_ port: UInt16, user: UInt32) -> Bool {
    if unsafe user == 0 || isSameUser(user, process.effectiveUser) { return true }
    if port < 1024 { return false }
    return findListener(.loopback(port)) == nil && findListener(.loopback6(port)) == nil
}

/// A number for the memory shared with an STP server's process, so that its successor on the port never
/// gets it.
package func poolNumber(of peer: (process: Int32, user: UInt32), port: UInt16) -> UInt64 {
    var hash = UInt64(UInt32(bitPattern: peer.process)) << 32 | UInt64(peer.user)
    hash = (hash ^ UInt64(port)) &* 0x9e37_79b9_7f4a_7c15
    return (hash ^ (hash >> 29)) | 1 << 63
}

/// Makes the connecting end's memory, from the pool of that number, and sends the hello over a
/// connected Unix socket.
package func greet(
    over descriptor: Int32, pool: UInt64, dialled: Address, client: Address, bound: Int32
) -> (
    endpoint: Endpoint?, reason: Reason
) {
    let made = withProcessLock { () -> (place: PoolSet.Place, endpoint: Endpoint, memory: Int32)? in
        guard let place = unsafe process.pools.take(listener: pool) else { return nil }
        guard let endpoint = makeEndpoint(place, end: 0) else { return nil }
        // The number may change when a program wants it for itself.
        return (place, endpoint, unsafe process.pools[place.pool].descriptor)
    }
    guard let (place, endpoint, memory) = made else { return unsafe (nil, process.pools.lack) }
    var hello = Hello()
    hello.slot = place.slot
    hello.generation = place.generation
    hello.dialled = dialled
    hello.client = client
    var passed = (memory, bound)
    let count: Int32 = bound >= 0 && client.port < 1024 ? 2 : 1
    let sent = unsafe withUnsafeBytes(of: &passed) {
        unsafe sk_send_descriptors(
            descriptor, &hello, MemoryLayout<Hello>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), count,
            Int32(truncatingIfNeeded: Flag.noSignal))
    }
    guard sent == MemoryLayout<Hello>.size else {
        endpoint.release(connected: false)
        return (nil, .kernelRefused)
    }
    return (endpoint, .none)
}

/// What the first packet of an accepted Unix socket is.
package enum Greeting {
    case endpoint(Endpoint)
    /// It has not come yet; when it was first missed, on the clock of `putBack`, 0 for just now.
    case again(since: UInt32)
    case refused
    /// There is no room to map its memory.
    case noMemory
    /// There is no descriptor free for what it has sent, which is still there.
    case full
    /// A client that another process has put back.
    case forwarded(Int32, since: UInt32)
}

/// Reads the first packet, and the descriptors with it. That of an end stays in the queue until `forgetHello`, any
/// other until there is room for all of it.
func readHello(_ descriptor: Int32, hidden: Int32, bound: Address) -> Greeting {
    var hello = Hello()
    var passed: (memory: Int32, other: Int32) = (-1, -1)
    defer {
        if passed.memory >= 0 { _ = sk_close(passed.memory) }
        if passed.other >= 0 { _ = sk_close(passed.other) }
    }
    var count: Int32 = 0
    let received = unsafe withUnsafeMutableBytes(of: &passed) {
        unsafe sk_receive_descriptors(
            descriptor, &hello, MemoryLayout<Hello>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), 2,
            &count, Int32(truncatingIfNeeded: Flag.dontWait | Flag.peek))
    }
    if received == -Int(EAGAIN) { return .again(since: 0) }
    if received > 0 && count < 0 { return .full }
    let greeting = understand(hello, received, &passed, from: descriptor, hidden: hidden, bound: bound)
    switch greeting {
    case .full, .endpoint: break
    default: forgetHello(descriptor)
    }
    return greeting
}

/// Takes a packet that has been read out of the queue.
package func forgetHello(_ descriptor: Int32) {
    var none: UInt8 = 0
    _ = unsafe sk_recvfrom(descriptor, &none, 1, Int32(truncatingIfNeeded: Flag.dontWait))
}

/// Whether the hello of a client that has been taken out of the queue is there still, or may yet come.
package func awaitsAcceptance(_ descriptor: Int32, ends: Bool) -> Bool {
    var none: UInt8 = 0
    let count = unsafe sk_recvfrom(descriptor, &none, 1, Int32(truncatingIfNeeded: Flag.dontWait | Flag.peek))
    return count > 0 || (count == -Int(EAGAIN) && !ends)
}

private func understand(
    _ hello: Hello, _ received: Int, _ passed: inout (memory: Int32, other: Int32), from descriptor: Int32,
    hidden: Int32, bound: Address
) -> Greeting {
    guard received == MemoryLayout<Hello>.size, passed.memory >= 0, hello.version == Layout.version else {
        return .refused
    }
    if hello.magic == Hello.forwarded && isSame(passed.other, hidden) {
        defer { passed.memory = -1 }
        return .forwarded(passed.memory, since: hello.generation)
    }
    guard hello.magic == Hello.magic else { return .refused }
    return takeUp(hello, memory: passed.memory, proof: passed.other, from: descriptor, bound: bound)
}

/// Whether who forwards a client holds the hidden listener too: then he could as well have accepted it.
private func isSame(_ one: Int32, _ other: Int32) -> Bool {
    var statuses = (stat(), stat())
    guard one >= 0, unsafe sk_fstat(one, &statuses.0) == 0, unsafe sk_fstat(other, &statuses.1) == 0 else {
        return false
    }
    return statuses.0.st_dev == statuses.1.st_dev && statuses.0.st_ino == statuses.1.st_ino
}

private func takeUp(
    _ hello: Hello, memory: Int32, proof: Int32, from descriptor: Int32, bound: Address
) -> Greeting {
    guard let peer = peerCredentials(descriptor) else { return .refused }
    let mayUsePort =
        hello.client.port >= 1024 || peer.user == 0 || isBound(proof, to: hello.client, inNetworkOf: descriptor)
    guard mayUsePort else { return .refused }
    guard let areHonest = addressesAreHonest(hello, bound: bound, of: peer.user) else { return .full }
    guard areHonest else { return .refused }
    let made = withProcessLock { () -> Greeting in
        takeUp(memory, user: peer.user, slot: hello.slot, generation: hello.generation, end: 1)
    }
    guard case .endpoint(let endpoint) = made else { return made }
    if bound.isSTP { endpoint.set(EndFlag.refusesAfterShutdown) }
    // A listener of family AF_INET6 sees IPv4 addresses in their mapped form, as the kernel shows them.
    let six = bound.family == UInt16(AF_INET6)
    endpoint.setAddresses(
        local: six ? hello.dialled.mapped() : hello.dialled.unmapped(),
        peer: six ? hello.client.mapped() : hello.client.unmapped())
    return .endpoint(endpoint)
}

extension Endpoint {
    /// The program has the connection, as it wants it to be. An STP client may wait for this; any other looks elsewhere.
    package func announceAcceptance(_ descriptor: Int32) {
        mine.or32(Layout.state, EndState.accepted)
        wakeAll(descriptor)
    }
}

/// An end in memory that another process sent, refused where that isn't as it must be. Call under the process lock.
package func takeUp(_ memory: Int32, user: UInt32, slot: Int32, generation: UInt32, end: Int) -> Greeting {
    switch unsafe process.pools.adopt(memory, slot: slot, user: user) {
    case .refused: return .refused
    case .noMemory: break
    case .pool(let pool):
        let place = PoolSet.Place(pool: pool, slot: slot, generation: generation)
        unsafe process.pools.use(pool)
        if let endpoint = makeEndpoint(place, end: end) { return .endpoint(endpoint) }
        if unsafe process.blocks.lacksDescriptor { return .full }
    }
    guard unsafe process.pools.spendReserve() else { return .noMemory }
    return takeUp(memory, user: user, slot: slot, generation: generation, end: end)
}

/// A client says itself whom it dialled and from where: believed only as far as TCP would allow it. nil where no
/// descriptor is free to ask the kernel. Hosts of a group are spoken for by their agent, which is `user`'s.
private func addressesAreHonest(_ hello: Hello, bound: Address, of user: UInt32) -> Bool? {
    if bound.isSTP {
        guard hello.dialled.isSTP && hello.dialled.port == bound.port && hello.client.isSTP else { return false }
        let isOfThisHost = hello.client.high == 0 && hello.client.low == 0
        return isOfThisHost || hello.client.stpHost != nil && mayBringClients(user)
    }
    let dialled = hello.dialled.unmapped()
    let client = hello.client.unmapped()
    // The agent's own listener, which looks at both itself.
    if bound.family == 0 { return dialled.isOfGroup && client.isOfGroup }
    let listening = bound.unmapped()
    guard dialled.port == listening.port, dialled.family == 2 || dialled.family == 10 else { return false }
    if bound.isIPv4 && !dialled.isIPv4 { return false }
    if client.sameHost(as: dialled) || client.sameHost(as: dialled.source()) {
        if !listening.isAny { return listening.sameHost(as: dialled) }
        guard let isHere = isLocal(dialled) else { return nil }
        if isHere { return true }
    }
    return listening.isAny && mayHaveDialledInGroup(dialled, client, user: user)
}

/// Whether a descriptor that came along is a TCP socket with that port in this network namespace: only who may use
/// the port has one. In a namespace of its own everybody may use every port.
private func isBound(_ socket: Int32, to client: Address, inNetworkOf other: Int32) -> Bool {
    guard socket >= 0, let home = network(of: socket), home == network(of: other), protocolNumber(of: socket) == 6,
        let own = boundAddress(socket)
    else { return false }
    return own.port == client.port && (own.isAny || client.isSTP || own.unmapped().sameHost(as: client.unmapped()))
}

/// Call under the process lock, with a use of the pool counted. Where there is no memory the place is given up again.
package func makeEndpoint(_ place: PoolSet.Place, end: Int) -> Endpoint? {
    let block = unsafe process.blocks.take()
    if let block, let made = makeEndpoint(place, end: end, block: block) {
        block.store32(Block.holders, 1)
        return made
    }
    if let block {
        unsafe process.blocks.release(block)
        unsafe process.blocks.give(block)
    }
    unsafe process.pools.release(
        place.pool, slot: place.slot, end: end, generation: place.generation, reusable: false)
    return nil
}

/// The end with that private block. Call under the process lock.
func makeEndpoint(_ place: PoolSet.Place, end: Int, block: SharedMemory) -> Endpoint? {
    let slot = unsafe process.pools[place.pool].slot(place.slot)
    let state = unsafe LocalState(
        slot: slot.base, block: block.base, end: end, pool: place.pool, slotIndex: place.slot,
        generation: place.generation, record: process.table.claim())
    guard let local = unsafe localStates.take(state) else { return nil }
    return unsafe Endpoint(local)
}

nonisolated(unsafe) var localStates = Cells<LocalState>()

extension Endpoint {
    package func setAddresses(local address: Address, peer: Address) {
        block.setAddress(address, family: Block.family, host: Block.localAddress, port: Block.localPort)
        block.setAddress(peer, family: Block.family, host: Block.peerAddress, port: Block.peerPort)
        block.store32(Block.scope, peer.scope)
        unsafe process.table.countConnection()
    }

    package var localAddress: Address {
        scoped(block.address(family: Block.family, host: Block.localAddress, port: Block.localPort))
    }
    package var peerAddress: Address {
        scoped(block.address(family: Block.family, host: Block.peerAddress, port: Block.peerPort))
    }

    private func scoped(_ address: Address) -> Address {
        var address = address
        if address.isLinkLocal { address.scope = block.load32(Block.scope) }
        return address
    }
}
