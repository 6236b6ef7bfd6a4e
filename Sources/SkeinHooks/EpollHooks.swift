import CSystem

// epoll's calls. A set becomes ours when the first TCP socket or endpoint enters it.

nonisolated(unsafe) private var sets = Cells<EpollSet>()
nonisolated(unsafe) private var firstSet: UnsafeMutablePointer<EpollSet>? = nil

func withLock<Result>(_ set: UnsafeMutablePointer<EpollSet>, _ body: (inout EpollSet) -> Result) -> Result {
    let lock = unsafe lock(of: set)
    let generation = lock.acquire()
    let result = unsafe body(&set.pointee)
    lock.release(generation)
    return result
}

private func lock(of set: UnsafeMutablePointer<EpollSet>) -> Lock {
    unsafe Lock(SharedMemory(UnsafeMutableRawPointer(set)), 0)
}

/// Before a fork: all sets, so that the child finds them consistent. A set within a set is locked by who
/// has the outer one, so nobody is waited for with a lock held.
func lockSets() {
    for _ in 0..<10_000 {
        var refused: UnsafeMutablePointer<EpollSet>? = nil
        unsafe forEachSet { set in
            if unsafe refused != nil { return }
            if let generation = unsafe lock(of: set).tryAcquire() {
                unsafe set.pointee.forkGeneration = generation
            } else {
                unsafe refused = unsafe set
            }
        }
        if unsafe refused == nil { return }
        unsafe unlockSets(before: unsafe refused)
        sk_yield()
    }
}

func unlockSets(before end: UnsafeMutablePointer<EpollSet>? = nil) {
    var link = unsafe firstSet
    while let set = unsafe link, unsafe set != end {
        unsafe lock(of: set).release(set.pointee.forkGeneration)
        unsafe link = unsafe set.pointee.next
    }
}

@c(epoll_create1) public func hookEpollCreate1(_ flags: Int32) -> Int32 {
    let descriptor = real.epollCreate1!(flags)
    if unsafe descriptor >= 0 && (rules.enabled || !translates) { unsafe install(descriptor) }
    return descriptor
}

@c(epoll_create) public func hookEpollCreate(_ size: Int32) -> Int32 {
    if size <= 0 { return Int32(finish(-Int(EINVAL))) }
    return hookEpollCreate1(0)
}

/// Every set is known from the start: a thread may sleep in it before the first endpoint enters.
@discardableResult private func install(_ epoll: Int32) -> UnsafeMutablePointer<EpollSet>? {
    let made = unsafe withProcessLock { () -> UnsafeMutablePointer<EpollSet>? in
        guard let set = unsafe sets.take(EpollSet(descriptor: epoll)) else { return nil }
        unsafe set.pointee.next = unsafe firstSet
        unsafe firstSet = unsafe set
        return unsafe set
    }
    if let made = unsafe made { unsafe setEntry(epoll, made, .epoll) }
    return unsafe made
}

@c(epoll_ctl) public func hookEpollControl(
    _ epoll: Int32, _ operation: Int32, _ target: Int32, _ event: UnsafeMutableRawPointer?
) -> Int32 {
    let word = used(target)
    guard
        kind(word) != .none && kind(word) != .hidden && kind(word) != .carried,
        let set = unsafe epollSet(epoll) ?? adoptSet(epoll, operation, target, event)
    else { return unsafe real.epollControl!(epoll, operation, target, event) }
    var data: UInt64 = 0
    var events: UInt32 = 0
    if operation != 2 {
        guard let event = unsafe event else { return Int32(finish(-Int(EFAULT))) }
        events = unsafe sk_event_get(event, 0, &data)
    }
    let result = unsafe withLock(set) { set in
        switch operation {
        case 1: set.add(target, word, events, data)
        case 2: set.remove(target, word)
        case 3: set.modify(target, word, events, data)
        default: -Int(EINVAL)
        }
    }
    return Int32(finish(result))
}

