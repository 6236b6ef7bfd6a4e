import CSystem
import Synchronization

// A connection that leaves for where the header may not be: a program that is executed, a stranger that
// is sent the descriptor. A small process keeps the end and pumps between the rings and an ordinary Unix
// stream socket, which the other side gets in the descriptor's place. The peer notices nothing.

/// A relay that has been started and may still be called back.
struct Relay {
    /// The stream that stands in for the end, close-on-exec.
    var stream: Int32
    /// Closed to let the relay begin; a byte written before means 'never mind'.
    var gate: Int32
}

/// The name of a relay's stream: the addresses that the program would see on the connection itself.
func relayName(_ end: Endpoint) -> Text {
    var text = Text("skein/")
    text.append(decimal: UInt64(Layout.version))
    text.append("/relay/")
    func part(_ value: UInt64) {
        text.append(hex: value)
        text.append(byte: 47)
    }
    part(UInt64(end.block.load32(Block.family)))
    part(UInt64(end.block.load32(Block.localPort)))
    part(UInt64(end.block.load32(Block.peerPort)))
    part(end.block.load64(Block.localAddress))
    part(end.block.load64(Block.localAddress + 8))
    part(end.block.load64(Block.peerAddress))
    part(end.block.load64(Block.peerAddress + 8))
    text.append(hex: sk_now())
    return text
}

