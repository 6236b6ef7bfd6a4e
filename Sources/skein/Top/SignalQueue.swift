import CSystem
import Glibc

/// Signals read from a descriptor, at a time of our choosing.
struct SignalQueue: ~Copyable {
    let descriptor: Int32

    /// From now on these signals wait to be read. Those that are ignored stay so.
    init(_ signals: [Int32]) throws(SystemError) {
        var mask = sigset_t()
        unsafe sigemptyset(&mask)
        for signal in signals { unsafe sigaddset(&mask, signal) }
        unsafe pthread_sigmask(SIG_BLOCK, &mask, nil)
        let opened = unsafe sk_signalfd(&mask, O_NONBLOCK | O_CLOEXEC)
        if opened < 0 { throw SystemError(code: Int32(-opened)) }
        descriptor = Int32(opened)
    }

    deinit { _ = close(descriptor) }

    /// The one that came first; nil where none waits.
    func next() -> Int32? {
        // signalfd_siginfo, whose first word is the signal.
        var information = [UInt32](repeating: 0, count: 32)
        let count = unsafe information.withUnsafeMutableBytes { bytes in
            unsafe read(descriptor, bytes.baseAddress, bytes.count)
        }
        return count > 0 ? Int32(information[0]) : nil
    }

    /// Lets the signal do to this process what it does by itself. Returns where that ends nothing.
    static func obey(_ signal: Int32) {
        var mask = sigset_t()
        unsafe sigemptyset(&mask)
        unsafe sigaddset(&mask, signal)
        // To ourselves, so that whoever waits for us sees it.
        _ = raise(signal)
        unsafe pthread_sigmask(SIG_UNBLOCK, &mask, nil)
        unsafe pthread_sigmask(SIG_BLOCK, &mask, nil)
    }
}
