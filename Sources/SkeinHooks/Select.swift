import CSystem

// select: its sets become poll items.

@c(select) public func hookSelect(
    _ count: Int32, _ read: UnsafeMutableRawPointer?, _ write: UnsafeMutableRawPointer?,
    _ except: UnsafeMutableRawPointer?,
    _ timeout: UnsafeMutablePointer<timeval>?
) -> Int32 {
    var sets = unsafe DescriptorSets(count: Int(count), read: read, write: write, except: except)
    sets.stopAtHighest()
    guard sets.anyOurs() else { return unsafe real.select!(Int32(sets.count), read, write, except, timeout) }
    var end = UInt64.max
    if let timeout = unsafe timeout {
        guard unsafe timeout.pointee.tv_sec >= 0 && timeout.pointee.tv_usec >= 0 else {
            return Int32(finish(-Int(EINVAL)))
        }
        let microseconds = unsafe timeout.pointee.tv_usec
        var time = unsafe timespec(
            tv_sec: timeout.pointee.tv_sec &+ microseconds / 1_000_000, tv_nsec: microseconds % 1_000_000 * 1000)
        end = unsafe withUnsafePointer(to: &time) { unsafe deadline(of: $0) }
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
    var sets = unsafe DescriptorSets(count: Int(count), read: read, write: write, except: except)
    sets.stopAtHighest()
    guard sets.anyOurs() else { return unsafe real.pselect!(Int32(sets.count), read, write, except, timeout, mask) }
    if unsafe isInvalid(timeout) { return Int32(finish(-Int(EINVAL))) }
    return unsafe Int32(finish(sets.select(deadline: deadline(of: timeout), mask: mask)))
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

    /// Programs pass getdtablesize() and sets of 1,024 bits. The kernel stops at the highest descriptor; ours
    /// is far above the program's, so this has to.
    mutating func stopAtHighest() {
        guard count > 1024, unsafe descriptorTable != nil, programEnd <= 1024 else { return }
        for descriptor in 1024..<1088 where sk_fcntl(Int32(descriptor), F_GETFD, 0) >= 0 { return }
        count = 1024
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

    mutating func select(deadline: UInt64, mask: UnsafeRawPointer?) -> Int {
        let result = unsafe selectOnce(deadline: deadline, mask: mask)
        guard result == -Int(EBADF), stopBehindTable() else { return result }
        return unsafe selectOnce(deadline: deadline, mask: mask)
    }

    /// Numbers that the process's table of descriptors has no room for are nobody's fault, they are not looked at. The
    /// kernel's table would be as large as the program's numbers need, were ours not above them.
    private mutating func stopBehindTable() -> Bool {
        var size = 64
        for descriptor in 0..<min(count, hiddenNumbers.lowerBound) where sk_fcntl(Int32(descriptor), F_GETFD, 0) >= 0 {
            while size <= descriptor { size = max(size * 2, 256) }
        }
        guard size < count else { return false }
        count = size
        return true
    }

    private func selectOnce(deadline: UInt64, mask: UnsafeRawPointer?) -> Int {
        unsafe withScratch(words: max(count, 1)) { memory in
            unsafe select(memory.bindMemory(to: pollfd.self, capacity: max(count, 1)), deadline: deadline, mask: mask)
        }
    }

    private func select(
        _ items: UnsafeMutablePointer<pollfd>, deadline: UInt64, mask: UnsafeRawPointer?
    ) -> Int {
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
