/// Filament numbers that wait, first in, first out. Who puts one in sees to it that it is in once.
struct NumberQueue {
    private var ring: [UInt32] = []
    private var head = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    var first: UInt32? { isEmpty ? nil : ring[head] }

    mutating func append(_ number: UInt32) {
        if count == ring.count { grow() }
        ring[(head + count) & (ring.count - 1)] = number
        count += 1
    }

    @discardableResult
    mutating func removeFirst() -> UInt32? {
        guard let first else { return nil }
        head = (head + 1) & (ring.count - 1)
        count -= 1
        return first
    }

    /// The size stays a power of two.
    private mutating func grow() {
        let inOrder = ring[head...] + ring[..<head]
        ring = inOrder + [UInt32](repeating: 0, count: max(16, ring.count))
        head = 0
    }
}
