import CSystem

// Giving a connection to another process. A small process, the holder, keeps the end from the giving on,
// so that the giver may die, and hands it to who takes it. The giver goes on until it has been taken.

/// What the holder sends with the end's descriptor, the memory's, and the one that keeps the port.
private struct Parcel {
    static let magic: UInt32 = 0x5447_4b53  // "SKGT"
    var magic = Parcel.magic
    var version = Layout.version
    var end: Int32 = 0
    var slot: Int32 = 0
    var generation: UInt32 = 0
    var hasPort: UInt32 = 0
    var block = Block.Words(repeating: 0)
}

/// The holder's one byte for who may not have the gift.
private enum Refusal {
    static let otherUser: UInt8 = 0
    static let otherProcess: UInt8 = 1
}

/// `struct stp_gift` of skein.h.
private let tokenSize = 64

/// The holder's abstract name; nil for what is no token.
private func giftName(_ token: UnsafePointer<CChar>) -> HiddenName? {
    var text = Text("skein/")
    text.append(decimal: UInt64(Layout.version))
    text.append("/gift/")
    for index in 0..<tokenSize {
        let byte = unsafe UInt8(bitPattern: token[index])
        if byte == 0 { return index == 32 ? HiddenName(text) : nil }
        guard (byte >= 48 && byte <= 57) || (byte >= 97 && byte <= 102) else { return nil }
        text.append(byte: byte)
    }
    return nil
}

/// Thirty-two hexadecimal digits that nobody can guess.
private func makeToken(_ token: UnsafeMutablePointer<CChar>) -> Bool {
    var random = InlineArray<16, UInt8>(repeating: 0)
    guard unsafe withUnsafeMutableBytes(of: &random, { unsafe sk_getrandom($0.baseAddress!, 16) }) == 16 else {
        return false
    }
    for index in 0..<32 {
        let digit = index % 2 == 0 ? random[index / 2] >> 4 : random[index / 2] & 15
        unsafe token[index] = CChar(digit < 10 ? digit + 48 : digit + 87)
    }
    unsafe token[32] = 0
    return true
}

// MARK: - Giving

@c(STPgivesocket) public func stpGiveSocket(
    _ descriptor: Int32, _ taker: Int32, _ gift: UnsafeMutablePointer<CChar>?
) -> Int32 {
    guard isSTP(descriptor) else { return refuseOther(descriptor) }
    guard let gift = unsafe gift else { return fail(EFAULT, .gift) }
    guard let end = endpoint(descriptor), end.isAccepted() else { return fail(ENOTCONN, .state) }
    guard taker >= 0 else { return fail(EINVAL, .taker) }
    guard !end.has(EndFlag.given | EndFlag.taken) else { return fail(EALREADY, .state) }
    let memory = withProcessLock { unsafe process.pools[end.local.pointee.pool].memory }
    guard memory >= 0 else { return fail(EMFILE, code(for: EMFILE)) }
    guard unsafe makeToken(gift), let name = unsafe giftName(gift) else { return fail(EAGAIN, .system) }
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec, 0)
    guard made >= 0 else { return fail(Int32(-made), code(for: Int32(-made))) }
    let listener = Int32(made)
    defer { _ = sk_close(listener) }
    var address = name.address
    let listening = unsafe sk_bind(listener, &address, name.length)
    guard listening == 0, sk_listen(listener, 4) == 0 else { return fail(EAGAIN, .system) }
    let holder = Holder(end: end, descriptor: descriptor, memory: memory, listener: listener, taker: taker)
    // The holder is one more process with this end; counted before there is one.
    end.block.add32(Block.holders, 1)
    end.set(EndFlag.forked | EndFlag.given)
    let child = sk_fork_quietly()
    if child == 0 {
        // Twice, so that nobody here has a child to wait for.
        let grandchild = sk_fork()
        if grandchild == 0 { holder.run() }
        sk_exit(grandchild < 0 ? 1 : 0)
    }
    var status: Int32 = 1
    if child > 0 {
        while unsafe sk_wait4(Int32(child), &status, 0x4000_0000 /* __WALL */) == -Int(EINTR) {}
    }
    guard status == 0 else {
        end.clear(EndFlag.given)
        end.block.subtract32(Block.holders, 1)
        return fail(EAGAIN, .memory)
    }
    end.wakeForGift(descriptor)
    return succeed(0)
}

/// The holder, from its first instruction to its last: system calls and the end's own memory alone.
private struct Holder {
    let end: Endpoint
    let descriptor: Int32
    let memory: Int32
    let listener: Int32
    let taker: Int32

