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
            "Where to listen: nbd://HOST:PORT, nbd+unix:///?socket=PATH or nbd+stp://:PORT. May be repeated.",
            valueName: "uri"))
    var listen: [String] = ["nbd://127.0.0.1"]

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
        try serve(configuration, log, until: signals)
    }

    private func serve(
        _ configuration: Configuration, _ log: ServerLog, until signals: Int32
    ) throws(ExportFault) {
        // The order of initialisation: devices, ways in, descriptors, connections.
        let local = LocalTransport(readOnly: readOnly)
        let catalogue = Catalogue()
        for text in devices { try export(text, local, catalogue, log) }
        let admission = Admission(try rules(for: catalogue), try security.offer(log))
        var transports: [RemoteTransport] = []
        for text in listen {
            let transport = try RemoteTransport(try NBDAddress(text))
            log.step("remote transport: \(transport.uri)")
            transports.append(transport)
        }
        var limits = Limits()
        limits.connections = maxConnections
        limits.handshakeSeconds = handshakeTimeout
        let count = workers ?? Process.processors
        let manager = ConnectionManager(catalogue, transports, admission, limits, workers: count, log)
        log.step("connection manager: \(catalogue.all.count) exports, \(count) workers")
        try openChannel(of: manager, local, log)
        for transport in transports { announce("ready \(security.uri(transport.uri))") }
        transports = []
        manager.serve(until: signals) { reload(configuration, admission, catalogue, log) }
    }

    /// Has a device served, or all that a folder or a pattern names.
    private func export(
        _ text: String, _ local: LocalTransport, _ catalogue: Catalogue, _ log: ServerLog
    ) throws(ExportFault) {
        let (found, isScan) = try local.find(text)
        var count = 0
        for specification in found {
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
        of manager: ConnectionManager, _ local: LocalTransport, _ log: ServerLog
    ) throws(ExportFault) {
        let mask = umask(0o077)
        defer { _ = umask(mask) }
        if let manage {
            manager.manage(by: try RemoteTransport(.unix(path: manage)), local)
            return log.step("management channel: \(manage)")
        }
        guard let path = ManagementSocket.defaultPath(making: true) else { return }
        do throws(ExportFault) {
            manager.manage(by: try RemoteTransport(.unix(path: path)), local)
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
