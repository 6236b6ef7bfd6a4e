import SkeinNBD
import Synchronization

/// What latencies are counted apart.
enum LatencyKind: Int, CaseIterable {
    case read, write, other

    init(_ command: UInt16) {
        self =
            switch Command(rawValue: command) {
            case .read: .read
            case .write: .write
            default: .other
            }
    }
}

/// Buckets of latencies: four to each power of two of nanoseconds, so that each is at most a fourth wider than its beginning.
enum LatencyBuckets {
    /// The last one has everything above a minute.
    static let count = 4 * 36

    @inline(__always)
    static func index(_ nanoseconds: UInt64) -> Int {
        let value = max(nanoseconds, 4)
        let exponent = UInt64.bitWidth - 1 - value.leadingZeroBitCount
        return min(count - 1, exponent * 4 + Int(value >> UInt64(exponent - 2)) & 3)
    }

    /// Nanoseconds that all of a bucket's latencies stay below.
    static func limit(_ index: Int) -> UInt64 {
        let exponent = UInt64(index / 4)
        return exponent < 2 ? 4 : UInt64(5 + index % 4) << (exponent - 2)
    }
}

/// Latencies of one client's requests, by kind. Its worker alone counts; anybody may look.
@safe
final class LatencyCounts: Sendable {
    private let counts: Counts

    @safe private struct Counts: @unchecked Sendable {
        let memory: UnsafeMutablePointer<Atomic<UInt64>>
    }

    private static let total = LatencyKind.allCases.count * LatencyBuckets.count

    init() {
        let memory = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: LatencyCounts.total)
        for index in 0..<LatencyCounts.total { unsafe (memory + index).initialize(to: Atomic(0)) }
        counts = unsafe Counts(memory: memory)
    }

    deinit { unsafe counts.memory.deallocate() }

    @inline(__always)
    func add(_ kind: LatencyKind, _ nanoseconds: UInt64) {
        let index = kind.rawValue * LatencyBuckets.count + LatencyBuckets.index(nanoseconds)
        let before = unsafe counts.memory[index].load(ordering: .relaxed)
        unsafe counts.memory[index].store(before &+ 1, ordering: .relaxed)
    }

    var sums: LatencySums {
        LatencySums(counts: (0..<LatencyCounts.total).map { unsafe counts.memory[$0].load(ordering: .relaxed) })
    }
}

/// Latencies of one client, or of all of an export's.
struct LatencySums: Sendable {
    private var counts: [UInt64]

    init(counts: [UInt64] = []) { self.counts = counts }

    mutating func add(_ other: LatencySums) {
        if counts.isEmpty { return counts = other.counts }
        for index in other.counts.indices { counts[index] += other.counts[index] }
    }

    private func bucket(_ kind: LatencyKind, _ index: Int) -> UInt64 {
        counts.isEmpty ? 0 : counts[kind.rawValue * LatencyBuckets.count + index]
    }

    func count(_ kind: LatencyKind) -> UInt64 {
        (0..<LatencyBuckets.count).reduce(0) { $0 + bucket(kind, $1) }
    }

    /// Microseconds that this share of the requests stayed below; nil where there were none.
    func percentile(_ share: Double, _ kind: LatencyKind) -> Double? {
        let total = count(kind)
        guard total > 0 else { return nil }
        var left = max(1, (Double(total) * share).rounded(.up))
        for index in 0..<LatencyBuckets.count {
            left -= Double(bucket(kind, index))
            if left <= 0 { return Double(LatencyBuckets.limit(index)) / 1000 }
        }
        return nil
    }
}
