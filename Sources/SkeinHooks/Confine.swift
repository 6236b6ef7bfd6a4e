import CSystem

// A program that takes system calls from itself (seccomp). A filter whose author did not think of ours may end the
// program at the first of them, so it is asked beforehand: where it doesn't let through what connecting takes,
// new connections are TCP, and where it doesn't let through what a connection takes, we withdraw.

/// What open connections and waits on them call.
private let connectionCalls: InlineArray<7, Int32> = [
    SYS_sendto, SYS_recvfrom, SYS_ppoll, SYS_epoll_pwait, SYS_sched_yield, SYS_gettid, SYS_madvise,
]

/// What making one takes at either end, and what comes at its end; and three of which filters look at arguments.
private let setUpCalls: InlineArray<20, Int32> = [
    SYS_connect, SYS_bind, SYS_listen, SYS_accept4, SYS_getsockopt, SYS_getsockname, SYS_sendmsg, SYS_recvmsg,
    SYS_memfd_create, SYS_ftruncate, SYS_fallocate, SYS_fstat, SYS_fstatfs, SYS_fcntl, SYS_dup3, SYS_close,
    SYS_prlimit64, SYS_munmap, SYS_openat, SYS_epoll_ctl,
]
/// What handing an end to a relay takes.
private let relayCalls: InlineArray<10, Int32> = [
    SYS_socketpair, SYS_bind, SYS_getsockopt, SYS_setsockopt, SYS_shutdown, SYS_sendmsg, SYS_sendto, SYS_fcntl,
    SYS_dup3, SYS_close,
]
/// What starting one takes, and what it calls itself: it inherits the filter.
private let relayStartCalls: InlineArray<45, Int32> = [
    SYS_bind, SYS_listen, SYS_accept4, SYS_getsockopt, SYS_setsockopt, SYS_sendmsg, SYS_recvmsg, SYS_sendto,
    SYS_recvfrom, SYS_shutdown, SYS_ioctl, SYS_fcntl, SYS_fstat, SYS_fstatfs, SYS_dup3, SYS_close, SYS_close_range,
    SYS_clone, SYS_wait4, SYS_exit_group, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_setsid, SYS_chdir, SYS_prlimit64,
    SYS_munmap, SYS_madvise, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_getpid, SYS_gettid,
    SYS_geteuid, SYS_getrandom, SYS_kill, SYS_sched_yield, SYS_sched_getaffinity, SYS_openat, SYS_read, SYS_pread64,
    SYS_pwrite64, SYS_flock, SYS_memfd_create, SYS_fallocate,
]
private let relayStartWithArguments: InlineArray<5, SystemCallFilter.Call> = [
    .unixSocket(SYS_socket, 5), .unixSocket(SYS_socketpair, 5), .unixSocket(SYS_socketpair, 1), .sharedMemory,
    .init(SYS_prctl, 15 /* PR_SET_NAME */),
]
/// What asking one takes, once there is a socket for it.
private let relayQuestionCalls: InlineArray<6, Int32> = [
    SYS_connect, SYS_getsockopt, SYS_sendmsg, SYS_ppoll, SYS_recvfrom, SYS_close,
]
private let setUpWithArguments: InlineArray<3, SystemCallFilter.Call> = [
    .unixSocket(SYS_socket, 5), .init(SYS_socket, 16 /* AF_NETLINK */, UInt64(3 | Flag.closeOnExec), 4, 0),
    .sharedMemory,
]

extension SystemCallFilter.Call {
    fileprivate static func unixSocket(_ number: Int32, _ type: Int32) -> SystemCallFilter.Call {
        SystemCallFilter.Call(number, UInt64(AF_UNIX), UInt64(type | Flag.closeOnExec | Flag.nonBlock))
    }
    /// Read and written.
    fileprivate static var sharedMemory: SystemCallFilter.Call { SystemCallFilter.Call(SYS_mmap, 0, 4096, 3, 1) }
}

extension SystemCallFilter {
    /// Whether a relay can be started behind it, and do its work there.
    fileprivate var allowsRelays: Bool {
        guard allows(relayStartCalls) else { return false }
        for index in 0..<relayStartWithArguments.count where answer(relayStartWithArguments[index]) != .allows {
            return false
        }
        return true
    }

    /// Whether asking a relay is safe: a question that can't be put is left unasked.
    fileprivate var allowsRelayQuestions: Bool {
        isSafe(relayQuestionCalls) && answer(.unixSocket(SYS_socket, 5)) != .ends
    }

    /// Whether open connections work on behind it.
    fileprivate var allowsConnections: Bool { allows(connectionCalls) }

    private func allows<let count: Int>(_ calls: InlineArray<count, Int32>) -> Bool {
        for index in 0..<count where answer(Call(calls[index])) != .allows { return false }
        return true
    }

    /// None of the calls ends the program.
    fileprivate func isSafe<let count: Int>(_ calls: InlineArray<count, Int32>) -> Bool {
        for index in 0..<count where answer(Call(calls[index])) == .ends { return false }
        return true
    }

