import CSystem
import Synchronization

// What descriptors live through: close, dup, fcntl, ioctl. The numbers are the kernel's own; here
// only the table beside them is kept true.

/// Whether there is none, or it is that of another process, which waits in vfork for this one.
private var hasNoTable: Bool { unsafe descriptorTable == nil || sk_borrows_memory() != 0 }

// MARK: close

@c(close) public func hookClose(_ descriptor: Int32) -> Int32 {
    if entry(descriptor) == 0 || sk_borrows_memory() != 0 { return real.close!(descriptor) }
    if kind(entry(descriptor)) == .hidden { return Int32(finish(-Int(EBADF))) }
    return Int32(finish(closeOurs(descriptor)))
}

/// Closes a descriptor of ours in the kernel and lets go of what it stood for.
private func closeOurs(_ descriptor: Int32) -> Int {
    let word = entry(descriptor)
    let departure = depart(descriptor, word)
    let result = sk_close(descriptor)
    departure.finish()
    return result
}

/// What is left to do for a descriptor after the kernel has closed it (or put another in its place).
@safe
private struct Departure {
    var end: UnsafeMutablePointer<LocalState>? = nil

    func finish() {
        guard let end = unsafe end else { return }
        let endpoint = unsafe Endpoint(end)
        // After the kernel close, so that a spinning peer that looks again finds the hang-up.
        endpoint.mine.add32(Layout.hint, 1)
        unsafe closeHolder(end.pointee.portHolder)
        unsafe closeHolder(end.pointee.urgentSocket)
        endpoint.release(connected: true)
    }
}

/// What the number stood for has been closed past the hooks: lets go of that.
func letGo(_ descriptor: Int32, _ word: UInt) { depart(descriptor, word, isOpen: false).finish() }

/// Takes the descriptor out of the table before its number can come back.
private func depart(_ descriptor: Int32, _ word: UInt, isOpen: Bool = true) -> Departure {
    var departure = Departure()
    switch kind(word) {
    case .endpoint:
        let local = unsafe UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!
        let isLast = unsafe forget(
            descriptor, word, &local.pointee.descriptors, &local.pointee.descriptor, local.pointee.record)
        if unsafe local.pointee.registrations > 0 { closeRegistrations(descriptor, word, isLast: isLast) }
        guard isLast else { break }
        let end = unsafe Endpoint(local)
        end.setSignals(false)
        if isOpen { resetIfStray(end, descriptor) }
        unsafe departure.end = unsafe local
    case .stream, .listener:
        let socket = unsafe UnsafeMutablePointer<StreamSocket>(bitPattern: word & ~Kind.bits)!
        var none: Int32 = -1
        let isLast = unsafe forget(descriptor, word, &socket.pointee.descriptors, &none, socket.pointee.record)
        closeRegistrations(descriptor, word, isLast: isLast)
        if isLast { unsafe closeHidden(socket) }
    case .carried: unsafe departCarried(UnsafeMutablePointer(bitPattern: word & ~Kind.bits)!, descriptor, word)
    case .epoll:
        let set = unsafe UnsafeMutablePointer<EpollSet>(bitPattern: word & ~Kind.bits)!
        let isLast = unsafe forget(descriptor, word, &set.pointee.references, &set.pointee.descriptor, nil)
        if unsafe set.pointee.registrations > 0 { closeRegistrations(descriptor, word, isLast: isLast) }
        if isLast { unsafe forgetSet(set) }
    case .hidden, .arriving, .relayed, .none: clearEntry(descriptor)
    }
    return departure
}

/// Takes one number of a thing out of the table. Whether it was the last; else `first`, the number by which the thing is
/// rung and asked, and what its record says, is another one from now on.
func forget(
    _ descriptor: Int32, _ word: UInt, _ count: inout Int32, _ first: inout Int32, _ record: SharedMemory?
) -> Bool {
    withNumbersLock {
        clearEntry(descriptor)
        count -= 1
        if count == 0 { return true }
        if first == descriptor { first = anotherDescriptor(of: word, than: descriptor) }
        if let record { moveRecord(record, descriptor, word) }
        return false
    }
}

/// The last holder goes. Bytes that somebody wrote past the hooks, and nobody could read, are as bytes left unread:
/// TCP answers them with a reset.
private func resetIfStray(_ end: Endpoint, _ descriptor: Int32) {
    guard end.block.load32(Block.holders) == 1, !end.has(EndFlag.hungUp) else { return }
    end.noticeStrays(descriptor)
    guard end.has(EndFlag.violated) else { return }
    end.mine.or32(Layout.state, EndState.reset)
    end.wakeAll(descriptor)
}

