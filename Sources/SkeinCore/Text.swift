import CSystem

/// A C string of fewer than `size` bytes, built without allocation. What doesn't fit is cut off.
package struct FixedText<let size: Int> {
    private var bytes: InlineArray<size, UInt8> = InlineArray(repeating: 0)
    package private(set) var count = 0
    /// Something was cut off.
    package private(set) var isCut = false

    package init() {}
    package init(_ start: StaticString) { append(start) }

    package mutating func append(byte: UInt8) {
        guard count < size - 1 else { return isCut = true }
        bytes[count] = byte
        count += 1
    }
    package mutating func append(_ text: StaticString) {
        for index in 0..<text.utf8CodeUnitCount { append(byte: unsafe text.utf8Start[index]) }
    }
    package mutating func append(_ text: Span<UInt8>) {
        for index in text.indices { append(byte: text[index]) }
    }
    package mutating func append(cString: UnsafePointer<CChar>) {
        var index = 0
        while unsafe cString[index] != 0 && !isCut {
            append(byte: UInt8(bitPattern: unsafe cString[index]))
            index += 1
        }
    }
    package mutating func append(decimal value: UInt64) {
        if value >= 10 { append(decimal: value / 10) }
        append(byte: UInt8(truncatingIfNeeded: value % 10) + 48)
    }
    package mutating func append(hex value: UInt64) {
        if value >= 16 { append(hex: value / 16) }
        let digit = UInt8(truncatingIfNeeded: value % 16)
        append(byte: digit < 10 ? digit + 48 : digit + 87)
    }
    /// The text as a NUL-terminated C string, for the time of the call.
    package func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        var copy = bytes
        return unsafe withUnsafeMutableBytes(of: &copy) { raw in
            unsafe body(raw.baseAddress!.assumingMemoryBound(to: CChar.self))
        }
    }
    /// The bytes, without the NUL, for the time of the call.
    package func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        body(bytes.span.extracting(0..<count))
    }
}

/// Names of sockets, lines of the log.
package typealias Text = FixedText<256>
/// A path of any length that the system takes.
package typealias PathText = FixedText<4096>
