import CSystem

// poll and select over any mix of endpoints, listeners, epoll sets and the system's descriptors.

/// How often a wait that finds work in memory still asks the kernel about the rest, in nanoseconds.
let kernelLookInterval: UInt64 = 50_000
/// How long a sleeper in company sleeps at most: another's drain may take its bell (Tests/Models).
let companyLimit: UInt64 = 20_000_000

/// The bits that a poll item reports without being asked.
private let always = pollError | pollHangUp

@inline(__always) private func isOurs(_ descriptor: Int32) -> Bool {
    let kind = entry(descriptor) & 7
    return kind == Kind.endpoint.rawValue || kind == Kind.listener.rawValue || kind == Kind.epoll.rawValue
}

func anyOurs(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Bool {
    if unsafe descriptorTable == nil { return false }
    for index in 0..<count where unsafe isOurs(items[index].fd) { return true }
    return false
}

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

/// poll(2). `deadline` in nanoseconds of the monotonic clock, `UInt64.max` for none. Count, or minus the errno.
func pollAll(_ items: UnsafeMutablePointer<pollfd>, _ count: Int, deadline: UInt64, mask: UnsafeRawPointer?) -> Int {
    // Listeners have a second descriptor and pending ones; ends that hung up are out of the kernel's wait.
    let room = count * 2 + 64
    guard let memory = unsafe malloc(room * MemoryLayout<pollfd>.stride) else { return -Int(ENOMEM) }
    defer { unsafe free(memory) }
    let kernel = unsafe memory.bindMemory(to: pollfd.self, capacity: room)
    var looked = false
    while true {
        let ready = unsafe lookAtAll(items, count)
        if unsafe ready > 0 && looked == false && sk_now() &- process.lastKernelLook < kernelLookInterval
            && onlyOurs(items, count)
        {
            return ready
        }
        if unsafe ready == 0 && deadline != 0 && spinForAny(items, count) { continue }
        if ready == 0 { unsafe armAll(items, count, 1) }
        let again = unsafe ready == 0 ? lookAtAll(items, count) : ready
        let total = unsafe fill(kernel, items, count, room)
        let limit = unsafe inCompany(items, count) ? min(deadline, sk_now() &+ companyLimit) : deadline
        let result = unsafe sleepInKernel(kernel, total, deadline: again > 0 ? 0 : limit, mask: mask)
        if ready == 0 { unsafe armAll(items, count, UInt32.max) }
        looked = true
        if result < 0 { return result }
        let found = unsafe merge(kernel, items, count)
        if found > 0 { return found }
        if deadline == 0 || sk_now() >= deadline { return 0 }
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
            ready: { unsafe lookAtAll(items, count) > 0 })
    }
    return false
}

/// Adds one sleeper (or takes one off: `UInt32.max`) for each interest in each endpoint.
private func armAll(_ items: UnsafeMutablePointer<pollfd>, _ count: Int, _ one: UInt32) {
    for index in 0..<count {
        if let end = unsafe endpoint(items[index].fd) {
            end.mine.add32(Layout.readSleepers, one)
            if unsafe UInt32(UInt16(bitPattern: items[index].events)) & (pollOut | pollOutNormal) != 0 {
                end.mine.add32(Layout.writeSleepers, one)
            }
        } else if let set = unsafe epollSet(items[index].fd) {
            if one == 1 { unsafe set.pointee.armForOthers() }
        }
    }
}

