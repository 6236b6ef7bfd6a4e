import CSystem

// The calls that move bytes. Each looks its descriptor up and passes to the system what is not ours.

@inline(__always)
func withVector<Result>(_ buffer: UnsafeMutableRawPointer?, _ count: Int, _ body: (Vectors) -> Result) -> Result {
    var vector = unsafe iovec(iov_base: buffer, iov_len: count)
    return unsafe withUnsafePointer(to: &vector) { unsafe body(Vectors(base: $0, count: 1)) }
}

@c(read) public func hookRead(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    guard let end = endpoint(descriptor) else { return unsafe real.read!(descriptor, buffer, count) }
    if count == 0 { return 0 }
    return unsafe finish(withVector(buffer, count) { end.receive(descriptor, $0, flags: 0) })
}

@c(write) public func hookWrite(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    guard let end = endpoint(descriptor) else { return unsafe real.write!(descriptor, buffer, count) }
    return unsafe finish(withVector(buffer, count) { end.send(descriptor, $0, flags: 0) })
}

@c(recv) public func hookRecv(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ flags: Int32
) -> Int {
    guard let end = endpoint(descriptor) else { return unsafe real.recv!(descriptor, buffer, count, flags) }
    return unsafe finish(withVector(buffer, count) { end.receive(descriptor, $0, flags: Int(flags)) })
}

@c(send) public func hookSend(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ flags: Int32
) -> Int {
    guard let end = endpoint(descriptor) else { return unsafe real.send!(descriptor, buffer, count, flags) }
    return unsafe finish(withVector(buffer, count) { send(end, descriptor, $0, flags) })
}

@inline(__always) private func send(_ end: Endpoint, _ descriptor: Int32, _ vectors: Vectors, _ flags: Int32) -> Int {
    if Int(flags) & Flag.fastOpen != 0 { return -Int(EISCONN) }
    return end.send(descriptor, vectors, flags: Int(flags))
}

@c(recvfrom) public func hookRecvFrom(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ flags: Int32,
    _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutableRawPointer?
) -> Int {
    guard let end = endpoint(descriptor) else {
        return unsafe real.recvfrom!(descriptor, buffer, count, flags, address, length)
    }
    // TCP gives no source address.
    if let length = unsafe length { unsafe length.storeBytes(of: 0, as: UInt32.self) }
    return unsafe finish(withVector(buffer, count) { end.receive(descriptor, $0, flags: Int(flags)) })
}

@c(sendto) public func hookSendTo(
    _ descriptor: Int32, _ buffer: UnsafeRawPointer?, _ count: Int, _ flags: Int32, _ address: UnsafeRawPointer?,
    _ length: UInt32
) -> Int {
    guard let end = endpoint(descriptor) else {
        if Int(flags) & Flag.fastOpen != 0 {
            return unsafe sendOpening(descriptor, address, length) {
                unsafe real.sendto!(descriptor, buffer, count, flags, address, length)
            }
        }
        return unsafe real.sendto!(descriptor, buffer, count, flags, address, length)
    }
    return unsafe finish(
        withVector(UnsafeMutableRawPointer(mutating: buffer), count) { send(end, descriptor, $0, flags) })
}

/// MSG_CMSG_CLOEXEC, which recvmsg gives back.
private let closesOnExec = 0x4000_0000

/// What the kernel finds wrong with the vectors of a call before it looks at the socket: 0, or minus the errno.
private func refusal(of vectors: UnsafePointer<iovec>?, _ count: Int, tooMany: Int32) -> Int {
    guard count >= 0 && count <= 1024 else { return -Int(tooMany) }
    guard let vectors = unsafe vectors else { return count == 0 ? 0 : -Int(EFAULT) }
    for index in 0..<count where unsafe vectors[index].iov_len < 0 { return -Int(EINVAL) }
    return 0
}

/// The same of a message, which has a word of its own for too many vectors.
private func refusal(of message: UnsafeMutablePointer<msghdr>) -> Int {
    unsafe refusal(of: message.pointee.msg_iov, Int(message.pointee.msg_iovlen), tooMany: EMSGSIZE)
}

