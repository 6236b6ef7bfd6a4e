import Glibc
import Synchronization

/// What the workers report of the clients that they hold, so that another process can go on with them.
final class HeldClients: Sendable {
    struct Report: Sendable {
        /// Descriptors, which stay the worker's, and states.
        var clients: [(descriptor: Int32, state: ConnectionState)] = []
        /// The exports of clients that stay.
        var staying: [String] = []
    }

    private let reports = Mutex<[Report]>([])

    func add(_ report: Report) { reports.withLock { $0.append(report) } }

    /// What so many workers have reported; nil where that takes longer than it may.
    func collect(from workers: Int, seconds: UInt64) -> Report? {
        let deadline = Clock.now + seconds * 1_000_000_000
        while true {
            let found = reports.withLock { $0 }
            if found.count == workers {
                return Report(clients: found.flatMap(\.clients), staying: found.flatMap(\.staying))
            }
            if Clock.now >= deadline { return nil }
            usleep(500)
        }
    }
}

extension Worker {
    /// Reports the clients that are held, once their devices have answered everything.
    func report(to held: HeldClients) {
        guard !hasReported, departed.isEmpty, connections.allSatisfy({ !$0.isMovable || $0.isSettled }) else { return }
        hasReported = true
        for connection in connections where connection.isMovable && !connection.ownLoans() { enqueue(connection) }
        held.add(
            HeldClients.Report(
                clients: connections.filter(\.isMovable).map { ($0.descriptor, $0.state) },
                staying: connections.filter { !$0.isMovable }.compactMap { $0.export?.name }))
    }

    func goOn() {
        held = nil
        for connection in connections { enqueue(connection) }
    }

    func part() {
        held = nil
        isParting = true
        for connection in connections where connection.isMovable { forget(connection) }
        // Idle slots would keep devices alive that are the other process's now.
        slots = SlotPool()
    }
}