/// Another number of the same thing, to ring and ask with from now on.
func anotherDescriptor(of word: UInt, than descriptor: Int32) -> Int32 {
    guard let table = unsafe descriptorTable else { return -1 }
    for number in 0..<programEnd where Int32(number) != descriptor {
        if unsafe table[number].load(ordering: .relaxed) == word { return Int32(number) }
    }
    return -1
}

private func closeHidden(_ socket: UnsafeMutablePointer<StreamSocket>) {
    if unsafe socket.pointee.hidden >= 0 {
        unsafe clearEntry(socket.pointee.hidden)
        _ = unsafe sk_close(socket.pointee.hidden)
    }
    unsafe closeHolder(socket.pointee.formerHidden)
    unsafe closeHolder(socket.pointee.stp.portHolder)
    if let record = unsafe socket.pointee.record { withProcessLock { unsafe process.table.give(record) } }
    unsafe giveBack(socket)
}

/// Gives up an STP socket's port, the name of a listener's hidden one, or an owner's signals.
func closeHolder(_ holder: Int32) {
    guard holder >= 0 else { return }
    clearEntry(holder)
    _ = sk_close(holder)
}

@c(closefrom) public func hookCloseFrom(_ first: Int32) {
    if hasNoTable {
        real.closeFrom?(first)
        return
    }
    _ = closeRange(UInt32(max(first, 0)), UInt32.max, 0)
}

@c(close_range) public func hookCloseRange(_ first: UInt32, _ last: UInt32, _ flags: Int32) -> Int32 {
    if hasNoTable {
        return real.closeRange?(first, last, flags) ?? Int32(finish(sk_close_range(first, last, flags)))
    }
    let known: Int32 = 2 /* CLOSE_RANGE_UNSHARE */ | 4 /* CLOSE_RANGE_CLOEXEC */
    guard first <= last, flags & ~known == 0 else { return Int32(finish(-Int(EINVAL))) }
    return Int32(finish(closeRange(first, last, flags)))
}

/// Everything in the range but what is hidden, ours with their ends.
private func closeRange(_ first: UInt32, _ last: UInt32, _ flags: Int32) -> Int {
    var from = first
    func step(_ number: Int) {
        guard number >= Int(first), number <= Int(last) else { return }
        let word = entry(Int32(number))
        if word == 0 { return }
        if number > Int(from) { _ = closeOthers(from, UInt32(number - 1), flags) }
        from = UInt32(number + 1)
        if kind(word) == .hidden { return }
        if flags & 4 /* CLOSE_RANGE_CLOEXEC */ != 0 {
            _ = sk_fcntl(Int32(number), F_SETFD, 1)
        } else {
            _ = closeOurs(Int32(number))
        }
    }
    for number in 0..<programEnd { step(number) }
    for number in hiddenNumbers where number >= programEnd { step(number) }
    return from <= last ? closeOthers(from, last, flags) : 0
}

private func closeOthers(_ first: UInt32, _ last: UInt32, _ flags: Int32) -> Int {
    if flags != 0 { return sk_close_range(first, last, flags) }
    closeNumbers(Int(first)...Int(last))
    return 0
}

// MARK: dup

@c(dup) public func hookDup(_ descriptor: Int32) -> Int32 {
    if entry(descriptor) == 0 { return real.dup!(descriptor) }
    return Int32(duplicate(descriptor) { Int(real.dup!(descriptor)) })
}

@c(dup2) public func hookDup2(_ descriptor: Int32, _ target: Int32) -> Int32 {
    if descriptor == target || hasNoTable { return real.dup2!(descriptor, target) }
    return replace(descriptor, target) { real.dup2!(descriptor, target) }
}

@c(dup3) public func hookDup3(_ descriptor: Int32, _ target: Int32, _ flags: Int32) -> Int32 {
    if descriptor == target || hasNoTable { return real.dup3!(descriptor, target, flags) }
    return replace(descriptor, target) { real.dup3!(descriptor, target, flags) }
}

/// Lets go of what a number stands for while `duplicate` puts something else there.
func replace(_ target: Int32, _ duplicate: () -> Int32) -> Int32 {
    let word = entry(target)
    let departure = word == 0 ? Departure() : depart(target, word)
    let result = duplicate()
    departure.finish()
    return result
}

private func replace(_ descriptor: Int32, _ target: Int32, _ duplicate: () -> Int32) -> Int32 {
    if sk_fcntl(descriptor, F_GETFD, 0) < 0 { return Int32(finish(-Int(EBADF))) }
    moveHiddenAway(target)
    let result = replace(target, duplicate)
    if result >= 0 { duplicated(descriptor, result) }
    return result
}

