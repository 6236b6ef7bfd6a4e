import CSystem

// What programs under Skein ask of relays. One that has a relay's stream asks for the end itself, and puts that in the
// stream's place; where anything is refused the stream stays, and works as for any other program. One that holds an end
// beside a relay asks it to catch up before it goes on there.

/// What a visitor says to a relay, with a stream of that: what it wants of the stream's end. To catch up, with the end
/// itself.
struct StreamRequest {
    enum Wish: UInt32 { case theEnd, getOption, setOption, catchUp }

    private static let magic: UInt32 = 0x5253_4b53  // "SKSR"
    private var magic = StreamRequest.magic
    private var version = Layout.version
    private var wanted: UInt32
    /// For the wishes that are about an option.
    var option = OptionValue()

    init(_ wish: Wish = .theEnd) { wanted = wish.rawValue }

    /// nil for what isn't understood.
    var wish: Wish? {
        magic == StreamRequest.magic && version == Layout.version && option.length <= OptionValue.room
            ? Wish(rawValue: wanted) : nil
    }
}

/// A socket option on its way to a relay or back.
struct OptionValue {
    static let room: UInt32 = 128
    var level: Int32 = 0
    var name: Int32 = 0
    /// 0, or minus the errno.
    var result: Int32 = 0
    var length: UInt32 = 0
    var bytes = InlineArray<16, UInt64>(repeating: 0)
}

/// How long a relay may take to answer, in seconds. It has no other work than this, so it is stopped or dying.
private let relayPatience = 1

/// After a message from elsewhere, or a look at one (MSG_PEEK), which gives descriptors too: each relay's stream that
/// came with it becomes the end that it stands for.
func takePassedEnds(_ message: UnsafeMutablePointer<msghdr>) {
    // Who filters its system calls expects none of these.
    guard unsafe rules.enabled && message.pointee.msg_controllen > 0 && !process.isConfined else { return }
    let savedErrno = sk_errno()
    var control = unsafe sk_cmsg_first(message)
    while let header = unsafe control {
        let numbers = unsafe sk_cmsg_descriptors(header)
        for index in unsafe 0..<Int(sk_cmsg_descriptor_count(header)) { unsafe takeEnd(numbers![index]) }
        unsafe control = unsafe sk_cmsg_next(message, header)
    }
    sk_set_errno(savedErrno)
}

/// Puts the end that a relay's stream stands for in the stream's place. False where the stream stays.
@discardableResult
func takeEnd(_ descriptor: Int32) -> Bool {
    guard let relayed = relayAddresses(descriptor), let asked = askRelay(relayed.relay, descriptor) else {
        return false
    }
    defer {
        _ = sk_close(asked.bell)
        _ = sk_close(asked.pool)
        _ = sk_close(asked.block)
    }
    guard let end = adoptEnd(asked.message, pool: asked.pool, block: asked.block) else { return false }
    let closeOnExec = sk_fcntl(descriptor, F_GETFD, 0) & 1
    // Counted while the relay still holds the end, which it does until the stream is closed everywhere.
    end.block.add32(Block.holders, 1)
    guard sk_dup3(asked.bell, descriptor, closeOnExec != 0 ? Flag.closeOnExec : 0) >= 0 else {
        end.release(connected: false)
        return false
    }
    installEndpoint(end, descriptor)
    return true
}

/// Asks for the end itself. The message and its descriptors, or nil where there is no answer, or none of use.
private func askRelay(
    _ relay: UInt32, _ stream: Int32
) -> (message: HandOver, bell: Int32, pool: Int32, block: Int32)? {
    visit(relay, stream, StreamRequest(), receiveAnswer)
}

/// Shows the stream to its relay, and says what for. nil where there is no answer.
private func visit<Answer>(
    _ relay: UInt32, _ stream: Int32, _ request: StreamRequest, _ receive: (Int32) -> Answer?
) -> Answer? {
    // Before anybody is asked: a stream of another user's may say anything in its name.
    guard let maker = peerCredentials(stream), isSameUser(maker.user, sk_geteuid()) else { return nil }
    let visitor = reach(relay, of: sk_geteuid())
    guard visitor >= 0 else { return nil }
    defer { _ = sk_close(visitor) }
    return ask(visitor, stream, request, receive)
}