    func run() {
        sk_forget_thread_id()
        _ = sk_block_signals()
        _ = sk_setsid()
        _ = unsafe sk_chdir("/")
        _ = unsafe sk_set_name("skein-holder")
        closeOthers()
        let limit = end.block.load32(Block.giftLimit)
        let deadline = sk_now() &+ UInt64(limit) * 1_000_000
        while !peerIsGone() && waitForTaker(deadline) {
            if offer() { sk_exit(0) }
        }
        // Nobody came: the giver has its end back, or the connection ends here.
        end.clear(EndFlag.given)
        end.block.subtract32(Block.holders, 1)
        _ = sk_close(descriptor)
        end.mine.add32(Layout.hint, 1)
        sk_exit(0)
    }

    private var portHolder: Int32 { unsafe end.local.pointee.portHolder }

    private func closeOthers() {
        var keep: InlineArray<4, Int32> = [descriptor, memory, listener, portHolder]
        for index in 0..<4 {
            for later in index + 1..<max(4, index + 1) where keep[later] < keep[index] { keep.swapAt(index, later) }
        }
        var from: Int32 = 0
        for index in 0..<4 where keep[index] >= 0 {
            if keep[index] > from { _ = sk_close_range(UInt32(from), UInt32(keep[index] - 1), 0) }
            from = keep[index] + 1
        }
        _ = sk_close_range(UInt32(from), UInt32.max, 0)
    }

    /// False when the time limit has passed.
    private func waitForTaker(_ deadline: UInt64) -> Bool {
        while true {
            let now = sk_now()
            if now >= deadline { return false }
            let left = min(deadline - now, 1_000_000_000)
            var timeout = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
            var item = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            if unsafe sk_ppoll(&item, 1, &timeout, nil) > 0 { return true }
            if peerIsGone() && end.readable() == 0 { return false }
        }
    }

    private func peerIsGone() -> Bool {
        end.askKernel(descriptor)
        return end.has(EndFlag.hungUp) && end.readable() == 0
    }

    /// Hands the end to who has connected; false when that was nobody who may have it, or it died.
    private func offer() -> Bool {
        let accepted = sk_accept4(listener, nil, nil, Flag.closeOnExec)
        guard accepted >= 0 else { return false }
        let visitor = Int32(accepted)
        defer { _ = sk_close(visitor) }
        let peer = peerCredentials(visitor)
        let isOfUser = peer.map { isSameUser($0.user, sk_geteuid()) } ?? false
        guard isOfUser, taker == 0 || peer?.process == taker else {
            var no = isOfUser ? Refusal.otherProcess : Refusal.otherUser
            _ = unsafe sk_sendto(visitor, &no, 1, Int32(truncatingIfNeeded: Flag.noSignal | Flag.dontWait), nil, 0)
            return false
        }
        var parcel = Parcel()
        parcel.end = Int32(end.end)
        parcel.slot = unsafe end.local.pointee.slotIndex
        parcel.generation = unsafe end.local.pointee.generation
        parcel.hasPort = portHolder >= 0 ? 1 : 0
        let before = takeFromGiver(&parcel)
        var descriptors: (Int32, Int32, Int32) = (descriptor, memory, portHolder)
        let count: Int32 = portHolder >= 0 ? 3 : 2
        let sent = unsafe withUnsafeBytes(of: &descriptors) { bytes in
            unsafe sk_send_descriptors(
                visitor, &parcel, MemoryLayout<Parcel>.size, bytes.baseAddress!.assumingMemoryBound(to: Int32.self),
                count,
                Int32(truncatingIfNeeded: Flag.noSignal))
        }
        if sent == MemoryLayout<Parcel>.size && isThanked(visitor) { return true }
        end.clear(EndFlag.taken | (EndFlag.readShut | EndFlag.writeShut) & ~before)
        return false
    }

    /// From here on the giver can only close. Nothing moves while the state is copied, nor after it: who gets one
    /// of the locks next finds the mark. Returns the flags as they were.
    private func takeFromGiver(_ parcel: inout Parcel) -> UInt32 {
        let reading = Lock(end.block, Block.readLock)
        let writing = Lock(end.block, Block.writeLock)
        let readGeneration = reading.acquire()
        let writeGeneration = writing.acquire()
        let before = end.block.load32(Block.flags)
        unsafe withUnsafeMutableBytes(of: &parcel.block) { bytes in
            unsafe end.block.copyOut(0, to: bytes.baseAddress!, count: bytes.count)
        }
        end.set(EndFlag.taken | EndFlag.readShut | EndFlag.writeShut)
        writing.release(writeGeneration)
        reading.release(readGeneration)
        return before
    }

