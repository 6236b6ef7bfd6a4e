import Glibc
import SkeinDevice
import Synchronization

/// Establishes connections: it accepts clients on the remote transports and gives each to a worker, for life.
public final class ConnectionManager {
    /// Clients of one transport taken in a row.
    private static let acceptsInTurn = 64
    private static let retryMilliseconds: Int32 = 50

    let catalogue: Catalogue
    private(set) var transports: [RemoteTransport]
    let limits: Limits
    let log: ServerLog
    private(set) var workers: [Worker.Mailbox] = []
    private(set) var channel: ManagementChannel?
    private let desk = HandoverDesk()
    private var isShort = false
    private var isFull = false

    public init(
        _ catalogue: Catalogue, _ transports: [RemoteTransport], _ admission: Admission, _ limits: Limits, workers: Int,
        _ log: ServerLog
    ) {
        self.catalogue = catalogue
        self.transports = transports
        self.limits = limits
        self.log = log
        for _ in 0..<workers {
            let mailbox = Worker.Mailbox()
            self.workers.append(mailbox)
            Thread.start { Worker(catalogue, admission, limits, log, mailbox).run() }
        }
    }

    /// Opens the management channel on a transport of its own. `spawn` starts a server that is to take this one's place.
    public func manage(
        by transport: RemoteTransport, _ local: LocalTransport,
        spawn: @escaping @Sendable (String) throws(ExportFault) -> Int32
    ) {
        let workers = workers
        let desk = desk
        channel = ManagementChannel(
            transport, catalogue, local,
            ManagementChannel.Actions(
                drop: { export in for worker in workers { worker.send(.drop(export)) } },
                handOver: { desk.put($0) }, spawn: spawn))
    }

    /// Goes on with the clients of the server whose place this one has taken.
    public func resume(_ clients: [Predecessor.Client]) {
        for client in clients { entrust(.resume(client.descriptor, client.state)) }
    }

    /// Accepts clients until a signal of `signals`, a signalfd that doesn't wait, comes; then lets the workers answer what they have.
    /// It ends too when another process has taken over, and its last own client has gone.
    /// A hang-up signal ends nothing: `reload` is called.
    public func serve(until signals: Int32, _ reload: () -> Void) {
        while true {
            // A negative descriptor is passed over.
            let watched =
                [signals, channel?.transport.descriptor ?? -1, desk.bell.descriptor]
                + (isShort ? [] : transports.map(\.descriptor))
            var entries = watched.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            _ = unsafe poll(&entries, nfds_t(entries.count), isShort ? ConnectionManager.retryMilliseconds : -1)
            isShort = false
            if entries[0].revents != 0 {
                guard receive(signals) == SIGHUP else { break }
                reload()
            }
            if entries[1].revents != 0 { channel?.accept() }
            if entries[2].revents != 0, let link = desk.take(), handOver(to: link) {
                waitForOwnClients(signals)
                break
            }
            for (transport, entry) in zip(transports, entries.dropFirst(3)) where entry.revents != 0 {
                accept(transport)
            }
        }
        stop()
    }

    /// The number of a signal that has come.
    private func receive(_ signals: Int32) -> Int32 {
        // struct signalfd_siginfo, which begins with the number.
        var information = [UInt32](repeating: 0, count: 32)
        let count = unsafe read(signals, &information, 128)
        return count == 128 ? Int32(bitPattern: information[0]) : SIGTERM
    }

    private func accept(_ transport: RemoteTransport) {
        for _ in 0..<ConnectionManager.acceptsInTurn {
            let descriptor = transport.accept()
            if descriptor < 0 {
                // Any other error is that of one client, who is gone.
                if [-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM].contains(descriptor) {
                    if !isShort {
                        log.warn("descriptors or memory are short: new clients wait until a connection ends")
                    }
                    isShort = true
                }
                if descriptor == -EAGAIN || isShort { return }
                continue
            }
            let population = workers.reduce(0) { $0 + $1.population.load(ordering: .relaxed) }
            guard population < limits.connections else {
                if !isFull {
                    log.warn("there are \(population) connections, which is the limit: clients are sent away")
                }
                isFull = true
                _ = close(descriptor)
                continue
            }
            isFull = false
            entrust(.adopt(descriptor, transport.peer(of: descriptor)))
        }
    }

    /// Gives a client to the worker where it is served soonest.
    private func entrust(_ client: Worker.Order) {
        let least = workers.min { load($0) < load($1) }
        least?.population.add(1, ordering: .relaxed)
        least?.send(client)
    }

    /// What a new client would meet: connections of the worker, and whether it hears of it at once.
    private func load(_ worker: Worker.Mailbox) -> Int {
        let population = worker.population.load(ordering: .relaxed)
        return worker.isWaiting.load(ordering: .relaxed) ? population + limits.connections : population
    }

    /// Everything is another process's. Who can't be handed over is served to the end, or as long as the limit allows.
    private func waitForOwnClients(_ signals: Int32) {
        let requests = channel
        transports = []
        channel = nil
        let deadline = Clock.now + UInt64(limits.drainSeconds) * 1_000_000_000
        var entry = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
        while !isOver || requests.map({ $0.requests.load(ordering: .acquiring) > 0 }) ?? false {
            guard Clock.now < deadline else {
                return log.warn("clients by TLS are still there after \(limits.drainSeconds) s: they are sent off")
            }
            if unsafe poll(&entry, 1, 20) > 0, receive(signals) != SIGHUP { return }
        }
    }

    private var isOver: Bool { workers.allSatisfy { $0.hasEnded.load(ordering: .acquiring) } }

    private func stop() {
        log.step("stopping: requests that have come are answered")
        transports = []
        channel = nil
        for worker in workers { worker.send(.stop) }
        while !isOver { usleep(2000) }
        log.step("stopped")
    }
}