/// A socket on which that user's relay can be asked, or minus the errno: ECONNREFUSED where there is none of that name.
private func reach(_ relay: UInt32, of user: UInt32) -> Int32 {
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec | Flag.nonBlock, 0)
    guard made >= 0 else { return Int32(made) }
    let visitor = Int32(made)
    var name = relayListenerName(relay)
    var result = unsafe sk_connect(visitor, &name.address, name.length)
    if result == 0 && !isOf(user, visitor) { result = -Int(EPERM) }
    if result == 0 { return visitor }
    _ = sk_close(visitor)
    return Int32(truncatingIfNeeded: result)
}

private func isOf(_ user: UInt32, _ visitor: Int32) -> Bool {
    guard let peer = peerCredentials(visitor) else { return false }
    return isSameUser(peer.user, user)
}

private func ask<Answer>(
    _ visitor: Int32, _ shown: Int32, _ request: StreamRequest, _ receive: (Int32) -> Answer?
) -> Answer? {
    var request = request
    var shown = shown
    let size = MemoryLayout<StreamRequest>.size
    let sent = unsafe sk_send_descriptors(
        visitor, &request, size, &shown, 1, Int32(truncatingIfNeeded: Flag.noSignal))
    return sent == size && waitForAnswer(visitor) ? receive(visitor) : nil
}

private func waitForAnswer(_ visitor: Int32) -> Bool {
    let deadline = sk_now() &+ UInt64(relayPatience) * 1_000_000_000
    while true {
        let now = sk_now()
        if now >= deadline { return false }
        var timeout = timespec(tv_sec: 0, tv_nsec: Int(min(deadline - now, 999_999_999)))
        var item = pollfd(fd: visitor, events: Int16(POLLIN), revents: 0)
        if unsafe sk_ppoll(&item, 1, &timeout, nil) > 0 { return true }
    }
}

private func receiveAnswer(_ visitor: Int32) -> (message: HandOver, bell: Int32, pool: Int32, block: Int32)? {
    var message = HandOver()
    var descriptors: (Int32, Int32, Int32) = (-1, -1, -1)
    var count: Int32 = 0
    let received = unsafe withUnsafeMutableBytes(of: &descriptors) {
        unsafe sk_receive_descriptors(
            visitor, &message, MemoryLayout<HandOver>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), 3,
            &count, Int32(truncatingIfNeeded: Flag.dontWait))
    }
    if received == MemoryLayout<HandOver>.size && count == 3 {
        return (message, descriptors.0, descriptors.1, descriptors.2)
    }
    if count > 0 { _ = sk_close(descriptors.0) }
    if count > 1 { _ = sk_close(descriptors.1) }
    if count > 2 { _ = sk_close(descriptors.2) }
    return nil
}

// MARK: Options of a stream's end

/// TCP's options of a relay's stream are those of its end, for all who hold it. 0 or minus the errno; nil where the
/// relay can't be asked.
func getRelayedOption(
    _ relay: UInt32, _ stream: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeMutableRawPointer,
    _ length: UnsafeMutablePointer<UInt32>
) -> Int? {
    var request = StreamRequest(.getOption)
    request.option.length = unsafe min(length.pointee, OptionValue.room)
    guard var answer = askOption(relay, stream, request, level, name) else { return nil }
    if answer.result < 0 { return Int(answer.result) }
    unsafe withUnsafeBytes(of: &answer.bytes) { unsafe _ = memcpy(value, $0.baseAddress!, Int(answer.length)) }
    unsafe length.pointee = answer.length
    return 0
}