/// The program wants the number of one of our hidden descriptors: it gets it, ours moves. Where no other number
/// is to be had we go on without: a listener with TCP alone, the rest with -1.
private func moveHiddenAway(_ target: Int32) {
    guard kind(entry(target)) == .hidden else { return }
    let moved = max(hiddenCopy(of: target), -1)
    clearEntry(target)
    if moved >= 0 { setEntry(moved, nil, .hidden) }
    withProcessLock {
        unsafe process.pools.moved(target, to: moved)
        unsafe process.blocks.moved(target, to: moved)
        unsafe process.table.moved(target, to: moved)
        unsafe relayLink.moved(target, to: moved)
        unsafe process.spares.moved(target, to: moved)
    }
    for number in 0..<programEnd {
        if let end = listedEndpoint(number) {
            if unsafe end.local.pointee.portHolder == target { unsafe end.local.pointee.portHolder = moved }
            if unsafe end.local.pointee.urgentSocket == target { unsafe end.local.pointee.urgentSocket = moved }
        }
        guard let socket = unsafe listedSocket(number) else { continue }
        if unsafe socket.pointee.stp.portHolder == target { unsafe socket.pointee.stp.portHolder = moved }
        if unsafe socket.pointee.formerHidden == target { unsafe socket.pointee.formerHidden = moved }
        if unsafe socket.pointee.hidden == target {
            if moved < 0 { unsafe stopTranslating(socket, .noDescriptor) } else { unsafe socket.pointee.hidden = moved }
        }
    }
}

/// Makes a new number for the same thing, which `make` returns: no other thread closes the old one meanwhile.
private func duplicate(_ descriptor: Int32, _ make: () -> Int) -> Int {
    let copy = withNumbersLock {
        let copy = make()
        if copy >= 0 { note(descriptor, Int32(copy)) }
        return copy
    }
    if copy >= 0 { adopt(Int32(copy)) }
    return copy
}

/// A new number for the same thing has been made.
func duplicated(_ descriptor: Int32, _ copy: Int32) {
    withNumbersLock { note(descriptor, copy) }
    adopt(copy)
}

private func adopt(_ copy: Int32) {
    if kind(listed(copy)) == .endpoint { adoptStandardStream(copy) }
}

/// Call under the lock of numbers.
private func note(_ descriptor: Int32, _ copy: Int32) {
    let word = listed(descriptor)
    guard word != 0, !hasNoTable else { return }
    let pointer = unsafe UnsafeMutableRawPointer(bitPattern: word & ~Kind.bits)
    switch kind(word) {
    case .endpoint: unsafe UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!.pointee.descriptors += 1
    case .stream, .listener:
        unsafe UnsafeMutablePointer<StreamSocket>(bitPattern: word & ~Kind.bits)!.pointee.descriptors += 1
    case .epoll: unsafe UnsafeMutablePointer<EpollSet>(bitPattern: word & ~Kind.bits)!.pointee.references += 1
    case .carried: unsafe UnsafeMutablePointer<CarriedSocket>(bitPattern: word & ~Kind.bits)!.pointee.descriptors += 1
    case .relayed: break
    case .hidden, .arriving, .none: return
    }
    unsafe setEntry(copy, pointer, kind(word))
}

// MARK: fcntl, ioctl

@c(fcntl) public func hookControl(_ descriptor: Int32, _ command: Int32, _ argument: UnsafeMutableRawPointer?) -> Int32
{
    if entry(descriptor) == 0 { return unsafe real.fcntl!(descriptor, Int(command), argument) }
    return Int32(finish(control(descriptor, command, Int(bitPattern: argument))))
}

@c(fcntl64) public func hookControl64(
    _ descriptor: Int32, _ command: Int32, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    unsafe hookControl(descriptor, command, argument)
}

private func control(_ descriptor: Int32, _ command: Int32, _ argument: Int) -> Int {
    if kind(entry(descriptor)) == .hidden { return -Int(EBADF) }
    if command == F_DUPFD || command == 1030 /* F_DUPFD_CLOEXEC */ {
        return duplicate(descriptor) { sk_fcntl(descriptor, command, argument) }
    }
    // What is set is the connection's, not that of a stream that stands for it.
    if command == F_SETFL || asksForSignals(command, argument) { _ = used(descriptor) }
    let listener = unsafe listeningSocket(descriptor)
    let result =
        unsafe command == F_SETFL && translates(listener)
        ? setListenerFlags(descriptor, argument) : sk_fcntl(descriptor, command, argument)
    if result < 0 { return result }
    switch command {
    case F_SETFL:
        endpoint(descriptor)?.setSignals(argument & Int(Flag.async) != 0)
        setNonBlocking(descriptor, argument & Int(Flag.nonBlock) != 0)
        if let listener = unsafe listener, unsafe listener.pointee.signals { unsafe copySignals(descriptor, listener) }
    case F_GETFL: if unsafe listener != nil { return programFlags(result) }
    default: break
    }
    if asksForSignals(command, argument) { followSignals(descriptor) }
    return result
}