private func adoptSet(
    _ epoll: Int32, _ operation: Int32, _ target: Int32, _ event: UnsafeMutableRawPointer?
) -> UnsafeMutablePointer<EpollSet>? {
    // Changing what is not registered: ENOENT from an epoll set, another answer from anything else.
    guard entry(epoll) == 0, operation == 1, unsafe event != nil,
        unsafe sk_epoll_ctl(epoll, 3, target, event) == -Int(ENOENT)
    else {
        return nil
    }
    return unsafe install(epoll)
}

@c(epoll_wait) public func hookEpollWait(
    _ epoll: Int32, _ events: UnsafeMutableRawPointer?, _ maximum: Int32, _ timeout: Int32
) -> Int32 {
    guard let set = unsafe epollSet(epoll), maximum > 0 else {
        return unsafe real.epollWait!(epoll, events, maximum, timeout)
    }
    return unsafe Int32(finish(wait(set, epoll, events, maximum, deadline(milliseconds: timeout), nil)))
}

@c(epoll_pwait) public func hookEpollWaitMask(
    _ epoll: Int32, _ events: UnsafeMutableRawPointer?, _ maximum: Int32, _ timeout: Int32, _ mask: UnsafeRawPointer?
) -> Int32 {
    guard let set = unsafe epollSet(epoll), maximum > 0 else {
        return unsafe real.epollWaitMask!(epoll, events, maximum, timeout, mask)
    }
    return unsafe Int32(finish(wait(set, epoll, events, maximum, deadline(milliseconds: timeout), mask)))
}

@c(epoll_pwait2) public func hookEpollWaitMask2(
    _ epoll: Int32, _ events: UnsafeMutableRawPointer?, _ maximum: Int32, _ timeout: UnsafePointer<timespec>?,
    _ mask: UnsafeRawPointer?
) -> Int32 {
    guard let set = unsafe epollSet(epoll), maximum > 0 else {
        return unsafe Int32(finish(sk_epoll_pwait2(epoll, events, maximum, timeout, mask)))
    }
    if unsafe isInvalid(timeout) { return Int32(finish(-Int(EINVAL))) }
    return unsafe Int32(finish(wait(set, epoll, events, maximum, deadline(of: timeout), mask)))
}

/// Without a place for events there is an error to report only once there is one.
private func wait(
    _ set: UnsafeMutablePointer<EpollSet>, _ epoll: Int32, _ events: UnsafeMutableRawPointer?, _ maximum: Int32,
    _ deadline: UInt64, _ mask: UnsafeRawPointer?
) -> Int {
    if let events = unsafe events { return unsafe wait(set, epoll, into: events, maximum, deadline, mask) }
    var event = unsafe epoll_event()
    let found = unsafe withUnsafeMutablePointer(to: &event) { unsafe wait(set, epoll, into: $0, 1, deadline, mask) }
    return found > 0 ? -Int(EFAULT) : found
}