@c(readv) public func hookReadV(_ descriptor: Int32, _ vectors: UnsafePointer<iovec>?, _ count: Int32) -> Int {
    guard let end = endpoint(descriptor), let vectors = unsafe vectors else {
        return unsafe real.readv!(descriptor, vectors, count)
    }
    let refusal = unsafe refusal(of: vectors, Int(count), tooMany: EINVAL)
    if refusal != 0 { return finish(refusal) }
    let room = unsafe Vectors(base: vectors, count: Int(count))
    return room.isEmpty ? 0 : finish(end.receive(descriptor, room, flags: 0))
}

@c(writev) public func hookWriteV(_ descriptor: Int32, _ vectors: UnsafePointer<iovec>?, _ count: Int32) -> Int {
    guard let end = endpoint(descriptor), let vectors = unsafe vectors else {
        return unsafe real.writev!(descriptor, vectors, count)
    }
    let refusal = unsafe refusal(of: vectors, Int(count), tooMany: EINVAL)
    if refusal != 0 { return finish(refusal) }
    let data = unsafe Vectors(base: vectors, count: Int(count))
    return data.isEmpty ? 0 : finish(end.send(descriptor, data, flags: 0))
}

@c(recvmsg) public func hookRecvMessage(
    _ descriptor: Int32, _ message: UnsafeMutablePointer<msghdr>?, _ flags: Int32
) -> Int {
    guard let end = endpoint(descriptor), let message = unsafe message else {
        let result = unsafe real.recvmsg!(descriptor, message, flags)
        if result >= 0, let message = unsafe message { unsafe takePassedEnds(message) }
        return result
    }
    return unsafe finish(receiveMessage(end, descriptor, message, flags))
}

private func receiveMessage(
    _ end: Endpoint, _ descriptor: Int32, _ message: UnsafeMutablePointer<msghdr>, _ flags: Int32
) -> Int {
    let refusal = unsafe refusal(of: message)
    if refusal != 0 { return refusal }
    let vectors = unsafe Vectors(base: message.pointee.msg_iov, count: Int(message.pointee.msg_iovlen))
    let result = end.receive(descriptor, vectors, flags: Int(flags))
    if result >= 0 {
        unsafe message.pointee.msg_namelen = 0
        unsafe message.pointee.msg_controllen = 0
        let received = Int(flags) & (Flag.outOfBand | closesOnExec)
        // No room for the urgent byte.
        let lost = result == 0 && received & Flag.outOfBand != 0 ? Flag.truncate : 0
        unsafe message.pointee.msg_flags = Int32(truncatingIfNeeded: received | lost)
    }
    return result
}

@c(sendmsg) public func hookSendMessage(
    _ descriptor: Int32, _ message: UnsafeMutablePointer<msghdr>?, _ flags: Int32
) -> Int {
    guard let end = endpoint(descriptor), let message = unsafe message else {
        if let message = unsafe message, unsafe passesEndpoints(message) {
            return unsafe finish(sendWithStreams(descriptor, message, flags))
        }
        if Int(flags) & Flag.fastOpen != 0, let message = unsafe message {
            return unsafe sendOpening(descriptor, message.pointee.msg_name, message.pointee.msg_namelen) {
                unsafe real.sendmsg!(descriptor, message, flags)
            }
        }
        return unsafe real.sendmsg!(descriptor, message, flags)
    }
    return unsafe finish(sendMessage(end, descriptor, message, flags))
}

private func sendMessage(
    _ end: Endpoint, _ descriptor: Int32, _ message: UnsafeMutablePointer<msghdr>, _ flags: Int32
) -> Int {
    let refusal = unsafe refusal(of: message)
    if refusal != 0 { return refusal }
    let vectors = unsafe Vectors(base: message.pointee.msg_iov, count: Int(message.pointee.msg_iovlen))
    return send(end, descriptor, vectors, flags)
}

