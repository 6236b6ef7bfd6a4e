import ArgumentParser
import Glibc
import Logging
import SkeinDevice
import SkeinExport

/// `skein export DEVICE…`: serves local devices to NBD clients.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve devices; what 'skein export' does without another word.",
        usage: "skein export [<options>] <[name=]device> ...",
        discussion: """
            A DEVICE is the path of a file or a block device, memory:SIZE, or made of others: concat:A,B stripe:A,B \
            mirror:A,B overlay:A read-only:A volatile:A. Its name for clients is NAME, or the last part of its path; the first one is the default export too. Lines "ready URI" on standard output say where clients may \
            come. SIGTERM and SIGINT end it, after the requests that have come are answered.
            """)

    @Argument(help: ArgumentHelp("What to serve, and under which name.", valueName: "[name=]device"))
    var devices: [String] = []

    @Option(
        help: ArgumentHelp(
            "Where to listen: nbd://HOST:PORT, nbd+unix:///?socket=PATH or nbd+stp://:PORT. May be repeated. Default: the sockets that a service manager has passed (LISTEN_FDS), else nbd://127.0.0.1.",
            valueName: "uri"))
    var listen: [String] = []

    @Flag(help: "Serve for reading alone.")
    var readOnly = false

    @Option(help: ArgumentHelp("Make files that are missing, of this size.", valueName: "size"))
    var size: String?

    @OptionGroup(title: "TLS") var security: Security

    @Option(help: ArgumentHelp("Threads that serve. Default: one a processor.", valueName: "number"))
    var workers: Int?

    @Option(help: ArgumentHelp("Connections at once.", valueName: "number"))
    var maxConnections = Limits().connections

    @Option(help: ArgumentHelp("Seconds that a client has to negotiate.", valueName: "seconds"))
    var handshakeTimeout = Limits().handshakeSeconds

    @Option(help: ArgumentHelp("The socket for ls, add, remove, resize and stats.", valueName: "path"))
    var manage: String?

    @Option(
        help: ArgumentHelp(
            "Options in a file, one a line without its dashes; 'device' is what to serve. SIGHUP has rules and credentials read anew.",
            valueName: "file"))
    var config: String?

    @Flag(
        help:
            "Take the place of the server that runs on the management socket: its listeners, devices and clients go on here. Without one, start as ever."
    )
    var replace = false

    @Option(
        help: ArgumentHelp(
            "When replaced: seconds that clients by TLS are served to their end.", valueName: "seconds"))
    var drainTimeout = Limits().drainSeconds

    @Flag(help: "Say on standard error what happens.")
    var verbose = false

    mutating func validate() throws {
        guard !devices.isEmpty || config != nil else {
            throw ValidationError("name what to serve, as in 'skein export disk.img'")
        }
        guard workers.map({ (1...256).contains($0) }) ?? true else {
            throw ValidationError("there are 1 to 256 workers")
        }
        guard maxConnections > 0 else { throw ValidationError("there is at least one connection") }
        guard drainTimeout >= 0 else { throw ValidationError("time doesn't run backwards") }
        guard handshakeTimeout > 0 else { throw ValidationError("clients need at least a second to negotiate") }
    }

    func run() throws {
        let configuration = Configuration(Array(CommandLine.arguments.dropFirst()), path: config)
        do throws(ExportFault) {
            try configuration.read().run(configuration)
        } catch {
            complain(error.text)
            throw ExitCode(error.isAddress ? 2 : 1)
        }
    }

    private func run(_ configuration: Configuration) throws(ExportFault) {
        guard !devices.isEmpty else { throw ExportFault("\(config ?? "") has no line with a 'device'") }
        var logger = Logger(label: "skein export") { _ in LineLog() }
        logger.logLevel = verbose ? .debug : .warning
        let log = ServerLog(logger)
        let signals = Process.receiveSignals()
        Process.raiseDescriptorLimit()
        Process.rememberExecutable()
        try serve(configuration, log, until: signals)
    }

    private func serve(
        _ configuration: Configuration, _ log: ServerLog, until signals: Int32
    ) throws(ExportFault) {
        // The order of initialisation: devices, ways in, descriptors, connections.
        let local = LocalTransport(readOnly: readOnly)
        let catalogue = Catalogue()
        let (given, givenChannel) = try ServiceManager.sockets()
        // What can be wrong without the server whose place this one takes, is said before its clients wait.
        let offer = try security.offer(log)
        _ = try security.rules()
        let predecessor = try predecessor(log)
        for export in predecessor?.exports ?? [] where catalogue.add(export) {
            log.step("taken over: '\(export.name)'")
        }
        for text in devices { try export(text, local, catalogue, predecessor, log) }
        let admission = Admission(try rules(for: catalogue), offer)
        var transports = given + (predecessor?.givenListeners() ?? [])
        for text in listen.isEmpty && transports.isEmpty ? ["nbd://127.0.0.1"] : listen {
            let address = try NBDAddress(text)
            if let inherited = predecessor?.listener(for: address) {
                transports.append(inherited)
            } else {
                transports.append(try RemoteTransport(address))
            }
            log.step("remote transport: \(transports.last?.uri ?? "")")
        }
        let manager = ConnectionManager(
            catalogue, transports, admission, limits, workers: workers ?? Process.processors, log)
        log.step("connection manager: \(catalogue.all.count) exports, \(workers ?? Process.processors) workers")
        let channel = try predecessor?.takeOver() ?? givenChannel
        try openChannel(of: manager, channel, local, log)
        manager.resume(predecessor?.clients ?? [])
        for transport in transports { announce("ready \(security.uri(transport.uri))") }
        transports = []
        ServiceManager.tellReady()
        manager.serve(until: signals) { reload(configuration, admission, catalogue, log) }
    }

    private var limits: Limits {
        var limits = Limits()
        limits.connections = maxConnections
        limits.handshakeSeconds = handshakeTimeout
        limits.drainSeconds = drainTimeout
        return limits
    }

    /// The server whose place this one is to take. It holds its clients from now on.
    private func predecessor(_ log: ServerLog) throws(ExportFault) -> Predecessor? {
        guard replace else { return nil }
        guard let path = manage ?? ManagementSocket.defaultPath(making: false),
            let descriptor = ManagementSocket.connect(path)
        else {
            log.step("no server runs whose place could be taken")
            return nil
        }
        return try Predecessor(descriptor)
    }

    /// Has a device served, or all that a folder or a pattern names, unless it was taken over.
    private func export(
        _ text: String, _ local: LocalTransport, _ catalogue: Catalogue, _ predecessor: Predecessor?, _ log: ServerLog
    ) throws(ExportFault) {
        let (found, isScan) = try local.find(text)
        var count = 0
        for specification in found {
            if try predecessor?.serves(specification, readOnly: readOnly) ?? false {
                count += 1
                continue
            }
            if !isScan { try makeFile(specification) }
            do throws(ExportFault) {
                let export = try local.export(specification)
                guard catalogue.add(export) else {
                    throw ExportFault(
                        "two devices have the name '\(export.name)'; name one of them, as in other=/its/path")
                }
                log.step(
                    "local transport: '\(export.name)' is \(export.iop.device.description), \(export.iop.length.bytes) bytes"
                )
                count += 1
            } catch {
                guard isScan else { throw error }
                log.warn("left out: \(error.text)")
            }
        }
        guard count > 0 else { throw ExportFault("nothing of '\(text)' can be served") }
    }

    /// By a slip in a name everybody would have what was meant for a few.
    private func rules(for catalogue: Catalogue) throws(ExportFault) -> AccessRules {
        let rules = try security.rules()
        if let name = rules.exports.subtracting(catalogue.all.map(\.name)).min() {
            throw ExportFault("a rule is for '\(name)', which is none of the exports")
        }
        return rules
    }

    /// Reads rules and credentials anew. With a mistake in them everything stays as it is.
    private func reload(
        _ configuration: Configuration, _ admission: Admission, _ catalogue: Catalogue, _ log: ServerLog
    ) {
        do throws(ExportFault) {
            let new = try configuration.read()
            admission.replace(try new.rules(for: catalogue), try new.security.offer(log))
            log.step("rules and credentials were read anew")
        } catch {
            log.warn("rules and credentials stay as they were: \(error.text)")
        }
    }

    /// The management channel is a service to others: without a place for it the server serves all the same, unless one was named.
    private func openChannel(
        of manager: ConnectionManager, _ inherited: RemoteTransport?, _ local: LocalTransport, _ log: ServerLog
    ) throws(ExportFault) {
        let mask = umask(0o077)
        defer { _ = umask(mask) }
        if let inherited {
            manager.manage(by: inherited, local, spawn: Process.spawnSuccessor)
            return log.step("management channel: \(inherited.uri)")
        }
        if let manage {
            manager.manage(by: try RemoteTransport(.unix(path: manage)), local, spawn: Process.spawnSuccessor)
            return log.step("management channel: \(manage)")
        }
        guard let path = ManagementSocket.defaultPath(making: true) else { return }
        do throws(ExportFault) {
            manager.manage(by: try RemoteTransport(.unix(path: path)), local, spawn: Process.spawnSuccessor)
            log.step("management channel: \(path)")
        } catch {
            log.step("no management channel: \(error.text)")
        }
    }

    private func makeFile(_ specification: DeviceSpecification) throws(ExportFault) {
        guard let size else { return }
        guard let bytes = DeviceText.size(size) else {
            throw ExportFault("'\(size)' is no size; write it as 64M or 1G")
        }
        guard let path = specification.device.path else { return }
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        // One that is there is taken as it is.
        guard descriptor >= 0 else { return }
        defer { _ = close(descriptor) }
        guard ftruncate(descriptor, off_t(bytes)) == 0 else {
            throw ExportFault(
                "\(path) can't be made with \(bytes) bytes: \(unsafe String(cString: strerror(errno)))")
        }
    }
}
