import ArgumentParser
import Glibc

/// `skein relay`: the translating header as a process of its own, for programs that a preload can't reach.
struct Relay: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "relay",
        abstract: "Pass TCP connections on to an STP address, or STP connections to a TCP address.",
        discussion: """
            For programs that 'skein run' can't reach: static ones, Go, musl. 'skein relay 8080 :9090' lets any TCP \
            client of port 8080 talk to an STP server, or a TCP server under 'skein run', on port 9090. 'skein \
            relay stp::9090 tcp:8080' lets STP clients of port 9090 talk to any TCP server on port 8080. The line \
            "ready ADDRESS to ADDRESS" on standard output says that clients may come. SIGTERM ends it.
            """)

    @Argument(
        help: "Where clients come to; TCP without the prefix 'tcp:' or 'stp:'.",
        transform: { try RelayEnd.Written($0, byDefault: "tcp") })
    var from: RelayEnd.Written

    @Argument(
        help: "Where they are connected to; STP without a prefix.",
        transform: { try RelayEnd.Written($0, byDefault: "stp") })
    var to: RelayEnd.Written

    @Flag(help: "Say on standard error when a connection begins and ends.")
    var verbose = false

    func validate() throws {
        guard from.isTCP != to.isTCP else {
            throw ValidationError("one side is TCP and the other STP; say which by 'tcp:' or 'stp:' before the address")
        }
        guard to.port != 0 else {
            throw ValidationError("nobody can be reached at port 0; give the port that the server listens on")
        }
    }

    func run() throws {
        StandardStreams.reserve()
        let source = try RelayEnd(from)
        let target = try RelayEnd(to)
        raiseDescriptorLimit()
        for signal in [SIGTERM, SIGINT] { _ = Glibc.signal(signal, endAtOnce) }
        var loop = try RelayLoop(from: source, to: target, isVerbose: verbose)
        announceReady("\(loop.address) to \(target.text)")
        loop.run()
    }

    /// Each connection takes two descriptors and more; the usual limit is there for programs that use select.
    private func raiseDescriptorLimit() {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

/// Nothing is to be tidied up: the kernel tells every peer.
private func endAtOnce(_ signal: Int32) { _exit(0) }
