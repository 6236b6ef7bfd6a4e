import CSystem

// Which signals end a call and which let it go on is looked up before accept sleeps, a system call a signal. So the answer is kept
// until a handler changes.

/// The signals for which there are handlers, a bit each.
struct Handlers {
    /// Those after which a call is to go on (SA_RESTART), and those that end it.
    var restarting: UInt64 = 0
    var ending: UInt64 = 0
    /// The number of changes before which they were looked up.
    private var changes: UInt64 = 0

    /// As they are now.
    static var now: Handlers {
        // Another thread might be changing what is kept.
        if sk_is_single_threaded() == 0 { return Handlers(at: 0) }
        let current = unsafe handlerChanges
        if unsafe kept.changes != current { unsafe kept = Handlers(at: current) }
        return unsafe kept
    }

    private init(at changes: UInt64) {
        unsafe sk_handled_signals(&restarting, &ending)
        self.changes = changes
    }

    /// Nothing is known yet.
    fileprivate init() {}
}

/// Counted after each change, so that what was looked up while one happened isn't kept.
nonisolated(unsafe) private var handlerChanges: UInt64 = 1
nonisolated(unsafe) private var kept = Handlers()

private func changed<Result>(_ result: Result) -> Result {
    unsafe handlerChanges &+= 1
    return result
}

@c(sigaction) public func hookSigaction(
    _ number: Int32, _ new: UnsafeRawPointer?, _ old: UnsafeMutableRawPointer?
) -> Int32 {
    unsafe changed(real.sigaction!(number, new, old))
}

@c(__sigaction) public func hookSigactionReserved(
    _ number: Int32, _ new: UnsafeRawPointer?, _ old: UnsafeMutableRawPointer?
) -> Int32 {
    unsafe changed(real.sigaction!(number, new, old))
}

@c(signal) public func hookSignal(_ number: Int32, _ handler: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    unsafe changed(real.signal!(number, handler))
}

@c(bsd_signal) public func hookSignalBSD(
    _ number: Int32, _ handler: UnsafeMutableRawPointer?
) -> UnsafeMutableRawPointer? {
    unsafe changed(real.signal!(number, handler))
}

@c(ssignal) public func hookSignalSoftware(
    _ number: Int32, _ handler: UnsafeMutableRawPointer?
) -> UnsafeMutableRawPointer? {
    unsafe changed(real.signal!(number, handler))
}

@c(sysv_signal) public func hookSignalOnce(
    _ number: Int32, _ handler: UnsafeMutableRawPointer?
) -> UnsafeMutableRawPointer? {
    unsafe changed(real.signalOnce!(number, handler))
}

@c(__sysv_signal) public func hookSignalOnceReserved(
    _ number: Int32, _ handler: UnsafeMutableRawPointer?
) -> UnsafeMutableRawPointer? {
    unsafe changed(real.signalOnce!(number, handler))
}

@c(sigset) public func hookSignalSet(
    _ number: Int32, _ handler: UnsafeMutableRawPointer?
) -> UnsafeMutableRawPointer? {
    unsafe changed(real.signalSet!(number, handler))
}

@c(siginterrupt) public func hookSignalInterrupt(_ number: Int32, _ interrupts: Int32) -> Int32 {
    changed(real.signalInterrupt!(number, interrupts))
}