/// Looks in memory, at times in the kernel too, spins, arms, looks again, sleeps.
private func wait(
    _ set: UnsafeMutablePointer<EpollSet>, _ epoll: Int32, into events: UnsafeMutableRawPointer, _ maximum: Int32,
    _ deadline: UInt64,
    _ mask: UnsafeRawPointer?
) -> Int {
    // Who waits on a set is who it belongs to, a daemon's child for one.
    unsafe set.pointee.owner = process.descent
    var patience = Patience()
    while true {
        let now = sk_now()
        let recent = unsafe now &- set.pointee.lastKernelLook < kernelLookInterval
        let found = unsafe withLock(set) { unsafe $0.collect(events, Int(maximum)) }
        if found == Int(maximum) || (found > 0 && recent) { return found }
        if unsafe found == 0 && deadline != 0 && set.pointee.watchedCount > 0 && spinForAny(set) { continue }
        let arms = found == 0 && deadline != 0
        if arms { ringForInterrupted() }
        let mustSleep = unsafe arms && withLock(set) { $0.prepareSleep() }
        let limit = unsafe patience.limit(set.pointee.company, deadline)
        let room = Int(maximum) - found
        let rest = unsafe events.advanced(by: found * MemoryLayout<epoll_event>.stride)
        let result =
            unsafe mustSleep
            ? Sleep(
                .epoll(epoll, rest, room: Int32(room), milliseconds: milliseconds(until: limit), mask), armed: .set(set)
            ).run()
            : sk_epoll_pwait(epoll, rest, Int32(room), 0, found > 0 ? nil : mask)
        let kept = unsafe withLock(set) { set in
            if arms { set.endSleep() }
            set.lastKernelLook = sk_now()
            return unsafe result > 0 ? set.absorb(rest, result) : 0
        }
        if found > 0 { return found + kept }
        let late = unsafe withLock(set) {
            unsafe $0.collect(events.advanced(by: kept * MemoryLayout<epoll_event>.stride), Int(maximum) - kept)
        }
        if kept + late > 0 { return kept + late }
        if result < 0 { return result }
        if deadline == 0 || sk_now() >= deadline { return 0 }
        if unsafe set.pointee.pauses {
            unsafe set.pointee.pauses = false
            letOthersRun()
        }
    }
}

private func milliseconds(until deadline: UInt64) -> Int32 {
    if deadline == UInt64.max { return -1 }
    let now = sk_now()
    if now >= deadline { return 0 }
    return Int32(min((deadline - now + 999_999) / 1_000_000, UInt64(Int32.max)))
}

private func spinForAny(_ set: UnsafeMutablePointer<EpollSet>) -> Bool {
    let first = unsafe withLock(set) { set -> UnsafeMutablePointer<LocalState>? in
        unsafe set.watchedCount > 0 ? set.members![Int(set.watched![0])].local : nil
    }
    guard let local = unsafe first else { return false }
    return unsafe set.pointee.spin.wait(
        policy: process.spinPolicy, peerProcessor: Endpoint(local).peer.load32(Layout.processor),
        processors: process.processors,
        ready: { unsafe withLock(set) { $0.endsSpin() } })
}

// MARK: - Following descriptors

/// Registrations to be made again on the endpoint that takes the TCP socket's place, or the other way round.
struct Registrations {
    /// The entry of what is replaced.
    var word: UInt
    var count = 0
    var sets = InlineArray<8, UInt>(repeating: 0)
    var descriptors = InlineArray<8, Int32>(repeating: -1)
    var events = InlineArray<8, UInt32>(repeating: 0)
    var data = InlineArray<8, UInt64>(repeating: 0)

    fileprivate mutating func add(_ set: UnsafeMutablePointer<EpollSet>, _ member: Member) {
        guard count < 8 else { return }
        sets[count] = UInt(bitPattern: set)
        descriptors[count] = member.descriptor
        events[count] = member.events
        data[count] = member.data
        count += 1
    }
}

/// Those of what the number stands for, or stood for by the entry `word`; also by other numbers.
func registrationsOf(_ descriptor: Int32, _ word: UInt? = nil) -> Registrations {
    let word = word ?? entry(descriptor)
    var found = Registrations(word: word)
    unsafe forEachSet { set in
        unsafe withLock(set) { body in
            if body.strays == 0 && !isDuplicated(word) {
                if let index = body.find(descriptor, word) { unsafe found.add(set, body.members![index]) }
                return
            }
            var next = body.find(word)
            while let index = next {
                unsafe found.add(set, body.members![index])
                next = body.find(word, from: index + 1)
            }
        }
    }
    return found
}

/// Whether other numbers of the process stand for the same.
private func isDuplicated(_ word: UInt) -> Bool {
    if kind(word) == .endpoint {
        return unsafe UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!.pointee.descriptors > 1
    }
    return unsafe UnsafeMutablePointer<StreamSocket>(bitPattern: word & ~Kind.bits)!.pointee.descriptors > 1
}

