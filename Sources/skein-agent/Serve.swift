import ArgumentParser
import CSystem
import Glibc
import Logging
import SkeinAgent

/// `skein agent`: this host's place in a group.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent",
        abstract: "Keep this host's place on a medium, and carry connections to other hosts.",
        discussion: """
            It stays in the foreground. The line "ready GROUP/HOST NUMBER" on standard output says that this host is a member. SIGTERM and \
            SIGINT end it, and its place is given back. What happens to this host and to others is told on standard error.
            """)

    @Option(
        help: ArgumentHelp("What this host is called in its group. Default: the machine's name.", valueName: "name"))
    var host: String?
    @Option(help: ArgumentHelp("The file or block device that 'skein medium create' has made.", valueName: "path"))
    var medium: String
    @Option(help: ArgumentHelp("Where the group's key lies.", valueName: "file")) var key: String?

    @Flag(help: "Read and write the medium by threads, even where the kernel has io_uring.") var threads = false
    @Flag(help: "Tell more.") var verbose = false

    func run() throws {
        let signals = receiveSignals()
        raiseDescriptorLimit()
        var logger = Logger(label: "skein agent") { _ in LineLog() }
        logger.logLevel = verbose ? .debug : .info
        let agent = try Agent(
            host: host ?? machineName(), medium: medium, key: key, usesThreads: threads, signals: signals, log: logger)
        try agent.run { announce($0) }
    }

    /// A descriptor that has the signals which end the agent. To be called while there is one thread.
    private func receiveSignals() -> Int32 {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGTERM)
        unsafe sigaddset(&signals, SIGINT)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        _ = signal(SIGPIPE, SIG_IGN)
        // A write beyond a limit of the size of files is a failure of the medium.
        _ = signal(SIGXFSZ, SIG_IGN)
        // The kernel's set has 8 bytes, the first ones of libc's.
        return Int32(unsafe sk_signalfd(&signals, O_CLOEXEC))
    }

    /// Each program's connection takes a descriptor; the usual limit is there for programs that use select.
    private func raiseDescriptorLimit() {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private func machineName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        _ = unsafe gethostname(&name, name.count - 1)
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// The log: one line an event, on standard error.
struct LineLog: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { complain("\(event.message)") }
}
