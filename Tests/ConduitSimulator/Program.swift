import SkeinConduit

/// The program at one end of a filament: what it means to do, and what it has seen. It goes by events alone, so one
/// that is missing stops it.
struct Program {
    enum Phase {
        case opening
        case offered
        case open
        /// Closed here; the last event is still to come.
        case closed
        /// Nothing more comes.
        case over
    }

    let filament: FilamentNumber
    /// Which end it is at, 0 or 1.
    let end: Int
    // What it means to do.
    let total: Int
    let chunk: Int
    /// It writes and reads once in so many rounds.
    let writeEvery: Int
    let readEvery: Int
    let readChunk: Int
    /// It sends small messages, each when the last was read.
    let isPing: Bool
    /// It closes when it has written all, read or not.
    let isHasty: Bool
    /// It resets once in so many rounds, or never.
    let resetEvery: Int

    var phase: Phase
    var canRead = false
    var canWrite = true
    var written = 0
    var read = 0
    var hasEnded = false
    var hasReset = false
    var isPeerEnded = false
    /// Where bytes were marked as urgent.
    var marks: Set<Int> = []
    /// A small message under way: up to where it goes, and how much its end had filled before.
    var message: (position: Int, filled: Int)?

    init(_ filament: FilamentNumber, end: Int, phase: Phase, isPing: Bool, _ random: inout Random) {
        self.filament = filament
        self.end = end
        self.phase = phase
        self.isPing = isPing
        chunk = 1 + random.below(random.once(in: 2) ? 200 : 100_000)
        total = isPing ? 100 * random.below(200) : min(300 * chunk, [0, 10, 5000, 50_000, 300_000][random.below(5)])
        writeEvery = 1 + random.below(3)
        readEvery = random.once(in: 4) ? 20 + random.below(200) : 1 + random.below(3)
        readChunk = 1 + random.below(random.once(in: 2) ? 2000 : 200_000)
        isHasty = random.once(in: 10)
        resetEvery = random.once(in: 6) ? 50 + random.below(400) : 0
    }

    /// The byte at a position of what this end writes.
    static func byte(_ filament: FilamentNumber, _ end: Int, _ position: Int) -> UInt8 {
        let key = Int(truncatingIfNeeded: filament.rawValue) &* 7919 &+ end &* 131
        return UInt8(truncatingIfNeeded: position &* 167 &+ position >> 8 &* 31 &+ position >> 16 &+ key)
    }

    /// What it writes next.
    func content(_ count: Int) -> [UInt8] {
        (written..<written + count).map { Program.byte(filament, end, $0) }
    }
}
