/// The characters that rules are written with.
enum ASCII {
    static let tab: UInt8 = 9
    static let newline: UInt8 = 10
    static let carriageReturn: UInt8 = 13
    static let space: UInt8 = 32
    static let hash: UInt8 = 35
    static let star: UInt8 = 42
    static let comma: UInt8 = 44
    static let dash: UInt8 = 45
    static let dot: UInt8 = 46
    static let slash: UInt8 = 47
    static let zero: UInt8 = 48
    static let colon: UInt8 = 58
    static let equals: UInt8 = 61
    static let openBracket: UInt8 = 91
    static let closeBracket: UInt8 = 93

    /// A letter as a small one.
    static func small(_ byte: UInt8) -> UInt8 { 65...90 ~= byte ? byte + 32 : byte }
    static func isBlank(_ byte: UInt8) -> Bool { byte == space || byte == tab }
}

// Text as it lies in memory: Embedded Swift's String would bring tables of Unicode along.
extension Span<UInt8> {
    var first: UInt8? { isEmpty ? nil : self[0] }
    var last: UInt8? { isEmpty ? nil : self[count - 1] }

    func index(of byte: UInt8) -> Int? {
        for index in indices where self[index] == byte { return index }
        return nil
    }

    func count(of byte: UInt8) -> Int {
        var found = 0
        for index in indices where self[index] == byte { found += 1 }
        return found
    }

    func isEqual(to text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        for index in indices where unsafe self[index] != text.utf8Start[index] { return false }
        return true
    }

    func isEqual(to other: Span<UInt8>) -> Bool { count == other.count && begins(with: other) }

    /// The same where small letters and capitals are one.
    func isEqualIgnoringCase(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in indices where ASCII.small(self[index]) != ASCII.small(other[index]) { return false }
        return true
    }
    func isEqualIgnoringCase(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        for index in indices where unsafe ASCII.small(self[index]) != text.utf8Start[index] { return false }
        return true
    }

    /// Whether it begins with these bytes.
    func begins(with other: Span<UInt8>) -> Bool {
        guard count >= other.count else { return false }
        for index in other.indices where self[index] != other[index] { return false }
        return true
    }

    /// What is left without blanks at both ends.
    var trimmed: Range<Int> {
        var range = 0..<count
        while let byte = extracting(range).first, ASCII.isBlank(byte) {
            range = range.lowerBound + 1..<range.upperBound
        }
        while let byte = extracting(range).last, ASCII.isBlank(byte) { range = range.lowerBound..<range.upperBound - 1 }
        return range
    }

    var firstBlank: Int? {
        for index in indices where ASCII.isBlank(self[index]) { return index }
        return nil
    }

    /// The last part of a path, as /proc writes it of an executable that may have been removed since.
    package var fileName: Range<Int> {
        let mark: StaticString = " (deleted)"
        var end = count
        if let start = end > mark.utf8CodeUnitCount ? end - mark.utf8CodeUnitCount : nil,
            extracting(start..<end).isEqual(to: mark)
        {
            end = start
        }
        var start = end
        while start > 0 && self[start - 1] != ASCII.slash { start -= 1 }
        return start..<end
    }

    /// A number of digits alone; nil for anything else and above a million.
    var decimal: Int? { number(base: 10) }
    var hexadecimal: Int? { number(base: 16) }

    private func number(base: Int) -> Int? {
        guard !isEmpty else { return nil }
        var value = 0
        for index in indices {
            let digit: Int
            switch self[index] {
            case 48...57: digit = Int(self[index]) - 48
            case 65...70: digit = Int(self[index]) - 55
            case 97...102: digit = Int(self[index]) - 87
            default: return nil
            }
            guard digit < base else { return nil }
            value = value * base + digit
            if value > 1_000_000 { return nil }
        }
        return value
    }
}
