import Glibc

/// What the user is told when a signal ends the command: the ones that mean 'stop', unless they are ignored.
enum Interruption {
    /// From now on a signal says `advice` and then ends the process as it would have. To be called while there is
    /// one thread, since later ones inherit what is blocked.
    static func say(_ advice: @escaping @Sendable () -> String) {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for signal in [SIGINT, SIGTERM, SIGHUP] where !isIgnored(signal) { unsafe sigaddset(&signals, signal) }
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        let awaited = signals
        _ = Thread {
            var awaited = awaited
            var signal: Int32 = 0
            while unsafe sigwait(&awaited, &signal) != 0 {}
            // Behind the line of a progress, or what the terminal shows for the key.
            if isatty(STDERR_FILENO) != 0 { try? writeAll([UInt8(ascii: "\n")].span, to: STDERR_FILENO) }
            complain(advice())
            unsafe pthread_sigmask(SIG_UNBLOCK, &awaited, nil)
            // To ourselves, so that whoever waits for us sees how we ended.
            _ = raise(signal)
        }
    }

    private static func isIgnored(_ signal: Int32) -> Bool {
        var action = sigaction()
        _ = unsafe sigaction(signal, nil, &action)
        return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
    }
}