/// Starts a relay for the end behind `descriptor`; nil when the system refuses. It waits at its gate.
func startRelay(_ end: Endpoint, _ descriptor: Int32) -> Relay? {
    guard let pair = namedPair(relayName(end)) else { return nil }
    var gate: (Int32, Int32) = (-1, -1)
    let made = unsafe withUnsafeMutableBytes(of: &gate) {
        unsafe sk_socketpair(AF_UNIX, 1 | Flag.closeOnExec, 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
    }
    guard made == 0 else {
        _ = sk_close(pair.ours)
        _ = sk_close(pair.theirs)
        return nil
    }
    let generation = lockProcess()
    end.block.add32(Block.holders, 1)
    end.set(EndFlag.forked)
    // Neither child is the program's: no SIGCHLD, nothing for its wait to find.
    let first = sk_clone_silently()
    if first == 0 {
        if sk_clone_silently() == 0 {
            resetProcessLock()
            runRelay(end, descriptor, pair.ours, gate.0)
        }
        sk_exit(0)
    }
    unlockProcess(generation)
    _ = sk_close(pair.ours)
    _ = sk_close(gate.0)
    if first < 0 {
        end.block.subtract32(Block.holders, 1)
        _ = sk_close(pair.theirs)
        _ = sk_close(gate.1)
        return nil
    }
    _ = sk_wait4(Int32(first), nil, 0x4000_0000 /* __WALL */)
    return Relay(stream: pair.theirs, gate: gate.1)
}

/// A connected pair of stream sockets of which ours has a name, for the other's getpeername.
private func namedPair(_ text: Text) -> (ours: Int32, theirs: Int32)? {
    let name = HiddenName(text)
    let listener = sk_socket(AF_UNIX, 1 | Flag.closeOnExec, 0)
    guard listener >= 0 else { return nil }
    defer { _ = sk_close(Int32(listener)) }
    var address = name.address
    guard unsafe sk_bind(Int32(listener), &address, name.length) == 0, sk_listen(Int32(listener), 1) == 0 else {
        return nil
    }
    let theirs = sk_socket(AF_UNIX, 1 | Flag.closeOnExec, 0)
    guard theirs >= 0 else { return nil }
    guard unsafe sk_connect(Int32(theirs), &address, name.length) == 0 else {
        _ = sk_close(Int32(theirs))
        return nil
    }
    let ours = sk_accept4(Int32(listener), nil, nil, Flag.closeOnExec)
    guard ours >= 0 else {
        _ = sk_close(Int32(theirs))
        return nil
    }
    return (Int32(ours), Int32(theirs))
}

extension Relay {
    func begin() { _ = sk_close(gate) }
    /// The exec failed: the relay ends and has touched nothing.
    func callBack() {
        _ = unsafe sk_write(gate, "x", 1)
        _ = sk_close(gate)
        _ = sk_close(stream)
    }
}

// MARK: - The relay's own process

private func runRelay(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32, _ gate: Int32) -> Never {
    // High numbers of its own, then nothing else open: it must keep nobody's files or pipes alive.
    let kept = hiddenCopy(of: descriptor)
    let side = hiddenCopy(of: stream)
    let wait = hiddenCopy(of: gate)
    guard kept >= 0, side >= 0, wait >= 0 else { sk_exit(1); fatalError() }
    var numbers = (kept, side, wait)
    if numbers.0 > numbers.1 { swap(&numbers.0, &numbers.1) }
    if numbers.1 > numbers.2 { swap(&numbers.1, &numbers.2) }
    if numbers.0 > numbers.1 { swap(&numbers.0, &numbers.1) }
    var from: UInt32 = 0
    for number in [UInt32(numbers.0), UInt32(numbers.1), UInt32(numbers.2)] {
        if number > from { _ = sk_close_range(from, number - 1, 0) }
        from = number + 1
    }
    _ = sk_close_range(from, UInt32.max, 0)
    unsafe sk_become_background("skein-relay")
    unsafe descriptorTable = nil
    identifyProcess()
    unsafe process.spinPolicy = .off
    installEndpoint(end, kept)
    unsafe end.local.pointee.registrations = 0
    unsafe end.local.pointee.record = withProcessLock { unsafe process.table.claim() }
    end.describe(kept)
    var byte: UInt8 = 0
    if unsafe sk_read(wait, &byte, 1) == 0 {
        _ = sk_close(wait)
        unsafe pump(Endpoint(end.local), kept, side)
    }
    _ = hookClose(kept)
    sk_exit(0)
    fatalError()
}

/// One direction's bytes between read and write.
@safe
private struct Pipeline {
    var buffer: UnsafeMutableRawPointer
    var start = 0
    var count = 0
    var ended = false
    var closed = false
    static let size = 256 << 10
}

private func pump(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32) {
    // Not from malloc: the process was cloned from one whose other threads may hold its locks.
    guard let first = unsafe allocate(Pipeline.size), let second = unsafe allocate(Pipeline.size) else { return }
    var incoming = unsafe Pipeline(buffer: first)
    var outgoing = unsafe Pipeline(buffer: second)
    while !(incoming.closed && outgoing.closed) {
        var items = (
            pollfd(fd: descriptor, events: 0, revents: 0), pollfd(fd: stream, events: 0, revents: 0)
        )
        if incoming.count == 0 && !incoming.ended { items.0.events |= Int16(POLLIN) }
        if outgoing.count > 0 { items.0.events |= Int16(POLLOUT) }
        if incoming.count > 0 { items.1.events |= Int16(POLLOUT) }
        if outgoing.count == 0 && !outgoing.ended { items.1.events |= Int16(POLLIN) }
        let result = unsafe withUnsafeMutableBytes(of: &items) {
            unsafe pollAll($0.baseAddress!.assumingMemoryBound(to: pollfd.self), 2, deadline: UInt64.max, mask: nil)
        }
        if result < 0 && result != -Int(EINTR) { return }
        // Nobody holds the stream any more and all that it sent is through: the connection closes.
        if items.1.revents & Int16(POLLHUP | POLLERR) != 0 && outgoing.ended && outgoing.count == 0 { return }
        if !fromRings(end, descriptor, stream, &incoming) || !toRings(end, descriptor, stream, &outgoing) { return }
    }
}

private func fromRings(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32, _ line: inout Pipeline) -> Bool {
    if line.count == 0 && !line.ended {
        var vector = unsafe iovec(iov_base: line.buffer, iov_len: Pipeline.size)
        let got = unsafe withUnsafePointer(to: &vector) {
            unsafe end.receive(descriptor, Vectors(base: $0, count: 1), flags: Flag.dontWait)
        }
        if got > 0 {
            line.start = 0
            line.count = got
        } else if got == 0 {
            line.ended = true
        } else if got != -Int(EAGAIN) {
            return false
        }
    }
    if line.count > 0 {
        let wrote = unsafe sk_sendto(
            stream, line.buffer.advanced(by: line.start), line.count,
            Int32(truncatingIfNeeded: Flag.dontWait | Flag.noSignal), nil, 0)
        if wrote > 0 {
            line.start += wrote
            line.count -= wrote
        } else if wrote != -Int(EAGAIN) {
            return false
        }
    }
    if line.ended && line.count == 0 && !line.closed {
        _ = sk_shutdown(stream, 1)
        line.closed = true
    }
    return true
}

private func toRings(_ end: Endpoint, _ descriptor: Int32, _ stream: Int32, _ line: inout Pipeline) -> Bool {
    if line.count == 0 && !line.ended {
        let got = unsafe sk_recvfrom(stream, line.buffer, Pipeline.size, Int32(truncatingIfNeeded: Flag.dontWait))
        if got > 0 {
            line.start = 0
            line.count = got
        } else if got == 0 {
            line.ended = true
        } else if got != -Int(EAGAIN) && got != -Int(EINTR) {
            return false
        }
    }
    if line.count > 0 {
        var vector = unsafe iovec(iov_base: line.buffer.advanced(by: line.start), iov_len: line.count)
        let wrote = unsafe withUnsafePointer(to: &vector) {
            unsafe end.send(descriptor, Vectors(base: $0, count: 1), flags: Flag.dontWait | Flag.noSignal)
        }
        if wrote > 0 {
            line.start += wrote
            line.count -= wrote
        } else if wrote != -Int(EAGAIN) {
            return false
        }
    }
    if line.ended && line.count == 0 && !line.closed {
        _ = end.shutDown(descriptor, how: 1)
        line.closed = true
    }
    return true
}

// MARK: - exec

/// What an exec has put in place of endpoints, to be undone if it fails.
private struct Departures {
    static let maximum = 64
    var count = 0
    var replaced = InlineArray<64, Int32>(repeating: -1)
    var originals = InlineArray<64, Int32>(repeating: -1)
    var words = InlineArray<64, UInt>(repeating: 0)
    var relays = InlineArray<64, Int32>(repeating: -1)
    var gates = InlineArray<64, Int32>(repeating: -1)
}

/// Runs an exec with every endpoint that the new image inherits replaced by a relay's stream.
func withRelays(_ exec: () -> Int32) -> Int32 {
    guard let table = unsafe descriptorTable else { return exec() }
    var left = Departures()
    for number in 0..<programEnd {
        let word = unsafe table[number].load(ordering: .relaxed)
        guard word & 7 == Kind.endpoint.rawValue, left.count < Departures.maximum,
            sk_fcntl(Int32(number), F_GETFD, 0) & 1 == 0
        else { continue }
        leave(Int32(number), word, &left)
    }
    let result = exec()
    let error = sk_errno()
    for index in 0..<left.count { comeBack(index, &left) }
    sk_set_errno(error)
    return result
}

private func leave(_ number: Int32, _ word: UInt, _ left: inout Departures) {
    var stream: Int32 = -1
    var gate: Int32 = -1
    // Several numbers of one end share one relay.
    for earlier in 0..<left.count where left.words[earlier] == word { stream = left.relays[earlier] }
    if stream < 0 {
        let end = unsafe Endpoint(UnsafeMutablePointer<LocalState>(bitPattern: word & ~7)!)
        guard let relay = startRelay(end, number) else { return }
        stream = hide(relay.stream)
        gate = hide(relay.gate)
    }
    let original = hiddenCopy(of: number)
    guard stream >= 0, original >= 0, sk_dup3(stream, number, 0) >= 0 else { return }
    clearEntry(number)
    left.replaced[left.count] = number
    left.originals[left.count] = original
    left.words[left.count] = word
    left.relays[left.count] = stream
    left.gates[left.count] = gate
    left.count += 1
}

private func comeBack(_ index: Int, _ left: inout Departures) {
    _ = sk_dup3(left.originals[index], left.replaced[index], 0)
    _ = sk_close(left.originals[index])
    unsafe setEntry(left.replaced[index], UnsafeRawPointer(bitPattern: left.words[index] & ~7), .endpoint)
    if left.gates[index] >= 0 { Relay(stream: left.relays[index], gate: left.gates[index]).callBack() }
}

public typealias Strings = UnsafePointer<UnsafeMutablePointer<CChar>?>
typealias ExecuteCall = @convention(c) (UnsafePointer<CChar>?, Strings?) -> Int32
typealias ExecuteEnvironmentCall = @convention(c) (UnsafePointer<CChar>?, Strings?, Strings?) -> Int32
typealias ExecuteDescriptorCall = @convention(c) (Int32, Strings?, Strings?) -> Int32

@c(execve) public func hookExecute(
    _ path: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execve"), to: ExecuteEnvironmentCall.self)
    return withRelays { unsafe call(path, arguments, environment) }
}

@c(execv) public func hookExecuteV(_ path: UnsafePointer<CChar>?, _ arguments: Strings?) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execv"), to: ExecuteCall.self)
    return withRelays { unsafe call(path, arguments) }
}

