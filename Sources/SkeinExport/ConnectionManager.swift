import Glibc
import Synchronization

/// Establishes connections: it accepts clients on the remote transports and gives each to a worker, for life.
public final class ConnectionManager {
    /// Clients of one transport taken in a row.
    private static let acceptsInTurn = 64
    private static let retryMilliseconds: Int32 = 50

    private let catalogue: Catalogue
    private var transports: [RemoteTransport]
    private let limits: Limits
    private let log: ServerLog
    private var workers: [Worker.Mailbox] = []
    private var channel: ManagementChannel?
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

    /// Opens the management channel on a transport of its own.
    public func manage(by transport: RemoteTransport, _ local: LocalTransport) {
        let workers = workers
        channel = ManagementChannel(transport, catalogue, local) { export in
            for worker in workers { worker.send(.drop(export)) }
        }
    }

    /// Accepts clients until a signal of `signals`, a signalfd that doesn't wait, comes; then lets the workers answer what they have.
    /// A hang-up signal ends nothing: `reload` is called.
    public func serve(until signals: Int32, _ reload: () -> Void) {
        while true {
            // A negative descriptor is passed over.
            let watched =
                [signals, channel?.transport.descriptor ?? -1] + (isShort ? [] : transports.map(\.descriptor))
            var entries = watched.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            _ = unsafe poll(&entries, nfds_t(entries.count), isShort ? ConnectionManager.retryMilliseconds : -1)
            isShort = false
            if entries[0].revents != 0 {
                guard receive(signals) == SIGHUP else { break }
                reload()
            }
            if entries[1].revents != 0 { channel?.accept() }
            for (transport, entry) in zip(transports, entries.dropFirst(2)) where entry.revents != 0 {
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
            let least = workers.min { load($0) < load($1) }
            least?.population.add(1, ordering: .relaxed)
            least?.send(.adopt(descriptor, transport.peer(of: descriptor)))
        }
    }

    /// What a new client would meet: connections of the worker, and whether it hears of it at once.
    private func load(_ worker: Worker.Mailbox) -> Int {
        let population = worker.population.load(ordering: .relaxed)
        return worker.isWaiting.load(ordering: .relaxed) ? population + limits.connections : population
    }

    private func stop() {
        log.step("stopping: requests that have come are answered")
        transports = []
        channel = nil
        for worker in workers { worker.send(.stop) }
        while workers.contains(where: { !$0.hasEnded.load(ordering: .acquiring) }) { usleep(2000) }
        log.step("stopped")
    }
}
