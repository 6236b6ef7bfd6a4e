/// The body of a data block: how far its writer has taken the reader's blocks, then a payload that the medium doesn't
/// look into.
package struct DataBlock: Equatable, Sendable {
    /// Units of a block at most.
    package static let unitsAllowed = 64

    /// The position up to which the block's writer has taken the reader's own blocks.
    package var consumed: UInt64
    /// At least one byte.
    package var payload: ArraySlice<UInt8>

    private enum Offset {
        static let consumed = 0
        static let payload = 8
    }

    package init(consumed: UInt64, payload: [UInt8]) {
        precondition(!payload.isEmpty, "a data block has a payload")
        self.consumed = consumed
        self.payload = payload[...]
    }

    package var body: [UInt8] { DataBlock.head(consumed: consumed) + payload }

    /// What stands before the payload.
    static func head(consumed: UInt64) -> [UInt8] {
        var head: [UInt8] = []
        head.append(word: consumed)
        return head
    }

    /// Nil where there is no payload.
    package init?(body: [UInt8]) {
        guard body.count > Offset.payload else { return nil }
        consumed = body.word(at: Offset.consumed)
        payload = body[Offset.payload...]
    }

    /// Bytes of payload that a block of so many units has room for.
    package static func room(units: Int) -> Int { units * unitSize - BlockHeader.size - Offset.payload }

    /// Units of a block with so many bytes of payload.
    package static func units(payload: Int) -> Int { BlockHeader.units(body: Offset.payload + payload) }
}

/// The units that the blocks of one direction lie in, one behind the other, again and again. A position counts units
/// from the beginning of a pair of incarnations.
package struct Ring: Equatable, Sendable {
    /// 1 MiB.
    private static let unitsPerRequest: UInt64 = 256
    /// 512 KiB: small enough that some reads can be taken while others are under way.
    private static let unitsPerRead = 128

    package let start: UInt64
    package let units: UInt64

    package init(start: UInt64, units: UInt64) {
        precondition(Geometry.ringUnitsAllowed.contains(units), "a ring has a size that the format allows")
        self.start = start
        self.units = units
    }

    /// Where the unit of that position lies on the medium.
    func unit(at position: UInt64) -> UInt64 { start + position % units }

    /// Units from there to the ring's end, which no block crosses.
    func unitsToEnd(at position: UInt64) -> Int { Int(units - position % units) }

    /// So much of a ring is made free, and used, at a time: a small part in a full ring would make small blocks.
    var quarter: UInt64 { units / 4 }

    /// Units of one request at most: four of them keep the ring busy.
    var largestRequest: Int { Int(min(quarter, Ring.unitsPerRequest)) }

    /// Units of one read at most, where several are under way.
    var largestRead: Int { min(largestRequest, Ring.unitsPerRead) }

    /// Units of one block that is written here at most.
    var largestBlock: Int { min(DataBlock.unitsAllowed, largestRequest) }
}
