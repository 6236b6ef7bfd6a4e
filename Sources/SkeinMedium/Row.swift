/// What one host has for another: the one unit of a reader's row that this writer writes.
package struct Row: Equatable, Sendable {
    /// The first unit of the writer's ring for this reader, and its units.
    package var ringStart: UInt64
    package var ringUnits: UInt32
    /// The position up to which the writer has made blocks.
    package var bell: UInt64
    /// The position up to which the writer has taken the reader's blocks.
    package var consumed: UInt64
    /// The `consumed` of the reader that the writer knows of. Where it lags behind, what said so was lost.
    package var seen: UInt64

    private enum Offset {
        static let ringStart = 0
        static let ringUnits = 8
        static let bell = 16
        static let consumed = 24
        static let seen = 32
        static let end = 40
    }

    package init(ringStart: UInt64, ringUnits: UInt32, bell: UInt64, consumed: UInt64, seen: UInt64) {
        self.ringStart = ringStart
        self.ringUnits = ringUnits
        self.bell = bell
        self.consumed = consumed
        self.seen = seen
    }

    package var body: [UInt8] {
        var body = [UInt8](repeating: 0, count: Offset.end)
        body.put(ringStart, at: Offset.ringStart)
        body.put(ringUnits, at: Offset.ringUnits)
        body.put(bell, at: Offset.bell)
        body.put(consumed, at: Offset.consumed)
        body.put(seen, at: Offset.seen)
        return body
    }

    /// Nil where the body is too short. Whether the ring is one of the writer's is for `isSound` to say.
    package init?(body: [UInt8]) {
        guard body.count >= Offset.end else { return nil }
        ringStart = body.word(at: Offset.ringStart)
        ringUnits = body.word(at: Offset.ringUnits)
        bell = body.word(at: Offset.bell)
        consumed = body.word(at: Offset.consumed)
        seen = body.word(at: Offset.seen)
    }

    /// Whether the ring has the medium's size and lies in the half that this incarnation of `writer` may use.
    package func isSound(in geometry: Geometry, writer: Int, generation: UInt64) -> Bool {
        let half = geometry.half(of: writer, generation: generation)
        return UInt64(ringUnits) == geometry.ringUnits && half.contains(ringStart)
            && half.upperBound - ringStart >= geometry.ringUnits
    }
}
