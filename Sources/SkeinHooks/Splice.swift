import CSystem

// splice between a connection and a pipe. Pages can't be moved into a ring: bytes are copied, by way of a
// pipe of our own. The kernel's splice between that one and the program's decides how much goes through and
// who waits, with the answers that it would have given.

@c(splice) public func hookSplice(
    _ source: Int32, _ sourceOffset: UnsafeMutablePointer<Int>?, _ target: Int32,
    _ targetOffset: UnsafeMutablePointer<Int>?, _ count: Int, _ flags: UInt32
) -> Int {
    let from = endpoint(source)
    let to = endpoint(target)
    if from == nil && to == nil {
        return unsafe real.splice!(source, sourceOffset, target, targetOffset, count, flags)
    }
    if count == 0 { return 0 }
    let pipe = from == nil ? source : target
    let pipeHasOffset = unsafe from == nil ? sourceOffset != nil : targetOffset != nil
    guard sk_fcntl(pipe, 1032 /* F_GETPIPE_SZ */, 0) > 0 else { return finish(-Int(EINVAL)) }
    if pipeHasOffset { return finish(-Int(ESPIPE)) }
    guard unsafe sourceOffset == nil && targetOffset == nil else { return finish(-Int(EINVAL)) }
    guard let transit = Transit() else { return finish(-Int(ENOMEM)) }
    defer { transit.end() }
    let amount = min(count, Transit.size)
    return finish(
        from == nil
            ? transit.send(pipe, to!, target, amount, flags) : transit.receive(from!, source, pipe, amount, flags))
}

/// A pipe and a buffer, for one call.
@safe
private struct Transit {
    private var ends: (reading: Int32, writing: Int32) = (-1, -1)
    private let buffer: UnsafeMutableRawPointer

    /// What a new pipe holds.
    static let size = 64 << 10

    init?() {
        guard let buffer = unsafe malloc(Transit.size) else { return nil }
        unsafe self.buffer = unsafe buffer
        let made = unsafe withUnsafeMutableBytes(of: &ends) {
            unsafe sk_pipe2($0.baseAddress!.assumingMemoryBound(to: Int32.self), Int32(Flag.closeOnExec))
        }
        if made < 0 {
            unsafe free(buffer)
            return nil
        }
    }

    func end() {
        _ = sk_close(ends.reading)
        _ = sk_close(ends.writing)
        unsafe free(buffer)
    }

    /// From the program's pipe into the ring: only what there is room for leaves the pipe, so that nothing is lost.
    func send(_ pipe: Int32, _ end: Endpoint, _ descriptor: Int32, _ count: Int, _ flags: UInt32) -> Int {
        let room = end.waitForRoom(descriptor, blocks: !end.has(EndFlag.nonBlocking))
        if room < 0 { return room }
        let moved = sk_splice(pipe, nil, ends.writing, nil, min(count, room), flags)
        if moved <= 0 { return moved }
        let got = unsafe sk_read(ends.reading, buffer, moved)
        if got <= 0 { return got }
        var sent = 0
        while sent < got {
            let result = unsafe withVector(buffer.advanced(by: sent), got - sent) { end.send(descriptor, $0, flags: 0) }
            if result > 0 { sent += result }
            if result > 0 || result == -Int(EINTR) { continue }
            // Another thread has taken the room. What has left the pipe must not be lost.
            guard result == -Int(EAGAIN) else { return sent > 0 ? sent : result }
            _ = end.waitForRoom(descriptor, blocks: true)
        }
        return sent
    }

    /// From the ring into the program's pipe: it leaves the ring when it is in the pipe.
    func receive(_ end: Endpoint, _ descriptor: Int32, _ pipe: Int32, _ count: Int, _ flags: UInt32) -> Int {
        var position: UInt64 = 0
        var got = 0
        repeat {
            end.skipUrgent()
            position = end.block.load64(Block.head)
            got = unsafe withVector(buffer, count) { end.receive(descriptor, $0, flags: Flag.peek) }
        } while got > 0 && (end.block.load64(Block.head) != position || end.standsAtUrgent())
        if got <= 0 { return got }
        guard unsafe sk_write(ends.writing, buffer, got) == got else { return -Int(ENOMEM) }
        let moved = sk_splice(ends.reading, nil, pipe, nil, got, flags)
        if moved <= 0 { return moved }
        if end.skip(moved, from: position) { end.received(moved, descriptor) }
        return moved
    }
}
