import SkeinMedium

/// One host's agent: its machine, and what the world does to it.
struct Agent {
    let number: Int
    let name: String
    let machine: Identifier
    var boot: Identifier
    var host: MediumHost?
    /// Answers and wake-ups for an earlier life are dropped.
    var life = 0
    /// The incarnation that its runtime folder knows of.
    var lastIncarnation: Identifier?
    /// Whether the folder was lost: nothing proves the end of the last incarnation.
    var hasFolder = true
    var pausedUntil: UInt64 = 0
    var stalledUntil: UInt64 = 0
    /// Since when nothing has been done to it.
    var calmSince: UInt64 = 0
    /// The next wake-up that stands in the queue.
    var wakesAt: UInt64?
    /// Peers that it was told are alive.
    var announced: [Int: Identifier] = [:]
    var slot: Int?
    var generation: UInt64 = 0
    var supply = Supply()
}
