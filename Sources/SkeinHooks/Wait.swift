import CSystem

// poll over any mix of endpoints, listeners, epoll sets and the system's descriptors.

/// How often a wait that finds work in memory still asks the kernel about the rest, in nanoseconds.
let kernelLookInterval: UInt64 = 50_000

/// The bits that a poll item reports without being asked.
private let always = pollError | pollHangUp

@inline(__always) func isOurs(_ descriptor: Int32) -> Bool {
    let kind = used(descriptor) & Kind.bits
    return kind == Kind.endpoint.rawValue || kind == Kind.listener.rawValue || kind == Kind.epoll.rawValue
}

private func anyOurs(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Bool {
    if unsafe descriptorTable == nil { return false }
    if count > tightLimit && exceedsLimit(count) { return false }
    for index in 0..<count where unsafe isOurs(items[index].fd) { return true }
    return false
}

/// Whether poll takes so many items, of which no more need to be there than RLIMIT_NOFILE. Fewer than `tightLimit`
/// always do. The kernel looks at the count before it looks at the items: there are none here.
private func exceedsLimit(_ count: Int) -> Bool {
    var none = timespec(tv_sec: 0, tv_nsec: 0)
    return unsafe sk_ppoll(nil, UInt(count), &none, nil) == -Int(EINVAL)
}

/// The kernel's count of poll items has 32 bits, the C library's 64.
@inline(__always) private func itemCount(_ count: UInt) -> Int { Int(UInt32(truncatingIfNeeded: count)) }

/// What the memory says of one item. nil when only the kernel knows.
private func look(_ item: pollfd) -> UInt32? {
    if let end = endpoint(item.fd) {
        end.noticeHint(item.fd)
        return end.readiness() & (UInt32(UInt16(bitPattern: item.events)) | always)
    }
    if let set = unsafe epollSet(item.fd) {
        return unsafe set.pointee.hasEvents() ? pollIn & UInt32(UInt16(bitPattern: item.events)) : nil
    }
    return nil
}

/// What one call works with beside the program's items: the kernel's items (further ones stand for the
/// second queues of listeners), whose item each of those is, and the ends behind the items: a number may
/// mean another end by the time the kernel answers.
@safe
struct PollWork {
    let kernel: UnsafeMutablePointer<pollfd>
    let owners: UnsafeMutablePointer<UInt32>
    /// The address of each item's `LocalState` (0 for none), and in its low bits what of it is armed.
    let ends: UnsafeMutablePointer<UInt>
    let room: Int
    var total = 0

    init(_ memory: UnsafeMutableRawPointer, count: Int, room: Int) {
        unsafe ends = unsafe memory.bindMemory(to: UInt.self, capacity: count)
        unsafe kernel = unsafe memory.advanced(by: count * 8).bindMemory(to: pollfd.self, capacity: room)
        unsafe owners = unsafe memory.advanced(by: (count + room) * 8).bindMemory(to: UInt32.self, capacity: room)
        self.room = room
    }

    static func words(count: Int, room: Int) -> Int { count + room + (room + 1) / 2 }

    func end(_ index: Int) -> Endpoint? {
        guard let local = unsafe UnsafeMutablePointer<LocalState>(bitPattern: ends[index] & ~3) else { return nil }
        return unsafe Endpoint(local)
    }

    mutating func add(_ descriptor: Int32, _ events: Int16, owner: Int) {
        guard total < room else { return }
        unsafe kernel[total] = pollfd(fd: descriptor, events: events, revents: 0)
        unsafe owners[total] = UInt32(owner)
        total += 1
    }
}

/// Memory for the length of a call, from the stack where little is wanted. Not from malloc: poll may be
/// called in signal handlers.
func withScratch(words: Int, _ body: (UnsafeMutableRawPointer) -> Int) -> Int {
    if words <= 32 {
        var small = InlineArray<32, UInt64>(repeating: 0)
        return unsafe withUnsafeMutableBytes(of: &small) { unsafe body($0.baseAddress!) }
    }
    if words <= 512 {
        var medium = InlineArray<512, UInt64>(repeating: 0)
        return unsafe withUnsafeMutableBytes(of: &medium) { unsafe body($0.baseAddress!) }
    }
    guard let memory = unsafe allocate(words * 8) else { return -Int(ENOMEM) }
    defer { unsafe _ = sk_munmap(memory, words * 8) }
    return unsafe body(memory)
}

/// poll(2). `deadline` in nanoseconds of the monotonic clock, `UInt64.max` for none. Count, or minus the errno.
func pollAll(_ items: UnsafeMutablePointer<pollfd>, _ count: Int, deadline: UInt64, mask: UnsafeRawPointer?) -> Int {
    var room = count
    for index in 0..<count where unsafe entry(items[index].fd) & Kind.bits == Kind.listener.rawValue { room += 17 }
    return unsafe withScratch(words: PollWork.words(count: count, room: room)) { memory in
        var work = unsafe PollWork(memory, count: count, room: room)
        return unsafe pollAll(items, count, &work, deadline: deadline, mask: mask)
    }
}

private func pollAll(
    _ items: UnsafeMutablePointer<pollfd>, _ count: Int, _ work: inout PollWork, deadline: UInt64,
    mask: UnsafeRawPointer?
) -> Int {
    var looked = false
    var patience = Patience()
    for index in 0..<count { unsafe endpoint(items[index].fd)?.letRelaysCatchUpIfAny(items[index].fd) }
    while true {
        let ready = unsafe lookAtAll(items, count)
        if unsafe ready > 0 && looked == false && sk_now() &- process.lastKernelLook < kernelLookInterval
            && onlyOurs(items, count)
        {
            return ready
        }
        if unsafe ready == 0 && deadline != 0 && spinForAny(items, count) { continue }
        let arms = ready == 0 && deadline != 0
        unsafe identify(work, items, count)
        if arms { ringForInterrupted() }
        let company = unsafe arms ? armAll(items, count, work) : .alone
        let again = unsafe arms ? lookAtAll(items, count) : ready
        unsafe fill(&work, items, count)
        let limit = patience.limit(company, deadline)
        // With something to report no signal is let in.
        let result = unsafe sleepInKernel(
            work, armed: arms ? count : 0, deadline: again > 0 ? 0 : limit, mask: again > 0 ? nil : mask)
        if arms { disarmAll(count, work) }
        looked = true
        if result < 0 { return result }
        var pauses = false
        let found = unsafe merge(work, items, count, &pauses)
        if found > 0 { return found }
        if deadline == 0 || sk_now() >= deadline { return 0 }
        if pauses { letOthersRun() }
    }
}

private func onlyOurs(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Bool {
    for index in 0..<count where unsafe items[index].fd >= 0 && endpoint(items[index].fd) == nil { return false }
    return true
}

private func lookAtAll(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Int {
    var ready = 0
    for index in 0..<count {
        let bits = unsafe look(items[index]) ?? 0
        unsafe items[index].revents = Int16(truncatingIfNeeded: bits)
        if bits != 0 { ready += 1 }
    }
    return ready
}

/// Spins only where a single endpoint is waited for: the common blocking client.
private func spinForAny(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Bool {
    guard count <= 4 else { return false }
    for index in 0..<count {
        guard let end = unsafe endpoint(items[index].fd) else { continue }
        return unsafe end.local.pointee.spin.wait(
            policy: process.spinPolicy, peerProcessor: end.peer.load32(Layout.processor),
            processors: process.processors,
            ready: { unsafe endsSpin(items, count) })
    }
    return false
}

/// Whether any is ready; the first that is counts the wait that looking has ended.
private func endsSpin(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Bool {
    guard unsafe lookAtAll(items, count) > 0 else { return false }
    for index in 0..<count where unsafe items[index].revents != 0 {
        unsafe endpoint(items[index].fd)?.count(SocketTable.Record.spins)
        break
    }
    return true
}

@inline(__always) private func interest(_ item: pollfd) -> UInt32 { UInt32(UInt16(bitPattern: item.events)) }

private func identify(_ work: PollWork, _ items: UnsafeMutablePointer<pollfd>, _ count: Int) {
    for index in 0..<count {
        if let end = unsafe endpoint(items[index].fd) {
            unsafe work.ends[index] = unsafe UInt(bitPattern: end.local)
        } else {
            unsafe work.ends[index] = 0
        }
    }
}

/// Adds a sleeper to each end. Returns the worst company that any of the ends is in.
private func armAll(_ items: UnsafeMutablePointer<pollfd>, _ count: Int, _ work: PollWork) -> Company {
    var company = Company.alone
    for index in 0..<count {
        if let end = work.end(index) {
            let arms = unsafe Arms(interest: interest(items[index]))
            end.arm(arms)
            unsafe work.ends[index] |= UInt(arms.rawValue)
            company = max(company, end.company(arms))
        } else if let set = unsafe epollSet(items[index].fd) {
            unsafe withLock(set) { $0.armForOthers() }
        }
    }
    return company
}

func disarmAll(_ count: Int, _ work: PollWork) {
    for index in 0..<count {
        guard let end = work.end(index) else { continue }
        unsafe end.disarm(Arms(rawValue: UInt32(work.ends[index] & 3)))
    }
}

/// The kernel's items: the first `count` stand beside the program's, further ones for hidden listeners.
private func fill(_ work: inout PollWork, _ items: UnsafeMutablePointer<pollfd>, _ count: Int) {
    work.total = 0
    for index in 0..<count {
        if let end = work.end(index) {
            let gone = end.has(EndFlag.hungUp)
            unsafe work.add(gone ? -1 : items[index].fd, end.bellEvents, owner: index)
        } else {
            unsafe work.add(items[index].fd, items[index].events, owner: index)
        }
    }
    for index in 0..<count where unsafe entry(items[index].fd) & Kind.bits == Kind.listener.rawValue {
        guard let socket = unsafe streamSocket(items[index].fd) else { continue }
        unsafe work.add(socket.pointee.hidden, items[index].events, owner: index)
    }
}

/// `armed` is the number of items whose ends are.
private func sleepInKernel(_ work: PollWork, armed: Int, deadline: UInt64, mask: UnsafeRawPointer?) -> Int {
    let now = sk_now()
    unsafe process.lastKernelLook = now
    if deadline == UInt64.max {
        return unsafe Sleep(.poll(work.kernel, work.total, nil, mask), armed: .items(work, armed)).run()
    }
    let left = deadline > now ? deadline - now : 0
    var timeout = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
    if left == 0 { return unsafe sk_ppoll(work.kernel, UInt(work.total), &timeout, mask) }
    return unsafe withUnsafePointer(to: &timeout) {
        unsafe Sleep(.poll(work.kernel, work.total, $0, mask), armed: .items(work, armed)).run()
    }
}

/// Puts what the kernel said into the program's items and returns how many are ready. `pauses` is set
/// where a bell is left to another sleeper.
private func merge(
    _ work: PollWork, _ items: UnsafeMutablePointer<pollfd>, _ count: Int, _ pauses: inout Bool
) -> Int {
    for index in 0..<count {
        let said = unsafe UInt32(UInt16(bitPattern: work.kernel[index].revents))
        let wanted = unsafe interest(items[index])
        if let end = work.end(index) {
            // Closed meanwhile by another thread: what the kernel said is of something else.
            guard unsafe endpoint(items[index].fd)?.local == end.local else {
                unsafe items[index].revents = 0
                continue
            }
            var bits = end.afterKernel(said) & (wanted | always)
            if bits == 0 && said & pollIn != 0 {
                if unsafe !end.drain(
                    items[index].fd, for: Arms(interest: wanted), own: [],
                    isReady: { end.readiness() & (wanted | always) != 0 })
                {
                    pauses = true
                }
                bits = end.readiness() & (wanted | always)
            }
            unsafe items[index].revents = Int16(truncatingIfNeeded: bits)
        } else if let set = unsafe epollSet(items[index].fd) {
            unsafe items[index].revents =
                unsafe withLock(set) { $0.hasEvents() } ? items[index].events & Int16(POLLIN) : 0
        } else {
            unsafe items[index].revents = unsafe work.kernel[index].revents
        }
    }
    for extra in count..<max(work.total, count) {
        let owner = unsafe Int(work.owners[extra])
        if unsafe work.kernel[extra].revents & Int16(POLLHUP) != 0,
            let socket = unsafe streamSocket(items[owner].fd), unsafe work.kernel[extra].fd == socket.pointee.hidden
        {
            if unsafe socket.pointee.isSTP { continue }
            unsafe socket.pointee.hiddenIsShut = true
            // A listener that was shut down is what the kernel says of it.
            if unsafe !isListening(items[owner].fd) { continue }
        }
        let said = unsafe work.kernel[extra].revents & Int16(pollIn | pollInNormal)
        if unsafe said != 0 && items[owner].revents == 0 {
            unsafe streamSocket(items[owner].fd)?.pointee.promised = sk_thread_id()
        }
        unsafe items[owner].revents |= said
    }
    var ready = 0
    for index in 0..<count where unsafe items[index].revents != 0 { ready += 1 }
    return ready
}

extension Endpoint {
    /// Takes in what the kernel said of the Unix socket, and returns how the end stands.
    func afterKernel(_ said: UInt32) -> UInt32 {
        noticeHangUp(said)
        return readiness()
    }
}

// MARK: - Exports

/// A monotonic deadline of a relative timeout in milliseconds.
@inline(__always) func deadline(milliseconds: Int32) -> UInt64 {
    if milliseconds < 0 { return UInt64.max }
    return milliseconds == 0 ? 0 : sk_now() &+ UInt64(milliseconds) * 1_000_000
}

/// A time that the kernel takes for no time at all: EINVAL.
func isInvalid(_ timeout: UnsafePointer<timespec>?) -> Bool {
    guard let timeout = unsafe timeout else { return false }
    return unsafe timeout.pointee.tv_sec < 0 || timeout.pointee.tv_nsec < 0
        || timeout.pointee.tv_nsec >= 1_000_000_000
}

func deadline(of timeout: UnsafePointer<timespec>?) -> UInt64 {
    guard let timeout = unsafe timeout else { return UInt64.max }
    // Three centuries are as good as for ever, and fit.
    let seconds = unsafe UInt64(min(max(timeout.pointee.tv_sec, 0), 9_000_000_000))
    let nanoseconds = unsafe seconds * 1_000_000_000 + UInt64(max(timeout.pointee.tv_nsec, 0))
    return nanoseconds == 0 ? 0 : sk_now() &+ nanoseconds
}

@c(poll) public func hookPoll(_ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: Int32) -> Int32 {
    guard let items = unsafe items, unsafe anyOurs(items, itemCount(count)) else {
        return unsafe real.poll!(items, count, timeout)
    }
    return unsafe Int32(finish(pollAll(items, itemCount(count), deadline: deadline(milliseconds: timeout), mask: nil)))
}

@c(__poll_chk) public func hookPollChecked(
    _ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: Int32, _ size: UInt
) -> Int32 {
    precondition(size / UInt(MemoryLayout<pollfd>.stride) >= count)
    return unsafe hookPoll(items, count, timeout)
}

@c(ppoll) public func hookPollMask(
    _ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: UnsafePointer<timespec>?,
    _ mask: UnsafeRawPointer?
) -> Int32 {
    guard let items = unsafe items, unsafe anyOurs(items, itemCount(count)) else {
        return unsafe real.ppoll!(items, count, timeout, mask)
    }
    if unsafe isInvalid(timeout) { return Int32(finish(-Int(EINVAL))) }
    return unsafe Int32(finish(pollAll(items, itemCount(count), deadline: deadline(of: timeout), mask: mask)))
}

@c(__ppoll_chk) public func hookPollMaskChecked(
    _ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: UnsafePointer<timespec>?,
    _ mask: UnsafeRawPointer?,
    _ size: UInt
) -> Int32 {
    precondition(size / UInt(MemoryLayout<pollfd>.stride) >= count)
    return unsafe hookPollMask(items, count, timeout, mask)
}