@c(execvp) public func hookExecuteVP(_ file: UnsafePointer<CChar>?, _ arguments: Strings?) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execvp"), to: ExecuteCall.self)
    return withRelays { unsafe call(file, arguments) }
}

@c(execvpe) public func hookExecuteVPE(
    _ file: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execvpe"), to: ExecuteEnvironmentCall.self)
    return withRelays { unsafe call(file, arguments, environment) }
}

@c(fexecve) public func hookExecuteDescriptor(_ file: Int32, _ arguments: Strings?, _ environment: Strings?) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("fexecve"), to: ExecuteDescriptorCall.self)
    return withRelays { unsafe call(file, arguments, environment) }
}

// MARK: - Passing descriptors

/// Sends a message whose control part has descriptors of ours: a stranger gets a relay's stream.
func sendWithRelays(_ descriptor: Int32, _ message: UnsafeMutablePointer<msghdr>, _ flags: Int32) -> Int {
    let length = unsafe Int(message.pointee.msg_controllen)
    guard let copy = unsafe malloc(max(length, 1)) else { return -Int(ENOMEM) }
    defer { unsafe free(copy) }
    unsafe memcpy(copy, message.pointee.msg_control, length)
    var changed = unsafe message.pointee
    unsafe changed.msg_control = unsafe copy
    var streams = InlineArray<32, Int32>(repeating: -1)
    var count = 0
    var control = unsafe sk_cmsg_first(&changed)
    while let header = unsafe control {
        let numbers = unsafe sk_cmsg_descriptors(header)
        for index in unsafe 0..<Int(sk_cmsg_descriptor_count(header)) {
            guard let end = unsafe endpoint(numbers![index]), count < 32,
                let relay = unsafe startRelay(end, numbers![index])
            else { continue }
            relay.begin()
            unsafe numbers![index] = relay.stream
            streams[count] = relay.stream
            count += 1
        }
        unsafe control = unsafe sk_cmsg_next(&changed, header)
    }
    let result = unsafe sk_sendmsg(descriptor, &changed, flags)
    for index in 0..<count { _ = sk_close(streams[index]) }
    return result
}

/// Whether a message passes a descriptor that is an endpoint.
func passesEndpoints(_ message: UnsafeMutablePointer<msghdr>) -> Bool {
    guard unsafe descriptorTable != nil, unsafe message.pointee.msg_controllen > 0 else { return false }
    var control = unsafe sk_cmsg_first(message)
    while let header = unsafe control {
        let numbers = unsafe sk_cmsg_descriptors(header)
        for index in unsafe 0..<Int(sk_cmsg_descriptor_count(header)) where unsafe endpoint(numbers![index]) != nil {
            return true
        }
        unsafe control = unsafe sk_cmsg_next(message, header)
    }
    return false
}
