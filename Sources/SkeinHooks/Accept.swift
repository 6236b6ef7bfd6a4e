import CSystem

// A listener has two queues: the kernel's own of TCP, and that of its hidden Unix listener, through which clients
// come that share memory with us.

@c(accept) public func hookAccept(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 { unsafe hookAccept4(descriptor, address, length, 0) }

@c(accept4) public func hookAccept4(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int32 {
    if unsafe descriptorTable == nil || entry(descriptor) == 0 { adoptIfListening(descriptor) }
    guard let socket = unsafe streamSocket(descriptor) else {
        return unsafe real.accept4!(descriptor, address, length, flags)
    }
    if unsafe socket.pointee.hidden < 0 {
        return unsafe Int32(finish(acceptOverTCP(descriptor, socket, address, length, flags)))
    }
    let refusal = unsafe address == nil ? 0 : refusal(of: address, length)
    if refusal != 0 { return Int32(finish(refusal)) }
    return unsafe Int32(finish(accept(descriptor, socket, address, length, flags)))
}

private func adoptIfListening(_ descriptor: Int32) {
    if unsafe rules.enabled && isListening(descriptor) { adoptListener(descriptor, 128) }
}

private func accept(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ address: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    guard flags & ~(Flag.nonBlock | Flag.closeOnExec) == 0 else { return -Int(EINVAL) }
    let start = unsafe socket.pointee.receiveTimeout == 0 ? 0 : sk_now()
    var patience: UInt64 = 0
    while true {
        if unsafe socket.pointee.hiddenIsShut && !socket.pointee.isSTP && socket.pointee.hidden >= 0 {
            // Who had connected before is in the queue still.
            let late = unsafe acceptFromMemory(socket, address, length, flags)
            if late >= 0 || late == -Int(EMFILE) { return late }
            if late == helloIsLate || late == -Int(ECONNABORTED) { continue }
            unsafe stopTranslating(socket)
        }
        if unsafe socket.pointee.hidden < 0 {
            // A wait may have been woken by nothing but the end of the hidden one.
            if unsafe socket.pointee.promised == sk_thread_id() && !isReadable(descriptor)
                && listenerFlags(descriptor) & Int(Flag.nonBlock) == 0
            {
                unsafe socket.pointee.promised = 0
                return -Int(ECONNABORTED)
            }
            return unsafe acceptOverTCP(descriptor, socket, address, length, flags)
        }
        var isLate = false
        for attempt in 0..<2 {
            let memoryFirst = unsafe (attempt == 0) == socket.pointee.turn
            let result =
                unsafe memoryFirst
                ? acceptFromMemory(socket, address, length, flags)
                : socket.pointee.isSTP ? -Int(EAGAIN) : acceptFromKernel(descriptor, address, length, flags)
            if result == helloIsLate { isLate = true }
            if result == -Int(EAGAIN) || result == helloIsLate { continue }
            if unsafe socket.pointee.promised == sk_thread_id() { unsafe socket.pointee.promised = 0 }
            // The queue that had one goes on being asked first, but not for ever.
            unsafe socket.pointee.streak = unsafe attempt == 0 ? socket.pointee.streak &+ 1 : 0
            if unsafe attempt == 1 || socket.pointee.streak & 7 == 7 { unsafe socket.pointee.turn.toggle() }
            return result
        }
        let flags = listenerFlags(descriptor)
        if flags < 0 { return flags }
        if flags & Int(Flag.nonBlock) != 0 { return -Int(EAGAIN) }
        if unsafe socket.pointee.promised == sk_thread_id() {
            // A client's hello comes a moment after its connection.
            let now = sk_now()
            if patience == 0 { patience = now &+ 100_000_000 }
            if isLate && now < patience { continue }
            // A wait took somebody for a client who was none. A program that waits for others too must not
            // be held up here.
            unsafe socket.pointee.promised = 0
            return -Int(ECONNABORTED)
        }
        let error = unsafe waitForConnection(descriptor, socket, start)
        if error != 0 { return -error }
        // Another thread may have closed it meanwhile.
        guard unsafe streamSocket(descriptor) == socket else { return -Int(EBADF) }
    }
}

/// From a listener that has only TCP, for the reason that its record tells.
private func acceptOverTCP(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ address: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    let accepted = unsafe real.accept4!(descriptor, address, length, flags)
    if accepted < 0 { return -Int(sk_errno()) }
    if unsafe socket.pointee.record != nil { recordCarried(accepted, unsafe socket.pointee.reason) }
    return Int(accepted)
}

private func acceptFromKernel(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    // Whoever leaves the listener to TCP makes it block, and the hidden queue may have somebody still.
    guard isReadable(descriptor) else { return -Int(EAGAIN) }
    let accepted = unsafe sk_accept4(descriptor, address, length, flags)
    if accepted >= 0 && mustRefuse(Int32(accepted)) {
        _ = sk_close(Int32(accepted))
        return -Int(EAGAIN)
    }
    if accepted >= 0 { recordCarried(Int32(accepted), .clientOverTCP) }
    return accepted
}

/// Whether a plain client came by TCP where no rule sent it there, and --strict leaves it no other way.
private func mustRefuse(_ accepted: Int32) -> Bool {
    guard unsafe rules.isStrict else { return false }
    guard let dialled = boundAddress(accepted) else { return true }
    return unsafe rules.allows(dialled)
}

/// In place of an errno: somebody is in the queue who has not said hello yet.
private let helloIsLate = -4096

private func acceptFromMemory(
    _ socket: UnsafeMutablePointer<StreamSocket>, _ address: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    let hidden = unsafe socket.pointee.hidden
    // Of a thread that is in a signal handler.
    let outer = sk_acceptance()
    defer { sk_set_acceptance(outer) }
    defer { if unsafe process.spares.wantCare { withProcessLock { unsafe process.spares.careFor() } } }
    var late = 0
    for _ in 0..<strangersAtOnce {
        var greeting = Greeting.refused
        let accepted = arrive {
            // A client that has been accepted must be served, or be put back.
            let isReady = withProcessLock { unsafe process.spares.keep(lending: true) && process.blocks.prepare() }
            guard isReady else { return -Int(EMFILE) }
            let accepted = sk_accept4(hidden, nil, nil, flags)
            if accepted >= 0 { sk_begin_acceptance(Int32(accepted), hidden) }
            return accepted
        } look: {
            greeting = unsafe acceptEnd($0, hidden: hidden, bound: socket.pointee.bound4or6)
        }
        guard accepted >= 0 else {
            if accepted == -Int(EAGAIN) && late > 0 { return helloIsLate }
            return accepted == -Int(ECONNABORTED) ? -Int(EAGAIN) : accepted
        }
        let descriptor = Int32(accepted)
        if case .again(let since) = greeting { greeting = unsafe awaitHello(descriptor, socket, since) }
        if case .endpoint(let end) = greeting {
            return unsafe finishAccept(end, descriptor, socket, address, length, flags)
        }
        if case .again = greeting { late += 1 }
        sk_forget_acceptance()
        _ = sk_close(descriptor)
        clearArrival(descriptor)
        // Which addresses are this host's can't be asked here.
        if case .refused = greeting, unsafe !socket.pointee.isSTP && !isAtHome(hidden) {
            unsafe beginLeaving(socket, for: .otherNetwork)
        }
        if case .full = greeting { return -Int(EMFILE) }
        // A TCP listener goes on, with TCP alone.
        if case .noMemory = greeting, unsafe socket.pointee.isSTP { return -Int(ENOMEM) }
        // It has been asked twice.
        if late == 2 { return helloIsLate }
    }
    return -Int(ECONNABORTED)
}

/// A client has connected and not said hello yet: it was interrupted in between. It holds nobody up for more than a
/// moment, and belongs to nobody: if its hello doesn't come now, it goes back into the common queue. Who is silent for
/// a second is refused, which an honest client sees before it has sent its hello, and turns to TCP.
private func awaitHello(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ since: UInt32
) -> Greeting {
    let now = UInt32(truncatingIfNeeded: sk_now() / 1_000_000) | 1
    let missed = since == 0 ? now : since
    let age = Int32(bitPattern: now &- missed)
    let hidden = unsafe socket.pointee.hidden
    func hello(within nanoseconds: Int) -> Greeting {
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        var patience = timespec(tv_sec: 0, tv_nsec: nanoseconds)
        _ = unsafe sk_ppoll(&item, 1, &patience, nil)
        return unsafe acceptEnd(descriptor, hidden: hidden, bound: socket.pointee.bound4or6)
    }
    let greeting = hello(within: age < 2 ? 50_000 : 1_000_000)
    guard case .again = greeting else { return greeting }
    if age < 0 || age > 1000 { return .refused }
    if putBack(descriptor, to: hidden, since: missed) { return greeting }
    // The queue is full, or the listener is being left to TCP.
    let last = hello(within: 100_000_000)
    if case .again = last { return .refused }
    return last
}

/// How many that say no hello, or a wrong one, an accept turns away before its program has a word again: others
/// may connect without end, and ECONNABORTED makes programs ask anew.
private let strangersAtOnce = 64

/// Whether somebody is in the kernel's queue; yes where it can't be asked.
private func isReadable(_ descriptor: Int32) -> Bool {
    var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    var now = timespec(tv_sec: 0, tv_nsec: 0)
    return unsafe sk_ppoll(&item, 1, &now, nil) != 0
}

/// Whether the hidden listener of a TCP listener has been shut, in this process or in another that holds it.
func noticeShutHidden(_ socket: UnsafeMutablePointer<StreamSocket>) -> Bool {
    if unsafe socket.pointee.hiddenIsShut { return true }
    var item = unsafe pollfd(fd: socket.pointee.hidden, events: 0, revents: 0)
    var now = timespec(tv_sec: 0, tv_nsec: 0)
    guard unsafe sk_ppoll(&item, 1, &now, nil) > 0, item.revents & Int16(POLLHUP) != 0 else { return false }
    unsafe socket.pointee.hiddenIsShut = true
    return true
}

/// Whether the kernel's listener still is one: shutdown ends that in every process that holds it.
func isListening(_ descriptor: Int32) -> Bool {
    var listening: Int32 = 0
    var length: UInt32 = 4
    return unsafe sk_getsockopt(descriptor, SOL_SOCKET, 30 /* SO_ACCEPTCONN */, &listening, &length) == 0
        && listening != 0
}

/// The listener is to be TCP's alone, in every process that holds it; who has connected already is still accepted.
func beginLeaving(_ socket: UnsafeMutablePointer<StreamSocket>, for reason: Reason) {
    unsafe socket.pointee.leavesFor = reason
    unsafe socket.pointee.hiddenIsShut = true
    _ = unsafe sk_shutdown(socket.pointee.hidden, 2)
}

/// The hidden listener is dead: the listener is TCP's alone. `reason` is one of this process's own, which resets who is left
/// in the queue; without one nobody is.
func stopTranslating(_ socket: UnsafeMutablePointer<StreamSocket>, _ reason: Reason? = nil) {
    unsafe socket.pointee.hiddenIsShut = false
    if unsafe socket.pointee.isSTP || socket.pointee.hidden < 0 { return }
    let hidden = unsafe socket.pointee.hidden
    unfollow(hidden: hidden)
    unsafe socket.pointee.hidden = -1
    if reason == nil { unsafe socket.pointee.formerHidden = hidden } else { closeHolder(hidden) }
    var visible: Int32 = -1
    for number in 0..<programEnd where unsafe listedSocket(number) == socket {
        visible = Int32(number)
        unsafe setEntry(visible, socket, .stream)
        giveBackListenerFlags(visible)
    }
    unsafe recordListener(visible, socket, socket.pointee.bound4or6, reason ?? socket.pointee.leavesFor)
}

private func finishAccept(
    _ end: Endpoint, _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>,
    _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?, _ flags: Int32
) -> Int {
    unsafe takeOptions(end, from: socket)
    if flags & Flag.nonBlock != 0 { end.set(EndFlag.nonBlocking) }
    // The last call but the bell: a handler that ends the process before leaves the client to others. Not after the entry,
    // which other threads may use at once: they would take the hello for bytes of a stranger's. So would the bell to a
    // client that is gone.
    sk_end_acceptance()
    forgetHello(descriptor)
    if unsafe socket.pointee.stp.settings & EndSetting.answersLater == 0 { end.announceAcceptance(descriptor) }
    installEndpoint(end, descriptor)
    if unsafe process.pools.isShort && !socket.pointee.isSTP {
        // The next one might be refused: clients that come from now on use TCP, whoever holds the listener.
        unsafe beginLeaving(socket, for: .noMemory)
    }
    unsafe end.peerAddress.store(address, length)
    return Int(descriptor)
}

/// This thread, in a signal handler, ends the process in the midst of its own accept. Over TCP that is a moment, here it would
/// be many calls: the client goes back into the common queue, for whoever else accepts from it.
func giveBackAcceptance() {
    let acceptance = sk_acceptance()
    guard acceptance.client >= 0, awaitsAcceptance(acceptance.client, ends: acceptance.ends != 0) else { return }
    _ = putBack(acceptance.client, to: acceptance.hidden, since: 0)
}

/// Sleeps until either queue may have a connection; 0, or the errno.
private func waitForConnection(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ start: UInt64
) -> Int {
    // One for `pollRestarting`.
    var items = InlineArray<3, pollfd>(repeating: pollfd(fd: -1, events: Int16(POLLIN), revents: 0))
    items[0].fd = descriptor
    items[1].fd = unsafe socket.pointee.hidden
    let result = unsafe withUnsafeMutableBytes(of: &items) { bytes in
        let items = unsafe bytes.baseAddress!.assumingMemoryBound(to: pollfd.self)
        // With a time limit it never restarts.
        return unsafe socket.pointee.receiveTimeout == 0
            ? pollRestarting(items, 2) : poll(items, until: start &+ socket.pointee.receiveTimeout)
    }
    if unsafe items[1].revents & Int16(POLLHUP) != 0 && !socket.pointee.isSTP {
        unsafe socket.pointee.hiddenIsShut = true
    }
    return result < 0 ? -result : 0
}

private func poll(_ items: UnsafeMutablePointer<pollfd>, until end: UInt64) -> Int {
    let now = sk_now()
    if now >= end { return -Int(EAGAIN) }
    var timeout = timespec(tv_sec: Int((end - now) / 1_000_000_000), tv_nsec: Int((end - now) % 1_000_000_000))
    return unsafe withUnsafePointer(to: &timeout) {
        unsafe Sleep(.poll(items, 2, $0, nil), armed: .nothing).run()
    }
}
