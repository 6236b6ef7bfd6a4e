import SkeinNBD
import Synchronization

/// What was done for one client. Its worker alone counts, so that counting is no more than a load and a store;
/// anybody may look.
final class Counters: Sendable {
    let requests = Atomic<UInt64>(0)
    let bytesRead = Atomic<UInt64>(0)
    let bytesWritten = Atomic<UInt64>(0)
    let errors = Atomic<UInt64>(0)
    let latencies = LatencyCounts()
    /// Who it is, for people.
    let client: String
    let isSecure: Bool
    /// When it began, in nanoseconds of the monotonic clock.
    fileprivate let begin = Clock.now

    init(_ peer: Peer) {
        client = peer.description
        isSecure = peer.isSecure
    }

    /// Since it began.
    var seconds: UInt64 { (Clock.now - begin) / 1_000_000_000 }

    @inline(__always)
    func count(_ request: Request) {
        add(1, to: requests)
        if request.command == Command.read.rawValue { add(request.length, to: bytesRead) }
        if request.command == Command.write.rawValue { add(request.length, to: bytesWritten) }
    }

    func countError() { add(1, to: errors) }

    @inline(__always)
    private func add(_ count: UInt64, to counter: borrowing Atomic<UInt64>) {
        counter.store(counter.load(ordering: .relaxed) &+ count, ordering: .relaxed)
    }

    var sums: Sums {
        Sums(
            requests: requests.load(ordering: .relaxed), bytesRead: bytesRead.load(ordering: .relaxed),
            bytesWritten: bytesWritten.load(ordering: .relaxed), errors: errors.load(ordering: .relaxed),
            latency: latencies.sums)
    }
}

/// What was done for a client, or for all of an export's.
struct Sums: Sendable {
    var requests: UInt64 = 0
    /// Bytes that clients asked for; those of requests that failed are in it.
    var bytesRead: UInt64 = 0
    var bytesWritten: UInt64 = 0
    var errors: UInt64 = 0
    var latency = LatencySums()

    mutating func add(_ other: Sums) {
        requests += other.requests
        bytesRead += other.bytesRead
        bytesWritten += other.bytesWritten
        errors += other.errors
        latency.add(other.latency)
    }
}

/// The clients of an export, and what was done for those that have gone.
final class Accounts: Sendable {
    private struct State {
        var open: [ObjectIdentifier: Counters] = [:]
        var gone = Sums()
    }

    private let state = Mutex(State())

    func open(_ counters: Counters) { state.withLock { $0.open[ObjectIdentifier(counters)] = counters } }

    func close(_ counters: Counters) {
        state.withLock { state in
            if state.open.removeValue(forKey: ObjectIdentifier(counters)) != nil { state.gone.add(counters.sums) }
        }
    }

    /// The clients that there are, in the order in which they came.
    var clients: [Counters] { state.withLock { Array($0.open.values) }.sorted { $0.begin < $1.begin } }

    /// How many clients there are, and the sums of all that there were.
    var standing: (clients: Int, sums: Sums) {
        state.withLock { state in
            var sums = state.gone
            for counters in state.open.values { sums.add(counters.sums) }
            return (state.open.count, sums)
        }
    }
}
