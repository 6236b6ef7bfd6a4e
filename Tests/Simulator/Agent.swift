import SkeinMedium

/// A mistake that a simulated agent makes on purpose (docs/PLANTED.md). All but the times are made around the
/// machine, not in it.
enum Planted: String, CaseIterable {
    /// Judges a host dead that did not renew for one T.
    case hastyVerdict = "hasty-verdict"
    /// Watches the lease of its name for one T before it takes the slot.
    case shortWatch = "short-watch"
    /// Never fences itself.
    case noFence = "no-fence"
    /// Writes every renewal with the same count.
    case sameCount = "same-count"
    /// Says of whoever has its name that it is gone.
    case forgedGone = "forged-gone"
}

/// One host's agent: its machine, and what the world does to it.
struct Agent {
    let number: Int
    let name: String
    let machine: Identifier
    var boot: Identifier
    var membership: Membership?
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
    /// Peers that it was told are alive.
    var announced: [Int: Identifier] = [:]
    var slot: Int?
}

extension Agent {
    /// What the disk is to get in place of `bytes`.
    func planted(_ planted: Planted?, _ bytes: [UInt8], at unit: UInt64, medium: Identifier) -> [UInt8] {
        guard planted == .sameCount, let header = BlockHeader(bytes, kind: .lease) else { return bytes }
        let channel = BlockChannel(.lease, medium: medium, writer: header.writer, seal: ChecksumSeal())
        guard let opened = channel.open(bytes, place: unit) else { return bytes }
        return channel.block(place: unit, count: 1, body: opened.body)
    }
}