@c(recvmmsg) public func hookRecvMessages(
    _ descriptor: Int32, _ messages: UnsafeMutableRawPointer?, _ count: UInt32, _ flags: Int32,
    _ timeout: UnsafeMutablePointer<timespec>?
) -> Int32 {
    guard let end = endpoint(descriptor), let messages = unsafe messages else {
        return unsafe receiveForeignMessages(descriptor, messages, count, flags, timeout)
    }
    if unsafe isInvalid(timeout) { return Int32(finish(-Int(EINVAL))) }
    let limit = unsafe deadline(of: timeout)
    if Int(flags) & Flag.errorQueue == 0 {
        // A pending error comes before what can be read still.
        end.noticeEnd(descriptor)
        let error = end.takeError()
        if error != 0 { return Int32(finish(-Int(error))) }
    }
    for index in 0..<Int(count) {
        let message = unsafe messages.advanced(by: index * messageStride)
        let waits = index == 0 || Int(flags) & Flag.waitForOne == 0
        let now = Int(flags) & ~Flag.waitForOne | (waits ? 0 : Flag.dontWait)
        let result = unsafe receiveMessage(
            end, descriptor, message.assumingMemoryBound(to: msghdr.self), Int32(truncatingIfNeeded: now))
        if result < 0 && index == 0 { return Int32(finish(result)) }
        if result < 0 {
            // A reset is the next call's to report.
            if result == -Int(ECONNRESET) { end.clear(EndFlag.resetReported) }
            return Int32(index)
        }
        unsafe message.storeBytes(of: UInt32(result), toByteOffset: MemoryLayout<msghdr>.stride, as: UInt32.self)
        if Int(flags) & Flag.outOfBand != 0 { return Int32(index + 1) }
        // The time is looked at between messages alone, and what is left of it given back.
        if let timeout = unsafe timeout, unsafe leaveTime(until: limit, timeout) == 0 { return Int32(index + 1) }
    }
    return Int32(count)
}

/// struct mmsghdr: a msghdr and a count.
private let messageStride = unsafe MemoryLayout<msghdr>.stride + 8

private func receiveForeignMessages(
    _ descriptor: Int32, _ messages: UnsafeMutableRawPointer?, _ count: UInt32, _ flags: Int32,
    _ timeout: UnsafeMutablePointer<timespec>?
) -> Int32 {
    let result = unsafe real.recvmmsg!(descriptor, messages, count, flags, timeout)
    guard let messages = unsafe messages, result > 0 else { return result }
    for index in 0..<Int(result) {
        let message = unsafe messages.advanced(by: index * messageStride)
        unsafe takePassedEnds(message.assumingMemoryBound(to: msghdr.self))
    }
    return result
}

private func sendForeignMessages(
    _ descriptor: Int32, _ messages: UnsafeMutableRawPointer?, _ count: UInt32, _ flags: Int32
) -> Int32 {
    let most = Int(min(count, 1024))
    // One at a time then.
    var passes = Int(flags) & Flag.fastOpen != 0
    if let messages = unsafe messages {
        for index in 0..<most where !passes {
            let message = unsafe messages.advanced(by: index * messageStride)
            passes = unsafe passesEndpoints(message.assumingMemoryBound(to: msghdr.self))
        }
    }
    guard passes, let messages = unsafe messages else {
        return unsafe real.sendmmsg!(descriptor, messages, count, flags, nil)
    }
    for index in 0..<most {
        let message = unsafe messages.advanced(by: index * messageStride)
        let sent = unsafe hookSendMessage(descriptor, message.assumingMemoryBound(to: msghdr.self), flags)
        if sent < 0 { return index > 0 ? Int32(index) : -1 }
        unsafe message.storeBytes(of: UInt32(sent), toByteOffset: MemoryLayout<msghdr>.stride, as: UInt32.self)
    }
    return Int32(most)
}

@c(sendmmsg) public func hookSendMessages(
    _ descriptor: Int32, _ messages: UnsafeMutableRawPointer?, _ count: UInt32, _ flags: Int32
) -> Int32 {
    guard let end = endpoint(descriptor), let messages = unsafe messages else {
        return unsafe sendForeignMessages(descriptor, messages, count, flags)
    }
    for index in 0..<Int(count) {
        let message = unsafe messages.advanced(by: index * messageStride)
        let result = unsafe sendMessage(end, descriptor, message.assumingMemoryBound(to: msghdr.self), flags)
        if result < 0 { return index > 0 ? Int32(index) : Int32(finish(result)) }
        unsafe message.storeBytes(of: UInt32(result), toByteOffset: MemoryLayout<msghdr>.stride, as: UInt32.self)
    }
    return Int32(count)
}

/// Stores what is left until then, and returns it in nanoseconds.
private func leaveTime(until deadline: UInt64, _ time: UnsafeMutablePointer<timespec>) -> UInt64 {
    let now = sk_now()
    let left = deadline > now ? deadline - now : 0
    unsafe time.pointee = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
    return left
}

