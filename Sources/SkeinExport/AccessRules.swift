import Glibc

/// Which clients may have which export.
///
/// An export is for those to whom one of its own rules applies. One without rules of its own is for those to whom one of the rules
/// without an export applies, and where there are none of these, for everybody.
public struct AccessRules: Sendable {
    /// All conditions of a rule must hold.
    private struct Rule {
        let export: String?
        let conditions: [Condition]
    }

    private enum Condition {
        case anyone, secure
        case certificate(String)
        case key(String)
        case network(IPAddress, bits: Int)
        case user(UInt32)

        var needsTLS: Bool {
            switch self {
            case .secure, .certificate, .key: true
            case .anyone, .network, .user: false
            }
        }

        func holds(for peer: Peer) -> Bool {
            switch self {
            case .anyone: true
            case .secure: peer.isSecure
            case .certificate(let name): peer.certificateNames.contains(name)
            case .key(let name): peer.keyName == name
            case .network(let network, let bits): peer.address?.shares(bits, with: network) ?? false
            case .user(let user): peer.user == user
            }
        }
    }

    enum Judgement {
        case allowed, denied
        /// Under TLS it might be allowed.
        case needsTLS
    }

    private var rules: [Rule] = []

    public init() {}

    public var isEmpty: Bool { rules.isEmpty }
    /// Whether a rule asks for something that only TLS vouches for.
    public var needTLS: Bool { rules.contains { $0.conditions.contains(where: \.needsTLS) } }
    /// Whether a rule asks for the name in a client's certificate.
    public var needCertificates: Bool {
        rules.contains { rule in
            rule.conditions.contains { if case .certificate = $0 { true } else { false } }
        }
    }

    /// Exports that have rules of their own.
    public var exports: Set<String> { Set(rules.compactMap(\.export)) }

    /// Adds `[EXPORT=]WHO`. WHO is `anyone`, `tls`, `certificate:NAME`, `key:NAME`, `address:NETWORK`, `user:NAME`, or several of these
    /// with `+` between them, all of which must hold.
    public mutating func add(_ text: String) throws(ExportFault) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        var conditions: [Condition] = []
        for word in parts[parts.count - 1].split(separator: "+", omittingEmptySubsequences: false) {
            guard let condition = AccessRules.condition(word) else {
                throw ExportFault(
                    """
                    '\(word)' in the rule '\(text)' says nothing about a client; write it as anyone, tls, certificate:NAME, key:NAME, \
                    address:10.0.0.0/8 or user:NAME
                    """)
            }
            conditions.append(condition)
        }
        rules.append(Rule(export: parts.count == 2 ? String(parts[0]) : nil, conditions: conditions))
    }

    private static func condition(_ word: Substring) -> Condition? {
        let parts = word.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return word == "anyone" ? .anyone : word == "tls" ? .secure : nil }
        let value = parts[1]
        guard !value.isEmpty else { return nil }
        switch parts[0] {
        case "certificate": return .certificate(String(value))
        case "key": return .key(String(value))
        case "address": return network(value)
        case "user": return user(value).map(Condition.user)
        default: return nil
        }
    }

    private static func network(_ text: Substring) -> Condition? {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = IPAddress(parts[0]) else { return nil }
        let longest = address.isIPv4 ? 32 : 128
        guard let bits = parts.count == 2 ? Int(parts[1]) : longest, (0...longest).contains(bits) else { return nil }
        return .network(address, bits: bits + 128 - longest)
    }

    private static func user(_ text: Substring) -> UInt32? {
        if let number = UInt32(text) { return number }
        var entry = unsafe passwd()
        var found: UnsafeMutablePointer<passwd>?
        var room = [CChar](repeating: 0, count: 16384)
        guard unsafe getpwnam_r(String(text), &entry, &room, room.count, &found) == 0, unsafe found != nil else {
            return nil
        }
        return unsafe entry.pw_uid
    }

    func judge(_ export: String, _ peer: Peer) -> Judgement {
        let own = rules.filter { $0.export == export }
        let applying = own.isEmpty ? rules.filter { $0.export == nil } : own
        if applying.isEmpty || applying.contains(where: { $0.conditions.allSatisfy { $0.holds(for: peer) } }) {
            return .allowed
        }
        let mightHelp = applying.contains { rule in
            rule.conditions.contains(where: \.needsTLS)
                && rule.conditions.allSatisfy { $0.needsTLS || $0.holds(for: peer) }
        }
        return mightHelp && !peer.isSecure ? .needsTLS : .denied
    }
}
