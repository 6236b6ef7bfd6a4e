/// The unit of a peer's row that this host writes: its bell and its cursors for that peer.
struct RowWriter {
    private let unit: UInt64
    private let ring: Ring
    private let channel: BlockChannel
    private let timing: Timing

    private var writeCount: UInt64 = 0
    private(set) var isWriting = false
    /// When the row is to be written for its bell, and when for its cursor, if no data block tells that before.
    private var ringsAt: UInt64?
    private var tellsAt: UInt64?
    /// The highest cursor that a row or a data block told the peer, and when.
    private var told: UInt64 = 0
    private var toldAt: UInt64 = 0

    init(unit: UInt64, ring: Ring, channel: BlockChannel, timing: Timing) {
        self.unit = unit
        self.ring = ring
        self.channel = channel
        self.timing = timing
    }

    /// When `write` has something to do.
    var deadline: UInt64? {
        guard !isWriting, ringsAt != nil || tellsAt != nil else { return nil }
        return min(ringsAt ?? .max, tellsAt ?? .max)
    }

    /// The peer is to look into the ring.
    mutating func ring(at now: UInt64) { ringsAt = min(ringsAt ?? now, now) }

    /// Blocks up to `taken` were taken: the peer is told, and soon where its ring fills, if no data block tells it before.
    mutating func took(_ taken: UInt64, at now: UInt64) {
        guard taken > told else { return }
        let time = now + (taken - told >= ring.quarter ? timing.expectation : timing.acknowledgement)
        tellsAt = min(tellsAt ?? time, time)
    }

    /// A data block tells the peer that much.
    mutating func tells(_ taken: UInt64, at now: UInt64) {
        note(taken, at: now)
        tellsAt = nil
    }

    /// The peer's new row says how much it knows. Where it was told more long ago, that was lost.
    mutating func seen(_ seen: UInt64, at now: UInt64) {
        if seen < told && now >= toldAt + timing.rewriting / 2 { tellsAt = now }
    }

    private mutating func note(_ taken: UInt64, at now: UInt64) {
        guard taken > told else { return }
        told = taken
        toldAt = now
    }

    /// The row, where it is due.
    mutating func write(bell: UInt64, taken: UInt64, seen: UInt64, at now: UInt64) -> [UInt8]? {
        guard let deadline, now >= deadline else { return nil }
        ringsAt = nil
        tellsAt = nil
        isWriting = true
        note(taken, at: now)
        writeCount += 1
        let row = Row(
            ringStart: ring.start, ringUnits: UInt32(ring.units), bell: bell, consumed: taken, seen: seen)
        return channel.block(place: unit, count: writeCount, body: row.body)
    }

    /// The write has ended.
    mutating func written(_ isDone: Bool, at now: UInt64) {
        isWriting = false
        if !isDone { ringsAt = now + timing.retry }
    }
}
