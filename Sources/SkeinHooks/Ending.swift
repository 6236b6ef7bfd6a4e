import CSystem

// The end of what a process may still tell: its exit. The totals are written first.

@section(".fini_array") @used
let writeTotalsAtExit: @convention(c) () -> Void = { writeTotalsBeforeEnd() }

private func writeTotalsBeforeEnd() {
    // In the child of a fork that nobody saw, the table is still its parent's.
    guard unsafe process.table.owner != 0, unsafe !process.isConfined, unsafe sk_getpid() == process.table.owner else {
        return
    }
    giveBackAcceptance()
    unsafe process.table.countOpenConnections()
    unsafe process.table.settleNow(ending: true)
    leaveEnds()
}

/// The kernel closes what is open, and those who hold the same ends are told that there is one less. With threads, one of them
/// may still use an end.
private func leaveEnds() {
    guard unsafe descriptorTable != nil, sk_is_single_threaded() != 0, unsafe !isLeft else { return }
    unsafe isLeft = true
    eachEnd { end in
        guard end.block.load32(Block.holders) > 1 else { return end.vacate() }
        // What of the program runs after this may use it too: its memory is never used again.
        end.set(EndFlag.forked)
        end.block.subtract32(Block.holders, 1)
    }
    giveBackDeparted()
}

nonisolated(unsafe) private var isLeft = false

private typealias Exit = @convention(c) (Int32) -> Void

// The function behind ours, found at the start: `_exit` may be called in a signal handler, in the middle
// of whatever the loader does.
nonisolated(unsafe) private var nextExit: Exit? = nil

@section(".init_array") @used
let findNext: @convention(c) () -> Void = {
    if let next = unsafe sk_next_symbol("_exit") { unsafe nextExit = unsafe unsafeBitCast(next, to: Exit.self) }
}

@c(_exit) public func hookExit(_ status: Int32) -> Never {
    writeTotalsBeforeEnd()
    unsafe nextExit?(status)
    sk_exit(status)
    fatalError()
}

@c(_Exit) public func hookExitNow(_ status: Int32) -> Never { hookExit(status) }
