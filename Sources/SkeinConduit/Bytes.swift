// Little-endian words at offsets of spans. Bounds are checked by the spans; any bits make an integer.

extension RawSpan {
    /// The integer at `offset`, which must be there.
    func word<Word: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Word.Type = Word.self) -> Word {
        Word(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }

    /// The bytes from `offset` on.
    func array(from offset: Int) -> [UInt8] {
        unsafe extracting(offset..<byteCount).withUnsafeBytes { unsafe Array($0) }
    }
}

extension MutableRawSpan {
    /// Writes an integer at `offset`, where there must be room.
    mutating func put<Word: FixedWidthInteger & BitwiseCopyable>(_ word: Word, at offset: Int) {
        storeBytes(of: word.littleEndian, toByteOffset: offset, as: Word.self)
    }

    /// Copies a part of `bytes` to `offset`, where there must be room.
    mutating func put(_ bytes: [UInt8], _ part: Range<Int>, at offset: Int) {
        precondition(offset >= 0 && part.count <= byteCount - offset, "bytes are copied into room")
        unsafe withUnsafeMutableBytes { room in
            let target = unsafe UnsafeMutableRawBufferPointer(rebasing: room[offset...])
            unsafe bytes.withUnsafeBytes {
                unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[part]))
            }
        }
    }
}
