/// Where a server listens, as an NBD URI names it: `nbd://HOST[:PORT]`, `nbd+unix:///?socket=PATH` or, for STP sockets,
/// `nbd+stp://[GROUP/][HOST]:PORT`.
public enum NBDAddress: Equatable, Sendable {
    /// Without a host: every address of this machine.
    case tcp(host: String?, port: UInt16)
    case unix(path: String)
    /// An address of STP sockets, as their module reads it.
    case stp(address: String)

    public static let defaultPort: UInt16 = 10809

    public init(_ text: String) throws(ExportFault) {
        if let rest = NBDAddress.rest(of: text, after: "nbd+unix://") {
            guard let question = rest.firstIndex(of: "?"),
                let path = NBDAddress.socket(rest[rest.index(after: question)...])
            else { throw ExportFault("'\(text)' names no socket; write it as nbd+unix:///?socket=/run/disk.sock") }
            guard path.utf8.count < 108 else {
                throw ExportFault("the path of a Unix socket has at most 107 bytes: \(path)")
            }
            self = .unix(path: path)
        } else if let rest = NBDAddress.rest(of: text, after: "nbd+stp://") {
            self = .stp(address: String(rest))
        } else if let rest = NBDAddress.rest(of: text, after: "nbd://") {
            let authority = rest.prefix { $0 != "/" }
            guard let address = NBDAddress.tcp(authority),
                rest.dropFirst(authority.count).drop(while: { $0 == "/" }).isEmpty
            else { throw ExportFault("'\(text)' is no address to listen on; write it as nbd://127.0.0.1:10809") }
            self = address
        } else {
            throw ExportFault("'\(text)' is no address to listen on; it begins with nbd://, nbd+unix:// or nbd+stp://")
        }
    }

    private static func rest(of text: String, after prefix: String) -> Substring? {
        text.hasPrefix(prefix) ? text.dropFirst(prefix.count) : nil
    }

    private static func tcp(_ authority: Substring) -> NBDAddress? {
        var host = authority
        var port = defaultPort
        // A colon inside brackets belongs to the address.
        if let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") {
            guard let number = UInt16(authority[authority.index(after: colon)...]) else { return nil }
            port = number
            host = authority[..<colon]
        }
        if host.hasPrefix("[") {
            guard host.hasSuffix("]") else { return nil }
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard host.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "@") }) else { return nil }
        return .tcp(host: host.isEmpty ? nil : String(host), port: port)
    }

    private static func socket(_ query: Substring) -> String? {
        for part in query.split(separator: "&") where part.hasPrefix("socket=") {
            return decoded(part.dropFirst(7)).flatMap { $0.isEmpty ? nil : $0 }
        }
        return nil
    }

    /// The text without percent-encoding; nil where it isn't UTF-8 then.
    static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16), rest.count >= 2 else {
                return nil
            }
            rest = rest.dropFirst(2)
            bytes.append(value)
        }
        return bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
    }
}
