import SkeinNBD
import SkeinTLS

/// What clients are told of TLS, and what it is done with.
public struct TLSOffer: Sendable {
    let policy: TLSPolicy
    let server: TLSServer?

    /// No TLS.
    public static let none = TLSOffer(policy: .off, server: nil)

    /// TLS by these credentials. Where it isn't required, clients may do without.
    public static func by(_ server: TLSServer, isRequired: Bool) -> TLSOffer {
        TLSOffer(policy: isRequired ? .required : .offered, server: server)
    }
}