/// Who is to be signalled for the descriptor, or when, has changed.
private func followSignals(_ descriptor: Int32) {
    if let end = endpoint(descriptor) { return end.followOwner(descriptor) }
    guard let socket = unsafe streamSocket(descriptor) else { return }
    unsafe socket.pointee.signals = true
    unsafe copySignals(descriptor, socket)
}

extension Endpoint {
    func setSignals(_ on: Bool) {
        guard unsafe on != local.pointee.signals else { return }
        unsafe local.pointee.signals = on
        if on { arm(.reading) } else { disarm(.reading) }
    }
}

/// Whether a listener has two queues still. Otherwise its flags are the kernel's own again.
private func translates(_ listener: UnsafeMutablePointer<StreamSocket>?) -> Bool {
    guard let listener = unsafe listener else { return false }
    return unsafe listener.pointee.isSTP || !noticeShutHidden(listener)
}

private func setNonBlocking(_ descriptor: Int32, _ on: Bool) {
    guard let end = endpoint(descriptor) else { return }
    if on { end.set(EndFlag.nonBlocking) } else { end.clear(EndFlag.nonBlocking) }
}

@c(ioctl) public func hookIoctl(_ descriptor: Int32, _ request: UInt, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    if entry(descriptor) == 0 { return unsafe real.ioctl!(descriptor, Int(bitPattern: request), argument) }
    return unsafe Int32(finish(ioctl(descriptor, request, argument)))
}

private func ioctl(_ descriptor: Int32, _ request: UInt, _ argument: UnsafeMutableRawPointer?) -> Int {
    let number = request & 0xffff_ffff
    if number == 0x5421 || number == 0x5452 || number == 0x8901 || number == 0x8902 { _ = used(descriptor) }
    if number == 0x5421 /* FIONBIO */, let argument = unsafe argument {
        let on = unsafe argument.loadUnaligned(as: Int32.self) != 0
        if unsafe translates(listeningSocket(descriptor)) {
            let flags = listenerFlags(descriptor) & ~Int(Flag.nonBlock)
            return setListenerFlags(descriptor, on ? flags | Int(Flag.nonBlock) : flags)
        }
        let result = unsafe sk_ioctl(descriptor, number, argument)
        if result == 0 { setNonBlocking(descriptor, on) }
        return result
    }
    if number == 0x5452 /* FIOASYNC */, let end = endpoint(descriptor), let argument = unsafe argument {
        unsafe end.setSignals(argument.loadUnaligned(as: Int32.self) != 0)
    }
    if number == 0x5452 || number == 0x8901 /* FIOSETOWN */ || number == 0x8902 /* SIOCSPGRP */ {
        let result = unsafe sk_ioctl(descriptor, number, argument)
        if result == 0 { followSignals(descriptor) }
        return result
    }
    if let end = endpoint(descriptor), let argument = unsafe argument {
        switch number {
        case 0x541B /* FIONREAD */:
            end.letRelaysCatchUpIfAny(descriptor)
            unsafe argument.storeBytes(of: Int32(truncatingIfNeeded: end.readableBeforeUrgent()), as: Int32.self)
            return 0
        case 0x5411 /* SIOCOUTQ */:
            unsafe argument.storeBytes(of: Int32(truncatingIfNeeded: end.unsent()), as: Int32.self)
            return 0
        case 0x894B /* SIOCOUTQNSD */:
            // What is written is with the peer at once.
            unsafe argument.storeBytes(of: 0, as: Int32.self)
            return 0
        case 0x8905 /* SIOCATMARK */:
            unsafe argument.storeBytes(of: end.atMark() ? 1 : 0, as: Int32.self)
            return 0
        default: break
        }
    }
    return unsafe sk_ioctl(descriptor, number, argument)
}

@c(sockatmark) public func hookAtMark(_ descriptor: Int32) -> Int32 {
    var isAtMark: Int32 = 0
    let result = unsafe withUnsafeMutablePointer(to: &isAtMark) {
        unsafe hookIoctl(descriptor, 0x8905 /* SIOCATMARK */, UnsafeMutableRawPointer($0))
    }
    return result < 0 ? result : isAtMark
}
