import CSystem

/// One term of a rule: the addresses and ports that it is about.
///
/// Written as `80`, `8000-8010`, `10.0.0.0/8`, `10.0.0.5:80`, `::1`, `[fe80::/10]:80`, or `any`.
package struct Term {
    /// Of family 0 where every address is meant.
    package private(set) var address = Address()
    /// So many leading bits of the address count.
    package private(set) var prefix = 0
    package private(set) var firstPort: UInt16 = 0
    package private(set) var lastPort = UInt16.max

    /// Whether it is about everything that reaches a listener bound to `other`; or, of an address that is
    /// dialled, about that.
    package func coversAll(of other: Address) -> Bool {
        let other = other.unmapped()
        guard coversPort(other) else { return false }
        // A listener at [::] mostly takes IPv4 too, so no prefix of one family is all of it.
        if other.isAny { return address.family == 0 || (prefix == 0 && other.isIPv4 && address.isIPv4) }
        return coversHost(other)
    }

    /// Whether it is about some of that.
    package func coversSome(of other: Address) -> Bool {
        let other = other.unmapped()
        guard coversPort(other) else { return false }
        if other.isAny { return address.family == 0 || !other.isIPv4 || address.isIPv4 }
        return coversHost(other)
    }

    private func coversPort(_ other: Address) -> Bool { firstPort <= other.port && other.port <= lastPort }

    private func coversHost(_ other: Address) -> Bool {
        if address.family == 0 { return true }
        guard address.family == other.family else { return false }
        // The first byte of an address is the highest here, so that leading bits are leading bits.
        let high = UInt64(bigEndian: address.high ^ other.high)
        let low = UInt64(bigEndian: address.low ^ other.low)
        if prefix <= 64 { return high >> UInt64(64 - prefix) == 0 }
        return high == 0 && low >> UInt64(128 - prefix) == 0
    }
}

// MARK: - Reading

extension Term {
    /// Reads a term as a user wrote it, without blanks around it.
    package init(_ text: Span<UInt8>) throws(Fault.Kind) {
        if text.isEqual(to: "any") { return }
        if text.first == ASCII.openBracket {
            try readBracketed(text)
        } else if text.count(of: ASCII.colon) > 1 {
            try readAddress(text)
        } else if text.index(of: ASCII.dot) != nil {
            let end = text.index(of: ASCII.colon) ?? text.count
            try readAddress(text.extracting(0..<end))
            if end < text.count { try readPorts(text.extracting(end + 1..<text.count)) }
        } else {
            try readPorts(text)
        }
    }

    /// `[ADDRESS]`, `[ADDRESS]:PORT`
    private mutating func readBracketed(_ text: Span<UInt8>) throws(Fault.Kind) {
        guard let end = text.index(of: ASCII.closeBracket) else { throw .term }
        let inside = text.extracting(1..<end)
        guard inside.index(of: ASCII.colon) != nil else { throw .address }
        try readAddress(inside)
        if end + 1 == text.count { return }
        guard text[end + 1] == ASCII.colon else { throw .term }
        try readPorts(text.extracting(end + 2..<text.count))
    }

    /// `ADDRESS`, `ADDRESS/PREFIX`
    private mutating func readAddress(_ text: Span<UInt8>) throws(Fault.Kind) {
        let end = text.index(of: ASCII.slash) ?? text.count
        guard let read = Address(text: text.extracting(0..<end)) else { throw .address }
        let width = read.isIPv4 ? 32 : 128
        prefix = width
        if end < text.count {
            guard let given = text.extracting(end + 1..<text.count).decimal, given <= width else { throw .prefix }
            prefix = given
        }
        address = read
        // Compared with addresses that are no longer mapped.
        if read.isMapped && prefix >= 96 {
            address = read.unmapped()
            prefix -= 96
        }
    }

    /// `PORT`, `PORT-PORT`
    private mutating func readPorts(_ text: Span<UInt8>) throws(Fault.Kind) {
        let end = text.index(of: ASCII.dash) ?? text.count
        firstPort = try Term.port(text.extracting(0..<end))
        lastPort = end == text.count ? firstPort : try Term.port(text.extracting(end + 1..<text.count))
        if lastPort < firstPort { throw .order }
    }

    private static func port(_ text: Span<UInt8>) throws(Fault.Kind) -> UInt16 {
        guard let number = text.decimal else { throw .term }
        guard number > 0, let port = UInt16(exactly: number) else { throw .port }
        return port
    }
}

extension Address {
    /// An IPv4 or IPv6 address as programs write it, without a port; nil for anything else, names too.
    package init?(text: Span<UInt8>) {
        self.init()
        if text.index(of: ASCII.colon) == nil {
            guard let bytes = Address.fourBytes(text) else { return nil }
            family = UInt16(AF_INET)
            high = UInt64(bytes.bigEndian)
        } else {
            guard let groups = Address.eightGroups(text) else { return nil }
            family = UInt16(AF_INET6)
            for index in 0..<4 {
                high |= UInt64(groups[index].bigEndian) << UInt64(16 * index)
                low |= UInt64(groups[index + 4].bigEndian) << UInt64(16 * index)
            }
        }
    }

    /// Four decimal numbers with dots between; the first is the highest byte.
    private static func fourBytes(_ text: Span<UInt8>) -> UInt32? {
        var value: UInt32 = 0
        var start = 0
        for part in 0..<4 {
            let rest = text.extracting(start..<text.count)
            let length = part < 3 ? rest.index(of: ASCII.dot) : rest.count
            // A leading zero means octal to some programs and nothing to others.
            guard let length, let number = rest.extracting(0..<length).decimal, number < 256,
                length == 1 || rest[0] != ASCII.zero
            else { return nil }
            value = value << 8 | UInt32(number)
            start += length + 1
        }
        return value
    }

    /// The eight numbers of an IPv6 address, `::` filled in; its last two may be written as an IPv4 address.
    private static func eightGroups(_ text: Span<UInt8>) -> InlineArray<8, UInt16>? {
        var groups = InlineArray<8, UInt16>(repeating: 0)
        var count = 0
        var gap: Int?
        var start = 0
        while start < text.count {
            let rest = text.extracting(start..<text.count)
            if rest.count > 1 && rest[0] == ASCII.colon && rest[1] == ASCII.colon {
                guard gap == nil else { return nil }
                gap = count
                start += 2
                continue
            }
            let length = rest.index(of: ASCII.colon) ?? rest.count
            let group = rest.extracting(0..<length)
            if group.index(of: ASCII.dot) != nil {
                guard length == rest.count, count <= 6, let bytes = fourBytes(group) else { return nil }
                groups[count] = UInt16(truncatingIfNeeded: bytes >> 16)
                groups[count + 1] = UInt16(truncatingIfNeeded: bytes)
                count += 2
            } else {
                guard count < 8, length <= 4, let number = group.hexadecimal else { return nil }
                groups[count] = UInt16(number)
                count += 1
            }
            start += length
            // One colon leads to another group; two are the gap's.
            if start == text.count { break }
            if start + 1 == text.count { return nil }
            if text[start + 1] != ASCII.colon { start += 1 }
        }
        guard let gap else { return count == 8 ? groups : nil }
        guard count < 8 else { return nil }
        var filled = InlineArray<8, UInt16>(repeating: 0)
        for index in 0..<count { filled[index < gap ? index : index + 8 - count] = groups[index] }
        return filled
    }
}
