/// Bytes that may be hostile: every access is checked, words are little-endian as on both processors.
struct Bytes {
    let storage: [UInt8]
    var count: Int { storage.count }

    init(_ storage: [UInt8]) { self.storage = storage }

    /// Whether `size` bytes from `offset` are there.
    func holds(_ offset: Int, size: Int) -> Bool {
        offset >= 0 && size >= 0 && offset <= count && size <= count - offset
    }

    /// The integer at `offset`; 0 outside.
    func word<Word: FixedWidthInteger & UnsignedInteger>(_ offset: Int, as type: Word.Type = Word.self) -> Word {
        let size = Word.bitWidth / 8
        guard holds(offset, size: size) else { return 0 }
        var value: Word = 0
        for index in 0..<size { value |= Word(storage[offset + index]) << Word(8 * index) }
        return value
    }

    /// `count` bytes from `offset`, which are there (`holds`).
    func part(_ offset: Int, count: Int) -> Bytes { Bytes(Array(storage[offset..<offset + count])) }

    /// Text up to a zero byte or `limit` bytes; what is not UTF-8 is replaced.
    func text(_ offset: Int, limit: Int) -> String {
        guard offset >= 0, offset < count else { return "" }
        let end = offset + min(limit, count - offset)
        return String(decoding: storage[offset..<end].prefix { $0 != 0 }, as: UTF8.self)
    }

    /// All of it as text.
    var text: String { String(decoding: storage, as: UTF8.self) }

    func starts(with prefix: [UInt8]) -> Bool { storage.starts(with: prefix) }
}