    /// Whether making a connection is safe: a call that fails is, and leads to TCP.
    fileprivate var allowsSetUp: Bool {
        guard isSafe(setUpCalls) else { return false }
        for index in 0..<setUpWithArguments.count where answer(setUpWithArguments[index]) == .ends { return false }
        return true
    }
}

/// Before the kernel gets the filter.
func confine(_ filter: SystemCallFilter) {
    unsafe process.table.settleNow(ending: true)
    unsafe process.isConfined = true
    guard unsafe descriptorTable != nil || rules.enabled else { return }
    sk_find_robust_list()
    if !filter.allowsRelayQuestions { unsafe process.mayAskRelays = false }
    if filter.answer(.init(SYS_prlimit64)) != .allows { unsafe process.fixedDescriptorLimit = descriptorLimit() }
    if !filter.allowsConnections {
        withdraw()
    } else if !filter.allowsRelays && filter.isSafe(relayCalls) && mayHaveConnections(behind: filter) {
        reserveRelay()
    }
    if !filter.allowsRelays { unsafe process.mayStartRelay = false }
    if !filter.isSafe(relayCalls) { unsafe process.mayRelay = false }
    if !filter.allowsSetUp {
        unsafe process.maySetUp = false
        leaveListeners()
    }
}

/// Whether there may be something to hand to a relay: now, or once it has been set up.
private func mayHaveConnections(behind filter: SystemCallFilter) -> Bool {
    if unsafe rules.enabled && process.maySetUp && filter.allowsSetUp { return true }
    return hasConnections()
}

/// Whether there are connections or listeners.
func hasConnections() -> Bool {
    for number in 0..<Int32(programEnd) {
        let kind = kind(entry(number))
        if kind == .endpoint || kind == .listener { return true }
    }
    return false
}

/// Connections go on through relays, whose streams are ordinary sockets.
func withdrawConnections() { withdrawConnections { _ in true } }

/// But for those that another thread waits for: poll is woken by what the number was as it began to wait alone, and would miss
/// what comes on the stream.
func withdrawIdleConnections() {
    withdrawConnections { $0.sleepersHere(.reading) == 0 && $0.sleepersHere(.writing) == 0 }
}

private func withdrawConnections(_ isMeant: (Endpoint) -> Bool) {
    for number in 0..<Int32(programEnd) {
        if let end = knownEndpoint(number), isMeant(end) { withdraw(number, end) }
    }
}

/// Everything is the kernel's from now on.
private func withdraw() {
    unsafe rules.enabled = false
    unsafe process.maySetUp = false
    leaveListeners()
    withdrawConnections()
    unsafe forEachSet { set in unsafe withLock(set) { $0.restoreNested() } }
    for number in 0..<programEnd where kind(listed(Int32(number))) != .endpoint { clearEntry(Int32(number)) }
}

/// Listeners have TCP alone from now on, in every process that holds them.
private func leaveListeners() {
    for number in 0..<Int32(programEnd) where kind(entry(number)) == .listener {
        guard let socket = unsafe streamSocket(number), unsafe socket.pointee.hidden >= 0 && !socket.pointee.isSTP
        else {
            continue
        }
        unsafe leaveToTCP(number, socket)
        unsafe stopTranslating(socket, .filtered)
    }
}

/// A relay's stream takes the end's place, under each of its numbers. Where there is no relay to be had, it stays.
private func withdraw(_ descriptor: Int32, _ end: Endpoint) {
    guard let stream = handOver(descriptor) else { return }
    for number in descriptor..<Int32(programEnd) where unsafe knownEndpoint(number)?.local == end.local {
        let registrations = registrationsOf(number)
        let closeOnExec = sk_fcntl(number, F_GETFD, 0) & 1 != 0
        _ = replace(number) { Int32(sk_dup3(stream, number, closeOnExec ? Flag.closeOnExec : 0)) }
        replay(registrations, number, end)
    }
    _ = sk_close(stream)
}

private typealias Control = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32

/// The function behind ours, found at the start.
nonisolated(unsafe) private var nextControl: Control? = nil

@section(".init_array") @used
let findControl: @convention(c) () -> Void = {
    if let next = unsafe sk_next_symbol("prctl") { unsafe nextControl = unsafe unsafeBitCast(next, to: Control.self) }
}

@c(prctl) public func hookProcessControl(
    _ option: Int32, _ second: UInt, _ third: UInt, _ fourth: UInt, _ fifth: UInt
) -> Int32 {
    if option == 22 /* PR_SET_SECCOMP */ {
        // Mode 1 is the strict one, mode 2 has a program.
        unsafe confine(SystemCallFilter(program: second == 2 ? UnsafeRawPointer(bitPattern: third) : nil))
    }
    if let next = unsafe nextControl { return next(option, second, third, fourth, fifth) }
    let words = (
        Int(bitPattern: second), Int(bitPattern: third), Int(bitPattern: fourth), Int(bitPattern: fifth)
    )
    return Int32(finish(sk_syscall6(Int(SYS_prctl), Int(option), words.0, words.1, words.2, words.3, 0)))
}
