/// What the fuzzer gives a target, taken piece by piece; zeros where it has ended.
struct Input {
    private var bytes: Span<UInt8>.Index = 0
    private let data: UnsafeBufferPointer<UInt8>

    init(_ start: UnsafePointer<UInt8>?, _ count: Int) { data = UnsafeBufferPointer(start: start, count: count) }

    var isEmpty: Bool { bytes >= data.count }

    mutating func byte() -> UInt8 {
        guard bytes < data.count else { return 0 }
        bytes += 1
        return data[bytes - 1]
    }

    mutating func word() -> UInt64 { (0..<8).reduce(0) { word, index in word | UInt64(byte()) << UInt64(8 * index) } }

    /// Up to `count` bytes.
    mutating func take(_ count: Int) -> [UInt8] {
        let end = min(bytes + count, data.count)
        defer { bytes = end }
        return Array(data[bytes..<end])
    }

    mutating func rest() -> [UInt8] { take(data.count) }
}

/// What a target finds wrong is a crash: the fuzzer keeps the input.
func require(_ holds: Bool, _ what: StaticString) {
    if !holds { fatalError("\(what)") }
}