@c(preadv2) public func hookPReadV2(
    _ descriptor: Int32, _ vectors: UnsafePointer<iovec>?, _ count: Int32, _ offset: Int, _ flags: Int32
) -> Int {
    if offset == -1 && endpoint(descriptor) != nil { return unsafe hookReadV(descriptor, vectors, count) }
    return unsafe finish(sk_preadv2(descriptor, vectors, count, offset, flags))
}

@c(pwritev2) public func hookPWriteV2(
    _ descriptor: Int32, _ vectors: UnsafePointer<iovec>?, _ count: Int32, _ offset: Int, _ flags: Int32
) -> Int {
    if offset == -1 && endpoint(descriptor) != nil { return unsafe hookWriteV(descriptor, vectors, count) }
    return unsafe finish(sk_pwritev2(descriptor, vectors, count, offset, flags))
}

@c(preadv64v2) public func hookPReadV64V2(
    _ descriptor: Int32, _ vectors: UnsafePointer<iovec>?, _ count: Int32, _ offset: Int, _ flags: Int32
) -> Int { unsafe hookPReadV2(descriptor, vectors, count, offset, flags) }

@c(pwritev64v2) public func hookPWriteV64V2(
    _ descriptor: Int32, _ vectors: UnsafePointer<iovec>?, _ count: Int32, _ offset: Int, _ flags: Int32
) -> Int { unsafe hookPWriteV2(descriptor, vectors, count, offset, flags) }

// MARK: Fortified twins: the check of the buffer's size, then the plain call.

@c(__read_chk) public func hookReadChecked(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ size: Int
) -> Int {
    precondition(count <= size)
    return unsafe hookRead(descriptor, buffer, count)
}

@c(__recv_chk) public func hookRecvChecked(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ size: Int, _ flags: Int32
) -> Int {
    precondition(count <= size)
    return unsafe hookRecv(descriptor, buffer, count, flags)
}

@c(__recvfrom_chk) public func hookRecvFromChecked(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ size: Int, _ flags: Int32,
    _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutableRawPointer?
) -> Int {
    precondition(count <= size)
    return unsafe hookRecvFrom(descriptor, buffer, count, flags, address, length)
}

// MARK: sendfile

/// Reads a piece of the file and sends it, as often as it takes.
@c(sendfile) public func hookSendFile(
    _ target: Int32, _ source: Int32, _ offset: UnsafeMutablePointer<Int>?, _ count: Int
) -> Int {
    guard let end = endpoint(target) else {
        if endpoint(source) != nil { return finish(-Int(EINVAL)) }
        return unsafe real.sendfile!(target, source, offset, count)
    }
    return unsafe finish(sendFile(end, target, source, offset, count))
}

@c(sendfile64) public func hookSendFile64(
    _ target: Int32, _ source: Int32, _ offset: UnsafeMutablePointer<Int>?, _ count: Int
) -> Int { unsafe hookSendFile(target, source, offset, count) }

private func sendFile(
    _ end: Endpoint, _ target: Int32, _ source: Int32, _ offset: UnsafeMutablePointer<Int>?, _ count: Int
) -> Int {
    let piece = 128 << 10
    guard let buffer = unsafe malloc(piece) else { return -Int(ENOMEM) }
    defer { unsafe free(buffer) }
    var position = unsafe offset?.pointee ?? Int(sk_lseek(source, 0, 1))
    if position < 0 {
        // A pipe or socket has no place to send from.
        return unsafe offset != nil || position == -Int(ESPIPE) ? -Int(EINVAL) : position
    }
    let start = position
    var result = 0
    while position - start < count {
        // Read where the file stands and move on only by what was sent, so that nothing is skipped.
        let got = unsafe sk_pread(source, buffer, min(piece, count - (position - start)), position)
        if got <= 0 {
            result = got
            break
        }
        result = unsafe withVector(buffer, got) { end.send(target, $0, flags: 0) }
        if result <= 0 { break }
        position += result
        if result < got { break }
    }
    if let offset = unsafe offset { unsafe offset.pointee = position } else { _ = sk_lseek(source, position, 0) }
    return position > start ? position - start : min(result, 0)
}