    private func isThanked(_ visitor: Int32) -> Bool {
        var timeout = timespec(tv_sec: 5, tv_nsec: 0)
        var item = pollfd(fd: visitor, events: Int16(POLLIN), revents: 0)
        guard unsafe sk_ppoll(&item, 1, &timeout, nil) > 0 else { return false }
        var byte: UInt64 = 0
        return unsafe sk_recvfrom(visitor, &byte, 8, Int32(truncatingIfNeeded: Flag.dontWait)) == 1
    }
}

// MARK: - Taking

@c(STPtakesocket) public func stpTakeSocket(_ gift: UnsafePointer<CChar>?) -> Int32 {
    guard becomeReady() else { return -1 }
    guard let gift = unsafe gift else { return fail(EFAULT, .gift) }
    guard let name = unsafe giftName(gift) else { return fail(EINVAL, .gift) }
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec, 0)
    guard made >= 0 else { return fail(Int32(-made), code(for: Int32(-made))) }
    let visitor = Int32(made)
    defer { _ = sk_close(visitor) }
    var address = name.address
    guard unsafe sk_connect(visitor, &address, name.length) == 0 else { return fail(ENOENT, .gift) }
    guard let giver = peerCredentials(visitor), unsafe isSameUser(giver.user, process.effectiveUser) else {
        return fail(EPERM, .user)
    }
    var timeout = timespec(tv_sec: 10, tv_nsec: 0)
    var item = pollfd(fd: visitor, events: Int16(POLLIN), revents: 0)
    guard unsafe sk_ppoll(&item, 1, &timeout, nil) > 0 else { return fail(ENOENT, .gift) }
    return receive(visitor)
}

private func receive(_ visitor: Int32) -> Int32 {
    var parcel = Parcel()
    var descriptors: (Int32, Int32, Int32) = (-1, -1, -1)
    var count: Int32 = 0
    let received = unsafe withUnsafeMutableBytes(of: &descriptors) { bytes in
        unsafe sk_receive_descriptors(
            visitor, &parcel, MemoryLayout<Parcel>.size, bytes.baseAddress!.assumingMemoryBound(to: Int32.self), 3,
            &count,
            Int32(truncatingIfNeeded: Flag.dontWait))
    }
    func refuse(_ error: Int32, _ code: STPCode) -> Int32 {
        if count > 0 { _ = sk_close(descriptors.0) }
        if count > 1 { _ = sk_close(descriptors.1) }
        if count > 2 { _ = sk_close(descriptors.2) }
        return fail(error, code)
    }
    if received == 0 || received == -Int(ECONNRESET) { return refuse(ENOENT, .gift) }
    if received == 1 {
        let said = unsafe withUnsafeBytes(of: parcel) { unsafe $0[0] }
        return refuse(EPERM, said == Refusal.otherProcess ? .taker : .user)
    }
    guard received == MemoryLayout<Parcel>.size, count == 2 + Int32(parcel.hasPort), parcel.magic == Parcel.magic,
        parcel.version == Layout.version, parcel.end == 0 || parcel.end == 1
    else { return refuse(count < 2 ? EMFILE : EPROTO, count < 2 ? code(for: EMFILE) : .system) }
    let made = withProcessLock {
        unsafe takeUp(
            descriptors.1, user: process.effectiveUser, slot: parcel.slot, generation: parcel.generation,
            end: Int(parcel.end))
    }
    guard case .endpoint(let end) = made else { return refuse(ENOMEM, .memory) }
    unpack(parcel, into: end)
    let descriptor = descriptors.0
    var thanks: UInt8 = 1
    guard unsafe sk_sendto(visitor, &thanks, 1, Int32(truncatingIfNeeded: Flag.noSignal), nil, 0) == 1 else {
        end.release(connected: false)
        return refuse(ENOENT, .gift)
    }
    _ = sk_close(descriptors.1)
    if count > 2 {
        let holder = hide(descriptors.2)
        if holder >= 0 {
            setEntry(holder, nil, .hidden)
            unsafe end.local.pointee.portHolder = holder
        }
    }
    _ = sk_fcntl(descriptor, F_SETFD, 0)
    installEndpoint(end, descriptor)
    return succeed(descriptor)
}

/// The giver's private state becomes this process's, but for the locks and who holds it.
private func unpack(_ parcel: Parcel, into end: Endpoint) {
    var parcel = parcel
    unsafe withUnsafeBytes(of: &parcel.block) { bytes in
        unsafe end.block.copyIn(0, from: bytes.baseAddress!, count: bytes.count)
    }
    end.block.store64(Block.readLock, 0)
    end.block.store64(Block.writeLock, 0)
    end.block.store32(Block.holders, 1)
    end.clear(EndFlag.given | EndFlag.taken)
    end.set(EndFlag.forked)
    end.setAddresses(local: end.localAddress, peer: end.peerAddress)
}
