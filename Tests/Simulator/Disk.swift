import SkeinMedium

/// What goes wrong with a disk, each once in so many requests; 0 for never.
struct DiskFaults {
    var torn = 0
    var lost = 0
    /// The write lands, and once more much later, over what is newer.
    var late = 0
    var stale = 0
    var flipped = 0
    var failed = 0
    var slow = 0
    /// Nanoseconds that a slow request takes at most.
    var slowest: UInt64 = 0
}

/// A disk in virtual time. A request takes effect at one moment and is answered at a later one.
struct Disk {
    private var units: [UInt64: [UInt8]] = [:]
    /// What lay there before, for stale reads.
    private var former: [UInt64: [UInt8]] = [:]
    var faults = DiskFaults()

    static let zeros = [UInt8](repeating: 0, count: unitSize)

    /// When a request takes effect, and when its answer comes, counted from now.
    func latency(_ random: inout Random) -> (effect: UInt64, answer: UInt64) {
        var effect = random.between(20_000, 200_000)
        if random.once(in: faults.slow) { effect += random.between(0, faults.slowest) }
        return (effect, effect + random.between(5_000, 50_000))
    }

    /// The content; nil for an error.
    func read(_ unit: UInt64, _ count: Int, _ random: inout Random) -> [UInt8]? {
        if random.once(in: faults.failed) { return nil }
        var bytes: [UInt8] = []
        for unit in unit..<unit + UInt64(count) {
            let isStale = random.once(in: faults.stale)
            bytes += (isStale ? former[unit] : units[unit]) ?? Disk.zeros
        }
        if random.once(in: faults.flipped) { bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8)) }
        return bytes
    }

    /// Whether it says that the write is done. It may lie.
    mutating func write(_ unit: UInt64, _ bytes: [UInt8], _ random: inout Random) -> Bool {
        if random.once(in: faults.lost) { return true }
        let fails = random.once(in: faults.failed)
        let isTorn = random.once(in: faults.torn)
        if fails && !isTorn { return false }
        store(unit, bytes, sectors: isTorn ? random.below(bytes.count / 512) : bytes.count / 512)
        return !isTorn
    }

    /// Writes the first sectors of `bytes`.
    mutating func store(_ unit: UInt64, _ bytes: [UInt8], sectors: Int) {
        for index in 0..<bytes.count / unitSize {
            let number = unit + UInt64(index)
            var content = units[number] ?? Disk.zeros
            let size = min(unitSize, max(0, sectors * 512 - index * unitSize))
            if size == 0 { return }
            former[number] = content
            let start = index * unitSize
            content.replaceSubrange(0..<size, with: bytes[start..<start + size])
            units[number] = content
        }
    }
}