private func inCompany(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Bool {
    for index in 0..<count {
        guard let end = unsafe endpoint(items[index].fd) else { continue }
        let own: UInt32 =
            unsafe UInt32(UInt16(bitPattern: items[index].events)) & (pollOut | pollOutNormal) != 0 ? 2 : 1
        if end.mine.load32(Layout.readSleepers) &+ end.mine.load32(Layout.writeSleepers) > own || end.has(EndFlag.given)
        {
            return true
        }
    }
    return false
}

/// The kernel's items: the first `count` stand beside the program's, further ones for hidden listeners.
private func fill(
    _ kernel: UnsafeMutablePointer<pollfd>, _ items: UnsafeMutablePointer<pollfd>, _ count: Int, _ room: Int
) -> Int {
    var total = count
    for index in 0..<count {
        unsafe kernel[index] = unsafe items[index]
        unsafe kernel[index].revents = 0
        if let end = unsafe endpoint(items[index].fd) {
            unsafe kernel[index].events = Int16(POLLIN)
            if end.has(EndFlag.hungUp) { unsafe kernel[index].fd = -1 }
        } else if unsafe entry(items[index].fd) & 7 == Kind.listener.rawValue,
            let socket = unsafe streamSocket(items[index].fd)
        {
            unsafe addExtra(kernel, &total, room, socket.pointee.hidden, items[index].events)
            for waiting in unsafe 0..<socket.pointee.pendingCount {
                unsafe addExtra(kernel, &total, room, socket.pointee.pending[waiting], items[index].events)
            }
        }
    }
    return total
}

private func addExtra(
    _ kernel: UnsafeMutablePointer<pollfd>, _ total: inout Int, _ room: Int, _ descriptor: Int32, _ events: Int16
) {
    guard total < room else { return }
    unsafe kernel[total] = pollfd(fd: descriptor, events: events, revents: 0)
    total += 1
}

private func sleepInKernel(
    _ kernel: UnsafeMutablePointer<pollfd>, _ count: Int, deadline: UInt64, mask: UnsafeRawPointer?
) -> Int {
    let now = sk_now()
    unsafe process.lastKernelLook = now
    if deadline == UInt64.max { return unsafe sk_ppoll(kernel, UInt(count), nil, mask) }
    let left = deadline > now ? deadline - now : 0
    var timeout = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
    return unsafe sk_ppoll(kernel, UInt(count), &timeout, mask)
}

/// Puts what the kernel said into the program's items and returns how many are ready.
private func merge(_ kernel: UnsafeMutablePointer<pollfd>, _ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Int {
    var ready = 0
    var extra = count
    for index in 0..<count {
        let said = unsafe UInt32(UInt16(bitPattern: kernel[index].revents))
        if let end = unsafe endpoint(items[index].fd) {
            let bits =
                unsafe end.afterKernel(
                    items[index].fd, said, interest: UInt32(UInt16(bitPattern: items[index].events)))
                & (UInt32(UInt16(bitPattern: items[index].events)) | always)
            unsafe items[index].revents = Int16(truncatingIfNeeded: bits)
        } else if let set = unsafe epollSet(items[index].fd) {
            unsafe items[index].revents = unsafe set.pointee.hasEvents() ? items[index].events & Int16(POLLIN) : 0
        } else {
            unsafe items[index].revents = unsafe kernel[index].revents
            if unsafe entry(items[index].fd) & 7 == Kind.listener.rawValue,
                let socket = unsafe streamSocket(items[index].fd)
            {
                for _ in unsafe 0...socket.pointee.pendingCount {
                    unsafe items[index].revents |= kernel[extra].revents & ~Int16(POLLHUP | POLLERR | POLLOUT)
                    extra += 1
                }
            }
        }
        if unsafe items[index].revents != 0 { ready += 1 }
    }
    return ready
}

extension Endpoint {
    /// Takes in what the kernel said of the Unix socket, and returns how the end stands.
    func afterKernel(_ descriptor: Int32, _ said: UInt32, interest: UInt32) -> UInt32 {
        if said & (pollHangUp | pollError) != 0 { set(EndFlag.hungUp) }
        let bits = readiness()
        // A bell with nothing behind it would wake every wait from now on.
        if said & pollIn != 0 && bits & pollIn == 0 {
            if interest & (pollOut | pollOutNormal) != 0 {
                drain(descriptor)
            } else {
                drainUnlessWanted(descriptor, reading: true)
            }
        }
        return bits
    }
}

// MARK: - Exports

/// A monotonic deadline of a relative timeout in milliseconds.
@inline(__always) func deadline(milliseconds: Int32) -> UInt64 {
    if milliseconds < 0 { return UInt64.max }
    return milliseconds == 0 ? 0 : sk_now() &+ UInt64(milliseconds) * 1_000_000
}

func deadline(_ timeout: UnsafePointer<timespec>?) -> UInt64 {
    guard let timeout = unsafe timeout else { return UInt64.max }
    let nanoseconds =
        unsafe UInt64(max(timeout.pointee.tv_sec, 0)) &* 1_000_000_000 &+ UInt64(max(timeout.pointee.tv_nsec, 0))
    return nanoseconds == 0 ? 0 : sk_now() &+ nanoseconds
}

@c(poll) public func hookPoll(_ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: Int32) -> Int32 {
    guard let items = unsafe items, unsafe anyOurs(items, Int(count)) else {
        return unsafe real.poll!(items, count, timeout)
    }
    return unsafe Int32(finish(pollAll(items, Int(count), deadline: deadline(milliseconds: timeout), mask: nil)))
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
    guard let items = unsafe items, unsafe anyOurs(items, Int(count)) else {
        return unsafe real.ppoll!(items, count, timeout, mask)
    }
    return unsafe Int32(finish(pollAll(items, Int(count), deadline: deadline(timeout), mask: mask)))
}

@c(__ppoll_chk) public func hookPollMaskChecked(
    _ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: UnsafePointer<timespec>?,
    _ mask: UnsafeRawPointer?,
    _ size: UInt
) -> Int32 {
    precondition(size / UInt(MemoryLayout<pollfd>.stride) >= count)
    return unsafe hookPollMask(items, count, timeout, mask)
}

@c(select) public func hookSelect(
    _ count: Int32, _ read: UnsafeMutableRawPointer?, _ write: UnsafeMutableRawPointer?,
    _ except: UnsafeMutableRawPointer?,
    _ timeout: UnsafeMutablePointer<timeval>?
) -> Int32 {
    let sets = unsafe DescriptorSets(count: Int(count), read: read, write: write, except: except)
    guard sets.anyOurs() else { return unsafe real.select!(count, read, write, except, timeout) }
    var end = UInt64.max
    if let timeout = unsafe timeout {
        guard unsafe timeout.pointee.tv_sec >= 0 && timeout.pointee.tv_usec >= 0 else {
            return Int32(finish(-Int(EINVAL)))
        }
        let nanoseconds =
            unsafe UInt64(timeout.pointee.tv_sec) &* 1_000_000_000 &+ UInt64(timeout.pointee.tv_usec) &* 1000
        end = nanoseconds == 0 ? 0 : sk_now() &+ nanoseconds
    }
    let result = unsafe sets.select(deadline: end, mask: nil)
    if let timeout = unsafe timeout, end != 0 {
        // Linux leaves the time not slept.
        let now = sk_now()
        let left = end > now ? end - now : 0
        unsafe timeout.pointee.tv_sec = Int(left / 1_000_000_000)
        unsafe timeout.pointee.tv_usec = Int(left % 1_000_000_000 / 1000)
    }
    return Int32(finish(result))
}

@c(pselect) public func hookSelectMask(
    _ count: Int32, _ read: UnsafeMutableRawPointer?, _ write: UnsafeMutableRawPointer?,
    _ except: UnsafeMutableRawPointer?,
    _ timeout: UnsafePointer<timespec>?, _ mask: UnsafeRawPointer?
) -> Int32 {
    let sets = unsafe DescriptorSets(count: Int(count), read: read, write: write, except: except)
    guard sets.anyOurs() else { return unsafe real.pselect!(count, read, write, except, timeout, mask) }
    return unsafe Int32(finish(sets.select(deadline: deadline(timeout), mask: mask)))
}

/// The three sets of select, as poll items.
@safe
private struct DescriptorSets {
    var count: Int
    var read: UnsafeMutableRawPointer?
    var write: UnsafeMutableRawPointer?
    var except: UnsafeMutableRawPointer?

    private func has(_ set: UnsafeMutableRawPointer?, _ descriptor: Int) -> Bool {
        guard let set = unsafe set else { return false }
        return unsafe set.load(fromByteOffset: descriptor / 64 * 8, as: UInt64.self) & (1 << UInt64(descriptor % 64))
            != 0
    }

    private func put(_ set: UnsafeMutableRawPointer?, _ descriptor: Int) {
        guard let set = unsafe set else { return }
        let offset = descriptor / 64 * 8
        unsafe set.storeBytes(
            of: set.load(fromByteOffset: offset, as: UInt64.self) | 1 << UInt64(descriptor % 64), toByteOffset: offset,
            as: UInt64.self)
    }

    func anyOurs() -> Bool {
        guard unsafe descriptorTable != nil, count > 0 else { return false }
        for descriptor in 0..<count
        where unsafe (has(read, descriptor) || has(write, descriptor) || has(except, descriptor))
            && isOurs(Int32(descriptor))
        {
            return true
        }
        return false
    }

    func select(deadline: UInt64, mask: UnsafeRawPointer?) -> Int {
        guard let memory = unsafe malloc(max(count, 1) * MemoryLayout<pollfd>.stride) else { return -Int(ENOMEM) }
        defer { unsafe free(memory) }
        let items = unsafe memory.bindMemory(to: pollfd.self, capacity: max(count, 1))
        var total = 0
        for descriptor in 0..<count {
            var events: UInt32 = 0
            if unsafe has(read, descriptor) { events |= pollIn | pollInNormal }
            if unsafe has(write, descriptor) { events |= pollOut | pollOutNormal }
            if unsafe has(except, descriptor) { events |= pollPriority }
            if events == 0 { continue }
            unsafe items[total] = pollfd(fd: Int32(descriptor), events: Int16(truncatingIfNeeded: events), revents: 0)
            total += 1
        }
        let result = unsafe pollAll(items, total, deadline: deadline, mask: mask)
        if result < 0 { return result }
        for index in 0..<total where unsafe UInt32(UInt16(bitPattern: items[index].revents)) & 0x20 /* POLLNVAL */ != 0
        { return -Int(EBADF) }
        return unsafe report(items, total)
    }

    /// Writes the sets anew, as select's readability, writability and exception rules have it.
    private func report(_ items: UnsafeMutablePointer<pollfd>, _ total: Int) -> Int {
        let bytes = (count + 63) / 64 * 8
        if let read = unsafe read { unsafe memset(read, 0, bytes) }
        if let write = unsafe write { unsafe memset(write, 0, bytes) }
        if let except = unsafe except { unsafe memset(except, 0, bytes) }
        var found = 0
        for index in 0..<total {
            let asked = unsafe UInt32(UInt16(bitPattern: items[index].events))
            let bits = unsafe UInt32(UInt16(bitPattern: items[index].revents))
            let descriptor = unsafe Int(items[index].fd)
            if asked & pollIn != 0 && bits & (pollIn | pollInNormal | pollHangUp | pollError) != 0 {
                unsafe put(read, descriptor)
                found += 1
            }
            if asked & pollOut != 0 && bits & (pollOut | pollOutNormal | pollError) != 0 {
                unsafe put(write, descriptor)
                found += 1
            }
            if asked & pollPriority != 0 && bits & pollPriority != 0 {
                unsafe put(except, descriptor)
                found += 1
            }
        }
        return found
    }
}
