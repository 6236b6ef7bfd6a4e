import CSystem

// The end of what a process may still tell: its exit, and the calls by which a program takes system calls
// from itself. Both get the totals written first.

@section(".fini_array") @used
let writeTotalsAtExit: @convention(c) () -> Void = { writeTotalsBeforeEnd() }

private func writeTotalsBeforeEnd() {
    // In the child of a fork that nobody saw, the table is still its parent's.
    guard unsafe process.table.owner != 0, unsafe !process.isConfined, unsafe sk_getpid() == process.table.owner else {
        return
    }
    unsafe process.table.countOpenConnections()
    unsafe process.table.settleNow(ending: true)
}

private typealias Exit = @convention(c) (Int32) -> Void
private typealias Control = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32

// The functions behind ours, found at the start: `_exit` may be called in a signal handler, in the middle
// of whatever the loader does.
nonisolated(unsafe) private var nextExit: Exit? = nil
nonisolated(unsafe) private var nextControl: Control? = nil

@section(".init_array") @used
let findNext: @convention(c) () -> Void = {
    if let next = unsafe sk_next_symbol("_exit") { unsafe nextExit = unsafe unsafeBitCast(next, to: Exit.self) }
    if let next = unsafe sk_next_symbol("prctl") { unsafe nextControl = unsafe unsafeBitCast(next, to: Control.self) }
}

@c(_exit) public func hookExit(_ status: Int32) -> Never {
    writeTotalsBeforeEnd()
    unsafe nextExit?(status)
    sk_exit(status)
    fatalError()
}

@c(_Exit) public func hookExitNow(_ status: Int32) -> Never { hookExit(status) }

/// Behind a seccomp filter each system call that the filter's author did not think of may be the last:
/// none of ours for the totals any more.
@c(prctl) public func hookProcessControl(
    _ option: Int32, _ second: UInt, _ third: UInt, _ fourth: UInt, _ fifth: UInt
) -> Int32 {
    if option == 22 /* PR_SET_SECCOMP */ || option == 38 /* PR_SET_NO_NEW_PRIVS */ {
        unsafe process.table.settleNow(ending: true)
        unsafe process.isConfined = true
    }
    if let next = unsafe nextControl { return next(option, second, third, fourth, fifth) }
    let words = (
        Int(bitPattern: second), Int(bitPattern: third), Int(bitPattern: fourth), Int(bitPattern: fifth)
    )
    return Int32(finish(sk_syscall6(Int(SYS_prctl), Int(option), words.0, words.1, words.2, words.3, 0)))
}
