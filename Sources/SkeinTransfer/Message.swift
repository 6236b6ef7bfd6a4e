// The form of the messages that `skein send` and `skein receive` exchange. Integers are little-endian.
//
//     header   "SK", version (1 byte), kind (1 byte), length of the body (4 bytes)
//     offer    mode (2), size (8; all ones: unknown), name in UTF-8 (0 to 255 bytes)     sender, once
//     answer   bytes that are there already (8), their checksum (16)                     receiver, once
//     begin    offset (8): what is there already, or 0                                   sender, once
//     chunk    content (1 byte to 1 MiB), checksum of all content so far (16)            sender, any number
//     end      size (8), checksum of the whole (16)                                      sender, once
//     stored   nothing                                                                   receiver, once
//     refusal  reason (1), text in UTF-8 (0 to 255 bytes)                                either, as its last

/// What a message is.
enum Kind: UInt8 {
    case offer = 1
    case answer, begin, chunk, end, stored, refusal

    /// The lengths that its body can have.
    var lengths: ClosedRange<Int> {
        switch self {
        case .offer: 10...10 + Limit.text
        case .answer, .end: 8 + Checksum.size...8 + Checksum.size
        case .begin: 8...8
        case .chunk: 1 + Checksum.size...Limit.chunk + Checksum.size
        case .stored: 0...0
        case .refusal: 1...1 + Limit.text
        }
    }
}

/// The bounds of what a peer can make us keep.
package enum Limit {
    /// Bytes of content in a chunk.
    package static let chunk = 1 << 20
    /// Bytes of a name or a reason.
    static let text = 255
    /// Bytes of a whole message, so that a buffer of this size takes any.
    package static let message = Header.size + chunk + Checksum.size
}

/// What each message begins with.
struct Header: Equatable {
    static let size = 8
    /// The version of the protocol: both ends must have the same.
    static let version: UInt8 = 1

    let kind: Kind
    let length: Int

    init(_ kind: Kind, length: Int) {
        precondition(kind.lengths.contains(length), "a message of ours has a length that it can't have")
        self.kind = kind
        self.length = length
    }

    /// Reads a peer's header, and refuses any that it can't have sent at this place.
    init(_ bytes: Span<UInt8>, expecting: [Kind]) throws(TransferFault) {
        precondition(bytes.count == Header.size, "a header has \(Header.size) bytes")
        guard bytes[0] == UInt8(ascii: "S"), bytes[1] == UInt8(ascii: "K") else { throw .stranger }
        guard bytes[2] == Header.version else { throw .version(bytes[2]) }
        guard let kind = Kind(rawValue: bytes[3]), expecting.contains(kind) else { throw .nonsense }
        length = Int(bytes.word(at: 4) as UInt32)
        guard kind.lengths.contains(length) else { throw .nonsense }
        self.kind = kind
    }

    var bytes: [UInt8] {
        var bytes = [UInt8(ascii: "S"), UInt8(ascii: "K"), Header.version, kind.rawValue]
        bytes.append(UInt32(length))
        return bytes
    }
}

/// A whole message of ours.
func message(_ kind: Kind, _ body: [UInt8]) -> [UInt8] { Header(kind, length: body.count).bytes + body }

extension Span where Element == UInt8 {
    /// The little-endian integer at `offset`, which must be there.
    func word<Word: FixedWidthInteger & UnsignedInteger>(at offset: Int) -> Word {
        var word: Word = 0
        for index in 0..<Word.bitWidth / 8 { word |= Word(self[offset + index]) << Word(8 * index) }
        return word
    }

    /// From `offset` to the end.
    func bytes(from offset: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for index in offset..<count { bytes.append(self[index]) }
        return bytes
    }
}

extension [UInt8] {
    mutating func append<Word: FixedWidthInteger & UnsignedInteger>(_ word: Word) where Word: Sendable {
        for index in 0..<Word.bitWidth / 8 { append(UInt8(truncatingIfNeeded: word >> Word(8 * index))) }
    }
}
