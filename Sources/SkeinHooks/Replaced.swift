import CSystem

// The C library puts a terminal or /dev/null over 0, 1 and 2 by inner calls that no preload sees, and a program may
// do the like by instructions of its own. The numbers mean something else then than the table says.

/// Lets go of every connection and listener whose inherited number stands for something else by now. Called where a
/// program starts another one, which must get what the kernel has there.
func forgetReplaced() {
    for number in 0..<Int32(programEnd) { forgetReplaced(number) }
}

private func forgetReplaced(_ number: Int32) {
    let word = entry(number)
    guard isInherited(number) else { return }
    switch kind(word) {
    case .endpoint: if isSocket(number, AF_UNIX, AF_UNIX, type: 5) { return }
    case .listener:
        // An STP listener is a Unix socket.
        if unsafe streamSocket(number)?.pointee.isSTP ?? true || isSocket(number, AF_INET, AF_INET6, type: 1) { return }
    default: return
    }
    // Another thread may have closed it, and the number is its next one's.
    if entry(number) == word { letGo(number, word) }
}

private func isSocket(_ descriptor: Int32, _ family: Int32, _ otherFamily: Int32, type: Int32) -> Bool {
    func option(_ name: Int32) -> Int32? {
        var value: Int32 = 0
        var length: UInt32 = 4
        return unsafe sk_getsockopt(descriptor, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
    }
    guard option(3 /* SO_TYPE */) == type, let domain = option(39 /* SO_DOMAIN */) else { return false }
    return domain == family || domain == otherFamily
}

private func forgetReplacedStandard() {
    if unsafe descriptorTable == nil { return }
    for number: Int32 in 0...2 { forgetReplaced(number) }
}

@c(daemon) public func hookDaemon(_ keepsFolder: Int32, _ keepsStreams: Int32) -> Int32 {
    typealias Call = @convention(c) (Int32, Int32) -> Int32
    let result = unsafe unsafeBitCast(sk_next_symbol("daemon"), to: Call.self)(keepsFolder, keepsStreams)
    forgetReplacedStandard()
    return result
}

@c(login_tty) public func hookLoginTerminal(_ terminal: Int32) -> Int32 {
    typealias Call = @convention(c) (Int32) -> Int32
    let result = unsafe unsafeBitCast(sk_next_symbol("login_tty"), to: Call.self)(terminal)
    forgetReplacedStandard()
    return result
}

@c(forkpty) public func hookForkTerminal(
    _ terminal: UnsafeMutablePointer<Int32>?, _ name: UnsafeMutablePointer<CChar>?, _ settings: UnsafeRawPointer?,
    _ size: UnsafeRawPointer?
) -> Int32 {
    typealias Call =
        @convention(c) (
            UnsafeMutablePointer<Int32>?, UnsafeMutablePointer<CChar>?, UnsafeRawPointer?, UnsafeRawPointer?
        ) -> Int32
    let child = unsafe unsafeBitCast(sk_next_symbol("forkpty"), to: Call.self)(terminal, name, settings, size)
    if child == 0 { forgetReplacedStandard() }
    return child
}