/// As `getRelayedOption`.
func setRelayedOption(
    _ relay: UInt32, _ stream: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer, _ length: UInt32
) -> Int? {
    // Set before each read by some: not worth a question.
    if level == 6 && name == 12 /* TCP_QUICKACK */ { return 0 }
    var request = StreamRequest(.setOption)
    let size = min(length, OptionValue.room)
    request.option.length = size
    unsafe withUnsafeMutableBytes(of: &request.option.bytes) {
        unsafe _ = memcpy($0.baseAddress!, value, Int(size))
    }
    return askOption(relay, stream, request, level, name).map { Int($0.result) }
}

private func askOption(
    _ relay: UInt32, _ stream: Int32, _ request: StreamRequest, _ level: Int32, _ name: Int32
) -> OptionValue? {
    // Who filters its system calls expects none of these.
    if unsafe process.isConfined { return nil }
    var request = request
    (request.option.level, request.option.name) = (level, name)
    let room = request.option.length
    return visit(relay, stream, request) { visitor in
        var answer = OptionValue()
        let size = MemoryLayout<OptionValue>.size
        let received = unsafe sk_recvfrom(visitor, &answer, size, Int32(truncatingIfNeeded: Flag.dontWait))
        return received == size && answer.length <= room ? answer : nil
    }
}

/// In the relay: what the end behind that descriptor says.
func answerOption(_ wish: StreamRequest.Wish, _ asked: OptionValue, _ descriptor: Int32) -> OptionValue {
    var answer = asked
    let result = unsafe withUnsafeMutableBytes(of: &answer.bytes) { bytes in
        wish == .getOption
            ? unsafe hookGetOption(descriptor, asked.level, asked.name, bytes.baseAddress!, &answer.length)
            : unsafe hookSetOption(descriptor, asked.level, asked.name, bytes.baseAddress!, asked.length)
    }
    answer.result = result < 0 ? -sk_errno() : 0
    return answer
}

// MARK: Ends that a relay holds too

/// A relay that gave no answer: it is stopped, and not asked again.
nonisolated(unsafe) private var silentRelay: UInt32 = 0

extension Endpoint {
    /// Has each relay of this end catch up with those who use its streams, so that what they have written and read comes
    /// before what this process does next. False where the ring had no room for all of it.
    @inline(never) func letRelaysCatchUp(_ descriptor: Int32) -> Bool {
        guard block.load32(Block.relays) != 0, unsafe !isRelay && process.mayAskRelays else { return true }
        var isThrough = true
        for index in 0..<Block.relayNamesKept where !catchUp(relay(index), descriptor) { isThrough = false }
        return isThrough
    }

    /// The same before a look at how the end stands.
    @inline(__always) func letRelaysCatchUpIfAny(_ descriptor: Int32) {
        if has(EndFlag.passed) { _ = letRelaysCatchUp(descriptor) }
    }

    /// What started programs have written goes before whatever comes next. It is with the relay and the kernel where the peer
    /// doesn't read; after ten seconds of that it may come behind, or be lost.
    func letRelaysFinish(_ descriptor: Int32) {
        let limit = sk_now() &+ 10_000_000_000
        while !letRelaysCatchUp(descriptor) && !has(EndFlag.hungUp) && sk_now() < limit {
            _ = waitUntil(descriptor, reading: false, deadline: min(limit, sk_now() &+ 20_000_000))
        }
    }

    private func catchUp(_ relay: (name: UInt32, user: UInt32), _ descriptor: Int32) -> Bool {
        guard relay.name != 0, unsafe relay.name != silentRelay else { return true }
        let visitor = reach(relay.name, of: relay.user)
        if visitor == -ECONNREFUSED { forgetRelay(relay.name) }
        guard visitor >= 0 else { return true }
        defer { _ = sk_close(visitor) }
        let leftovers = ask(visitor, descriptor, StreamRequest(.catchUp)) { visitor -> UInt32? in
            var leftovers: UInt32 = 0
            let received = unsafe sk_recvfrom(visitor, &leftovers, 4, Int32(truncatingIfNeeded: Flag.dontWait))
            return received == 4 ? leftovers : nil
        }
        if leftovers == nil { unsafe silentRelay = relay.name }
        return leftovers ?? 0 == 0
    }
}
