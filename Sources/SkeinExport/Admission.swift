import SkeinNBD
import SkeinTLS
import Synchronization

/// What decides which clients come in and what they may have. It can be replaced while they are served: who is inside stays.
public final class Admission: Sendable {
    private struct State {
        var rules: AccessRules
        var tls: TLSOffer
    }

    private let state: Mutex<State>

    public init(_ rules: AccessRules, _ tls: TLSOffer) { state = Mutex(State(rules: rules, tls: tls)) }

    public func replace(_ rules: AccessRules, _ tls: TLSOffer) {
        state.withLock { $0 = State(rules: rules, tls: tls) }
    }

    var rules: AccessRules { state.withLock { $0.rules } }
    var tls: TLSOffer { state.withLock { $0.tls } }
}

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
