import CSystem

// Sleeps for which poll stands in, of calls that restart by themselves after a handler with SA_RESTART: poll never does. Which
// handler has interrupted it the kernel doesn't say.

/// What a program's handlers want of a sleep that one of them has interrupted.
enum Interruption {
    /// All of them want the call to go on, or all want it to end; or there are none.
    case restarts, ends
    /// Both kinds are there: bits of the signals that end it.
    case mixed(ending: UInt64)

    /// As the handlers are now.
    init() {
        let handlers = Handlers.now
        if handlers.restarting == 0 || handlers.ending == 0 {
            self = handlers.restarting == 0 ? .ends : .restarts
            return
        }
        let blocked = sk_blocked_signals()
        let ending = handlers.ending & ~blocked
        self = handlers.restarting & ~blocked == 0 ? .ends : ending == 0 ? .restarts : .mixed(ending: ending)
    }
}

/// Sleeps in poll until one of the items has news: 0 to look again, or minus the errno that ends the call. There is room for one
/// item more behind `count`.
func pollRestarting(_ items: UnsafeMutablePointer<pollfd>, _ count: Int) -> Int {
    // Another thread would get a signal that this one holds back.
    guard sk_is_single_threaded() != 0, case .mixed(let ending) = Interruption(), unsafe !process.isConfined,
        let signals = takeSignals(ending)
    else {
        let result = unsafe Sleep(.poll(items, count, nil, nil), armed: .nothing).run()
        if result == -Int(EINTR), case .restarts = Interruption() { return 0 }
        return min(result, 0)
    }
    // The signals that end the call are held back for the time of the sleep, and end it by being there; they are delivered as it
    // returns. So whatever else interrupts it is one after which it goes on.
    unsafe items[count] = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
    var held = sk_blocked_signals() | ending
    let result = unsafe withUnsafePointer(to: &held) { held in
        unsafe Sleep(.poll(items, count + 1, nil, UnsafeRawPointer(held)), armed: .descriptor(signals)).run()
    }
    let isEnding = unsafe result > 0 && items[count].revents != 0
    _ = sk_close(signals)
    sk_leave_descriptor(0)
    if isEnding { return -Int(EINTR) }
    return result == -Int(EINTR) ? 0 : min(result, 0)
}

/// A descriptor that is readable while one of these is pending.
private func takeSignals(_ mask: UInt64) -> Int32? {
    if sk_left_descriptor() > 0 { _ = sk_close(sk_left_descriptor()) }
    var mask = mask
    let made = unsafe sk_signalfd(&mask, Flag.closeOnExec | Flag.nonBlock)
    guard made >= 0, case let hidden = hide(Int32(made)), hidden >= 0 else { return nil }
    // A handler may leave the sleep by longjmp.
    sk_leave_descriptor(hidden)
    return hidden
}
