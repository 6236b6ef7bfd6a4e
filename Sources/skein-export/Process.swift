import CSystem
import Glibc

/// What the server asks of the system for itself.
enum Process {
    /// A descriptor that has the signals which end the server, and that which has it read its files anew. To be called while there is one thread.
    static func receiveSignals() -> Int32 {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGTERM)
        unsafe sigaddset(&signals, SIGINT)
        unsafe sigaddset(&signals, SIGHUP)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        _ = signal(SIGPIPE, SIG_IGN)
        // The kernel's set has 8 bytes, the first ones of libc's.
        return unsafe withUnsafePointer(to: &signals) { signals in
            Int32(sk_syscall6(Int(SYS_signalfd4), -1, Int(bitPattern: signals), 8, Int(O_CLOEXEC), 0, 0))
        }
    }

    /// Each connection takes a descriptor; the usual limit is there for programs that use select.
    static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    static var processors: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }
}
