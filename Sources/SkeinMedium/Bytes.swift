// Little-endian words at named offsets of a byte array: everything on the medium and in frames is read and written
// through these.

extension [UInt8] {
    /// The little-endian integer at `offset`, which must be there.
    package func word<Word: FixedWidthInteger & BitwiseCopyable>(at offset: Int) -> Word {
        precondition(offset >= 0 && offset <= count - MemoryLayout<Word>.size, "a word lies within its bytes")
        return unsafe withUnsafeBytes {
            Word(littleEndian: unsafe $0.loadUnaligned(fromByteOffset: offset, as: Word.self))
        }
    }

    /// Writes a little-endian integer at `offset`, where there must be room.
    package mutating func put<Word: FixedWidthInteger & BitwiseCopyable>(_ word: Word, at offset: Int) {
        precondition(offset >= 0 && offset <= count - MemoryLayout<Word>.size, "a word lies within its bytes")
        unsafe withUnsafeMutableBytes {
            unsafe $0.storeBytes(of: word.littleEndian, toByteOffset: offset, as: Word.self)
        }
    }

    /// Overwrites what begins at `offset` with other bytes, for which there must be room.
    package mutating func put(_ bytes: [UInt8], at offset: Int) {
        replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }

    /// Adds a little-endian integer.
    package mutating func append<Word: FixedWidthInteger & BitwiseCopyable>(word: Word) {
        unsafe Swift.withUnsafeBytes(of: word.littleEndian) { unsafe append(contentsOf: $0) }
    }

    /// The name in a field of `size` bytes that zeros fill up; nil where it isn't UTF-8.
    func name(at offset: Int, size: Int) -> String? {
        let field = self[offset..<offset + size]
        return String(validating: field.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// The array's first `size` bytes, or all and then zeros.
    func padded(to size: Int) -> [UInt8] { self + [UInt8](repeating: 0, count: size - count) }
}

/// 16 bytes that name a medium, an incarnation, a boot or a machine, or that prove a block.
package struct Identifier: Hashable, Sendable, CustomStringConvertible {
    package static let size = 16
    /// Nobody, or everybody: a block for all readers has it as its reader.
    package static let zero = Identifier(0, 0)

    /// Bytes 0 to 7 and 8 to 15, as little-endian words.
    package let low: UInt64
    package let high: UInt64

    package init(_ low: UInt64, _ high: UInt64) {
        self.low = low
        self.high = high
    }

    /// What lies at `offset`.
    package init(_ bytes: [UInt8], at offset: Int) {
        low = bytes.word(at: offset)
        high = bytes.word(at: offset + 8)
    }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(word: low)
        bytes.append(word: high)
        return bytes
    }

    /// 32 hexadecimal digits, the first byte first.
    package var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension [UInt8] {
    package mutating func put(_ identifier: Identifier, at offset: Int) {
        put(identifier.low, at: offset)
        put(identifier.high, at: offset + 8)
    }
}
