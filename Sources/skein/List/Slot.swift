import SkeinCore

/// The two lines that the ends of a connection publish. Either end may write nonsense into its own.
struct Slot {
    private let lines: Bytes

    /// Nil where the pool can't be read.
    init?(_ place: SocketRecord.Place, in pool: String) {
        guard place.slot < UInt32(Layout.poolMaximumSlots), let file = try? File(pool) else { return nil }
        let offset = Layout.poolHeader + Int(place.slot) * Layout.slotStride
        lines = file.read(at: offset, count: 2 * Layout.lineStride)
        if lines.count < 2 * Layout.lineStride { return nil }
    }

    private func position(_ end: Int, _ offset: Int) -> UInt64 { lines.word(end * Layout.lineStride + offset) }

    /// Bytes that the other end has written and this one has not read; nil when the cursors make no sense.
    func waiting(for end: Int) -> UInt64? {
        let count = position(1 - end, Layout.tail) &- position(end, Layout.head)
        return count <= UInt64(Layout.largeCapacity + Layout.smallCapacity) ? count : nil
    }

    func state(of end: Int) -> String {
        let mine: UInt32 = lines.word(end * Layout.lineStride + Layout.state)
        let other: UInt32 = lines.word((1 - end) * Layout.lineStride + Layout.state)
        if (mine | other) & EndState.reset != 0 { return "reset" }
        switch (mine & EndState.finished != 0, other & EndState.finished != 0) {
        case (false, false): return "established"
        case (true, false): return "fin_wait"
        case (false, true): return "close_wait"
        case (true, true): return "closing"
        }
    }
}
