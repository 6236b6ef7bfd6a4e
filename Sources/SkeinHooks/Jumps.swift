import CSystem

// A signal handler may leave a call of ours by longjmp. The call's locks are given up then: the thread might never come
// back to them, and others would wait for ever. What the call had made is lost, but nothing half made is ever used.

typealias Jump = @convention(c) (UnsafeMutableRawPointer?, Int32) -> Void

@c(longjmp) public func hookJump(_ place: UnsafeMutableRawPointer?, _ value: Int32) {
    giveUpLocks()
    unsafe real.jump!(place, value)
}

@c(_longjmp) public func hookPlainJump(_ place: UnsafeMutableRawPointer?, _ value: Int32) {
    giveUpLocks()
    unsafe real.jump!(place, value)
}

@c(siglongjmp) public func hookSignalJump(_ place: UnsafeMutableRawPointer?, _ value: Int32) {
    giveUpLocks()
    unsafe real.jump!(place, value)
}

@c(__longjmp_chk) public func hookJumpChecked(_ place: UnsafeMutableRawPointer?, _ value: Int32) {
    giveUpLocks()
    unsafe real.jumpChecked!(place, value)
}

/// Those that this thread holds: it is in the middle of a call of ours, and will not go on with it.
private func giveUpLocks() {
    if unsafe descriptorTable == nil { return }
    abandonArrival()
    sk_forget_acceptance()
    Lock.abandonHeld()
    sk_forget_writes()
}
