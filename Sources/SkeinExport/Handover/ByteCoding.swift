/// Numbers and texts one after the other, for another process of the same machine.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number) {
        var number = number
        unsafe withUnsafeBytes(of: &number) { unsafe bytes.append(contentsOf: $0) }
    }

    mutating func put(_ flag: Bool) { put(flag ? 1 : 0 as UInt8) }

    mutating func put(_ content: [UInt8]) {
        put(content.count)
        bytes += content
    }

    mutating func put(_ text: String) { put(Array(text.utf8)) }

    mutating func put<Value>(_ value: Value?, _ write: (inout ByteWriter, Value) -> Void) {
        put(value != nil)
        if let value { write(&self, value) }
    }
}

/// What a `ByteWriter` has written. Whatever it is given, it traps on nothing.
struct ByteReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    private func spoiled() -> ExportFault {
        ExportFault("what the server that runs says can't be understood: stop it and start this one")
    }

    private mutating func take(_ count: Int) throws(ExportFault) -> ArraySlice<UInt8> {
        guard count >= 0, count <= rest.count else { throw spoiled() }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }

    mutating func number<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type = Number.self
    ) throws(ExportFault) -> Number {
        let bytes = Array(try take(MemoryLayout<Number>.size))
        return unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: Number.self) }
    }

    mutating func flag() throws(ExportFault) -> Bool { try number(UInt8.self) != 0 }
    mutating func bytes() throws(ExportFault) -> [UInt8] { Array(try take(try number())) }
    mutating func text() throws(ExportFault) -> String { String(decoding: try bytes(), as: UTF8.self) }

    /// A value of an enumeration.
    mutating func choice<Choice: RawRepresentable>() throws(ExportFault) -> Choice
    where Choice.RawValue: FixedWidthInteger & BitwiseCopyable {
        guard let choice = Choice(rawValue: try number()) else { throw spoiled() }
        return choice
    }

    /// How many values follow, each of one byte at least.
    mutating func count() throws(ExportFault) -> Int {
        let count = try number(Int.self)
        guard count >= 0, count <= rest.count else { throw spoiled() }
        return count
    }

    mutating func optional<Value>(
        _ read: (inout ByteReader) throws(ExportFault) -> Value
    ) throws(ExportFault) -> Value? {
        try flag() ? try read(&self) : nil
    }
}
