import CSystem

// fork, and what both processes must know of the ends that they share from then on.

/// The handlers serve every way to fork that the C library has, daemon and forkpty among them. Registered at
/// set-up: then ours takes its locks after a program's own have theirs, which its threads hold around calls of ours.
func watchForks() {
    sk_at_fork({ beforeFork() }, { afterForkInParent() }, { afterForkInChild() })
    unsafe sk_watch_filters { unsafe confine(SystemCallFilter(program: $0)) }
    sk_watch_clones(
        { beforeFork() }, { afterQuietFork(inParentOf: $0) },
        {
            sk_register_robust_list()
            afterForkInChild()
        })
    sk_watch_vforks { mayLendMemory() ? 1 : 0 }
}

/// The process lock's generation while a fork holds it; nil where there was nothing to guard.
nonisolated(unsafe) private var forkGeneration: UInt32? = nil
nonisolated(unsafe) private var numbersGeneration: UInt32 = 0

/// Both hold every end from here on; counted before there are two, so that neither can be late.
private func beforeFork() {
    unsafe forkGeneration = nil
    if unsafe descriptorTable == nil { return }
    unsafe forkGeneration = lockProcess()
    unsafe numbersGeneration = lockNumbers()
    lockSets()
    shareEnds(1)
    shareUnconnected()
}

/// What one of the two connects later, the other must find connected too: over TCP it does.
private func shareUnconnected() {
    for number in 0..<programEnd {
        if let socket = unsafe listedSocket(number) { unsafe socket.pointee.shared = true }
    }
}

private func afterForkInParent() {
    guard let generation = unsafe forkGeneration else { return }
    unlockSets()
    unsafe unlockNumbers(numbersGeneration)
    unlockProcess(generation)
}

private func afterForkInChild() {
    sk_return_memory()
    sk_forget_acceptance()
    resetProcessLock()
    identifyProcess()
    forgetDeparted()
    forgetArrivals()
    leaveRelayToParent()
    unsafe forEachSet { unsafe $0.pointee.forgetArms() }
    // What its parent armed stays the parent's.
    eachEnd { end in
        unsafe end.local.pointee.signals = false
        end.forgetSleepers()
    }
    shareRecords()
}

@c(fork) public func hookFork() -> Int32 {
    let child = real.fork!()
    if unsafe child < 0 && forkGeneration != nil { shareEnds(UInt32.max) }
    return child
}

/// Runs no handlers: what ours do is done here.
@c(_Fork) public func hookForkQuietly() -> Int32 {
    beforeFork()
    let child = unsafe unsafeBitCast(sk_next_symbol("_Fork"), to: RealFunctions.Fork.self)()
    if child == 0 {
        afterForkInChild()
    } else {
        afterQuietFork(inParentOf: child)
    }
    return child
}

private func afterQuietFork(inParentOf child: Int32) {
    if unsafe child < 0 && forkGeneration != nil { shareEnds(UInt32.max) }
    afterForkInParent()
}

/// Whether a child of vfork, which runs in this process's memory, has nothing of ours that its calls could edit there. Else
/// an ordinary child edits its own.
private func mayLendMemory() -> Bool {
    for number in 0..<Int32(programEnd) where listed(number) != 0 && kind(listed(number)) != .hidden { return false }
    return true
}

private func shareEnds(_ one: UInt32) {
    eachEnd { end in
        end.block.add32(Block.holders, one)
        if one == 1 { end.set(EndFlag.forked) }
    }
}
