extension RawSpan {
    /// The big-endian integer at `offset`, which must be there.
    @inlinable
    public func word<Word: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        at offset: Int, as type: Word.Type = Word.self
    ) -> Word {
        // Bounds are checked; any bits make an integer.
        Word(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }

    /// The bytes of a part, which must be there.
    func array(_ offset: Int, count: Int) -> [UInt8] {
        precondition(offset >= 0 && count >= 0 && offset + count <= byteCount, "a part lies inside")
        return unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            for index in 0..<count {
                unsafe buffer[index] = unsafe unsafeLoad(fromByteOffset: offset + index, as: UInt8.self)
            }
            initialized = count
        }
    }
}

extension [UInt8] {
    /// Adds a big-endian integer.
    mutating func append<Word: FixedWidthInteger & UnsignedInteger>(_ word: Word) where Word: Sendable {
        for shift in stride(from: Word.bitWidth - 8, through: 0, by: -8) {
            append(UInt8(truncatingIfNeeded: word >> Word(shift)))
        }
    }
}

/// Memory that a message is written into, from its beginning.
@safe
struct Encoder: ~Copyable {
    private let memory: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(_ memory: UnsafeMutableRawBufferPointer) { unsafe self.memory = memory }

    /// Adds a big-endian integer. There must be room.
    @inline(__always)
    mutating func put<Word: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_ word: Word) {
        unsafe memory.storeBytes(of: word.bigEndian, toByteOffset: count, as: Word.self)
        count += MemoryLayout<Word>.size
    }

}