/// The exchange of the descriptor has taken the TCP socket out of the kernel's sets; an STP socket is
/// still in them. Numbers that stand for what was there before have their own turn.
func replay(_ registrations: Registrations, _ descriptor: Int32, _ end: Endpoint, inKernel: Bool = false) {
    let word = entry(descriptor)
    for index in 0..<registrations.count {
        let number = registrations.descriptors[index]
        guard let set = unsafe UnsafeMutablePointer<EpollSet>(bitPattern: registrations.sets[index]),
            entry(number) != registrations.word
        else { continue }
        unsafe withLock(set) { body in
            if let old = body.find(number, registrations.word) {
                _ = body.remove(old, fromKernel: inKernel || kind(registrations.word) == .endpoint)
            }
            let (events, data) = (registrations.events[index], registrations.data[index])
            if kind(word) == .endpoint {
                _ = body.add(number, word, events, data)
                if entry(number) != word { body.closeNumber(number, word) }
            } else if number == descriptor {
                _ = kind(word) == .none ? body.control(1, number, events, data) : body.add(number, word, events, data)
            }
        }
    }
}

/// listen came after the registration: the hidden listener joins.
func followListener(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) {
    unsafe forEachSet { set in
        unsafe withLock(set) { body in
            if let index = body.find(entry(descriptor)) { unsafe body.addHidden(index, socket.pointee.hidden) }
        }
    }
}

/// The hidden listener is given up.
func unfollow(hidden: Int32) {
    unsafe forEachSet { set in unsafe withLock(set) { $0.removeHidden(hidden) } }
}

/// A number of what the entry names is about to be closed; the last where `isLast` says so.
func closeRegistrations(_ descriptor: Int32, _ word: UInt, isLast: Bool) {
    unsafe forEachSet { set in
        unsafe withLock(set) { body in
            if body.limit == 0 { return }
            if isLast { body.forget(descriptor, word) } else { body.closeNumber(descriptor, word) }
        }
    }
}

/// Wakes who sleeps on a set with that end; how many sleepers of the kind are sets.
func wakeSets(of local: UnsafeMutablePointer<LocalState>, _ kind: Arms) -> UInt32 {
    var count: UInt32 = 0
    unsafe forEachSet { set in unsafe withLock(set) { unsafe count += $0.wakeSleepers(of: local, kind) } }
    return count
}

/// Arms of that end which sets keep though no thread sleeps in them: these look at it in their next wait.
func idleArms(of local: UnsafeMutablePointer<LocalState>) -> UInt32 {
    var count: UInt32 = 0
    unsafe forEachSet { set in
        unsafe withLock(set) { set in
            if set.sleeping > 0 { return }
            count += unsafe set.wakeSleepers(of: local, .reading) + set.wakeSleepers(of: local, .writing)
        }
    }
    return count
}

/// The last descriptor of the set is about to be closed.
func forgetSet(_ set: UnsafeMutablePointer<EpollSet>) {
    unsafe withLock(set) { $0.removeAll() }
    withProcessLock {
        if unsafe firstSet == set {
            unsafe firstSet = unsafe set.pointee.next
        } else {
            var before = unsafe firstSet
            while let current = unsafe before, unsafe current.pointee.next != set {
                unsafe before = unsafe current.pointee.next
            }
            unsafe before?.pointee.next = unsafe set.pointee.next
        }
        // A thread that still sleeps in it finds it empty, and wakes up with an error.
        if unsafe set.pointee.sleeping == 0 { unsafe sets.give(set) }
    }
}

/// For a relay that has been forked: its maker's sets are none of its own.
func forgetSets() { unsafe firstSet = nil }

func forEachSet(_ body: (UnsafeMutablePointer<EpollSet>) -> Void) {
    var link = unsafe firstSet
    while let current = unsafe link {
        unsafe link = unsafe current.pointee.next
        unsafe body(current)
    }
}
