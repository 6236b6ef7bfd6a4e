import CSystem
import Glibc
import SkeinExport

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

    /// Where this program lies; if it was installed anew meanwhile, the new one lies there.
    private static let executable: String = {
        var path = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &path, path.count)
        return String(decoding: path.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }()

    /// To be called before the program could be replaced.
    static func rememberExecutable() { _ = executable }

    /// Starts this program anew with the same words, to take the place of this process, whose management channel is there. Returns the new
    /// one's number.
    static func spawnSuccessor(_ channel: String) throws(ExportFault) -> Int32 {
        var words = CommandLine.arguments
        if !words.contains("--replace") { words.append("--replace") }
        // It may have come from elsewhere: the default, a file, a service manager.
        if !words.contains(where: { $0.hasPrefix("--manage") }) { words += ["--manage", channel] }
        var attributes = posix_spawnattr_t()
        var none = sigset_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        // The signals that this process receives by a descriptor are blocked in it.
        unsafe sigemptyset(&none)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var pointers = unsafe words.map { unsafe strdup($0) } + [nil]
        defer { unsafe pointers.forEach { pointer in unsafe free(pointer) } }
        var process = pid_t()
        let result = unsafe posix_spawn(&process, executable, nil, &attributes, &pointers, Glibc.environ)
        guard result == 0 else {
            throw ExportFault("\(executable) can't be started: \(unsafe String(cString: strerror(result)))")
        }
        return process
    }

    static var processors: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }
}
