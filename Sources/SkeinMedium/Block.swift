/// Bytes of a unit, the smallest piece of a medium that is written or read.
package let unitSize = 4096

/// What a block is. Everything on a medium is a block: whole units that begin with a header.
package enum BlockKind: UInt32, Sendable, CaseIterable {
    // The magic: four letters, the first in the lowest byte.
    case superblock = 0x4253_4b53  // "SKSB"
    case lease = 0x534c_4b53  // "SKLS"
    case row = 0x5752_4b53  // "SKRW"
    case table = 0x4254_4b53  // "SKTB"
    case data = 0x5444_4b53  // "SKDT"
}

/// The header that each block begins with. docs/MEDIUM.md has its fields.
package struct BlockHeader: Equatable, Sendable {
    package static let size = 64
    /// Raised when an older reader can't understand the medium any more.
    package static let major: UInt16 = 1
    /// Raised when fields are added that an older reader may leave alone.
    package static let minor: UInt16 = 0
    /// The body is sealed by AES-256-GCM; else it lies there in clear, with a checksum.
    static let sealedFlag: UInt32 = 1

    enum Offset {
        static let magic = 0
        static let major = 4
        static let minor = 6
        static let place = 8
        static let writer = 16
        static let count = 32
        static let length = 40
        static let flags = 44
        static let proof = 48
        /// What the proof covers of the header.
        static let covered = 0..<48
    }

    /// The unit where the block lies; the position of a data block in its stream of units.
    package let place: UInt64
    /// The incarnation of who wrote it.
    package let writer: Identifier
    /// Rises with each write of that writer under one key. Of two metadata blocks the one with more is newer.
    package let count: UInt64
    /// Bytes of the body.
    package let length: Int
    let flags: UInt32

    package init(place: UInt64, writer: Identifier, count: UInt64) {
        self.init(place: place, writer: writer, count: count, length: 0, flags: 0)
    }

    private init(place: UInt64, writer: Identifier, count: UInt64, length: Int, flags: UInt32) {
        self.place = place
        self.writer = writer
        self.count = count
        self.length = length
        self.flags = flags
    }

    /// What a block's first unit says; nil where it is no block of this kind and major version. Nothing of it is
    /// proved yet.
    package init?(_ bytes: [UInt8], at offset: Int = 0, kind: BlockKind) {
        guard bytes.count - offset >= BlockHeader.size,
            bytes.word(at: offset + Offset.magic) == kind.rawValue,
            bytes.word(at: offset + Offset.major) == BlockHeader.major
        else { return nil }
        let length: UInt32 = bytes.word(at: offset + Offset.length)
        self.init(
            place: bytes.word(at: offset + Offset.place), writer: Identifier(bytes, at: offset + Offset.writer),
            count: bytes.word(at: offset + Offset.count), length: Int(length),
            flags: bytes.word(at: offset + Offset.flags))
    }

    /// Units of the whole block.
    package var units: Int { BlockHeader.units(body: length) }

    /// Units of a block whose body has `length` bytes.
    package static func units(body length: Int) -> Int { (size + length + unitSize - 1) / unitSize }
}

/// Whom a block is from and for, on which medium, and the key that proves it.
package struct BlockChannel: Sendable {
    package let kind: BlockKind
    package let medium: Identifier
    /// The incarnation that it is meant for; `Identifier.zero` where it is for all.
    package let reader: Identifier
    package let writer: Identifier
    private let key: any BlockKey
    private let isSealed: Bool

    /// The blocks of `kind` that `writer` writes for `reader`.
    package init(
        _ kind: BlockKind, medium: Identifier, writer: Identifier, reader: Identifier = .zero, seal: any Seal
    ) {
        self.kind = kind
        self.medium = medium
        self.writer = writer
        self.reader = reader
        isSealed = seal.isSealed
        key = seal.key(kind, writer: writer, reader: reader)
    }

    /// A whole block, ready to be written: header, body, zeros up to the end of its last unit.
    package func block(place: UInt64, count: UInt64, body: [UInt8]) -> [UInt8] {
        var block: [UInt8] = []
        append(to: &block, place: place, count: count, body: body)
        return block
    }

    /// Adds a whole block to others, whose body is all of the parts.
    package func append(to bytes: inout [UInt8], place: UInt64, count: UInt64, body parts: [UInt8]...) {
        let start = bytes.count
        bytes.append(contentsOf: repeatElement(0, count: BlockHeader.size))
        for part in parts { bytes += part }
        let body = start + BlockHeader.size..<bytes.count
        let size = BlockHeader.units(body: body.count) * unitSize
        bytes.append(contentsOf: repeatElement(0, count: start + size - bytes.count))
        bytes.put(kind.rawValue, at: start + BlockHeader.Offset.magic)
        bytes.put(BlockHeader.major, at: start + BlockHeader.Offset.major)
        bytes.put(BlockHeader.minor, at: start + BlockHeader.Offset.minor)
        bytes.put(place, at: start + BlockHeader.Offset.place)
        bytes.put(writer, at: start + BlockHeader.Offset.writer)
        bytes.put(count, at: start + BlockHeader.Offset.count)
        bytes.put(UInt32(body.count), at: start + BlockHeader.Offset.length)
        bytes.put(isSealed ? BlockHeader.sealedFlag : 0, at: start + BlockHeader.Offset.flags)
        let proof = key.seal(&bytes, body, count: count, associated: associated(bytes, at: start))
        bytes.put(proof, at: start + BlockHeader.Offset.proof)
    }

    /// The body of the block at `offset`, where it proves to be the one of this channel that belongs at `place`. Nil
    /// for all else: another place, writer, reader, medium, key or kind, bytes that are torn or changed, a block that
    /// isn't wholly there.
    package func open(_ bytes: [UInt8], at offset: Int = 0, place: UInt64) -> (header: BlockHeader, body: [UInt8])? {
        guard let header = BlockHeader(bytes, at: offset, kind: kind),
            header.place == place, header.writer == writer,
            header.flags == (isSealed ? BlockHeader.sealedFlag : 0),
            header.length <= bytes.count - offset - BlockHeader.size
        else { return nil }
        let start = offset + BlockHeader.size
        let proof = Identifier(bytes, at: offset + BlockHeader.Offset.proof)
        guard
            let body = key.open(
                bytes, start..<start + header.length, count: header.count, associated: associated(bytes, at: offset),
                proof: proof)
        else { return nil }
        return (header, body)
    }

    /// What the proof covers besides the body: the header up to the proof, the medium, the reader.
    private func associated(_ bytes: [UInt8], at offset: Int) -> [UInt8] {
        let covered = BlockHeader.Offset.covered
        return bytes[offset + covered.lowerBound..<offset + covered.upperBound] + medium.bytes + reader.bytes
    }
}
