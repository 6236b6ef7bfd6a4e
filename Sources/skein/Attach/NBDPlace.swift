import Glibc

/// Where an NBD URI in the clear leads: what nbd-client has to be told.
struct NBDPlace: Equatable {
    /// The words for a host and a port, or for a Unix socket.
    let words: [String]
    let export: String

    /// Nil for TLS, and for what is no such URI.
    init?(_ uri: String) {
        if let rest = NBDPlace.rest(of: uri, "nbd+unix://") {
            let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
            let socket = parts.dropFirst().first?.split(separator: "&").first { $0.hasPrefix("socket=") }
            guard let path = socket.flatMap({ NBDPlace.decoded($0.dropFirst(7)) }), !path.isEmpty,
                let name = NBDPlace.decoded(parts[0].drop { $0 == "/" })
            else { return nil }
            words = ["-unix", path]
            export = name
        } else if let rest = NBDPlace.rest(of: uri, "nbd://") {
            let authority = rest.prefix { $0 != "/" && $0 != "?" }
            let name = rest.dropFirst(authority.count).prefix { $0 != "?" }.dropFirst()
            guard let export = NBDPlace.decoded(name), let words = NBDPlace.host(authority) else { return nil }
            self.words = words
            self.export = export
        } else {
            return nil
        }
    }

    private static func rest(of uri: String, _ scheme: String) -> Substring? {
        uri.hasPrefix(scheme) ? uri.dropFirst(scheme.count) : nil
    }

    private static func host(_ authority: Substring) -> [String]? {
        var host = authority
        var port = "10809"
        if let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") {
            guard let number = UInt16(authority[authority.index(after: colon)...]) else { return nil }
            port = "\(number)"
            host = authority[..<colon]
        }
        if host.hasPrefix("[") && host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        // A word that begins so would be an option.
        guard !host.isEmpty, !host.hasPrefix("-"), !host.contains("@") else { return nil }
        return [String(host), port]
    }

    private static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                let digits = String(decoding: rest.prefix(2), as: UTF8.self)
                guard digits.utf8.count == 2, let value = UInt8(digits, radix: 16), value != 0 else { return nil }
                rest = rest.dropFirst(2)
                bytes.append(value)
            } else {
                bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
