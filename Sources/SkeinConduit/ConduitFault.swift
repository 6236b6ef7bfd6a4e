/// What the peer wrote that no honest peer writes. The conduit has ended by it.
package enum ConduitFault: Error, Equatable, CustomStringConvertible {
    /// A frame of another version.
    case version(UInt8)
    /// A type that there is not.
    case type(UInt8)
    /// A frame of this type has flags, a length or a content that it can't have.
    case malformed(FrameType)
    /// A frame isn't wholly there.
    case truncated
    /// A frame is missing, doubled or out of order.
    case sequence(expected: UInt64, seen: UInt64)
    /// A number that the peer can't open a filament by.
    case number(UInt32)
    /// A frame for a filament that isn't in a state for it.
    case state(FrameType, filament: UInt32)
    /// Data beyond a filament's credit.
    case beyondCredit(filament: UInt32)
    /// Data beyond the conduit's credit.
    case beyondConduitCredit(filament: UInt32)
    /// A credit that takes back what was granted, or for data that was never sent.
    case falseCredit(filament: UInt32)

    package var description: String {
        switch self {
        case .version(let version):
            "the peer's frames have version \(version), and this host knows version \(FrameHeader.version): run the "
                + "same version of Skein on both"
        case .type(let type): "the peer sent a frame of the unknown type \(type)"
        case .malformed(let type): "the peer sent a malformed \(type) frame"
        case .truncated: "the peer sent a part of a frame"
        case .sequence(let expected, let seen): "the peer's frame \(seen) came in place of frame \(expected)"
        case .number(let number): "the peer can't open filament \(number)"
        case .state(let type, let filament): "the peer sent a frame (\(type)) that filament \(filament) isn't ready for"
        case .beyondCredit(let filament): "the peer sent more on filament \(filament) than it may"
        case .beyondConduitCredit(let filament):
            "the peer sent more on all filaments than it may, at last on \(filament)"
        case .falseCredit(let filament): "the peer's credit for filament \(filament) is false"
        }
    }
}

/// Why a call on a filament does nothing.
package enum FilamentFault: Error, Equatable, CustomStringConvertible {
    /// It was closed or reset, here or there.
    case gone
    /// Its own end was said.
    case ended
    /// The filament was offered by the peer: accept or refuse it first.
    case notAccepted
    /// The filament isn't one that the peer offered and that waits to be accepted.
    case notOffered
    /// As many filaments are open as there are numbers.
    case exhausted

    package var description: String {
        switch self {
        case .gone: "the filament is gone"
        case .ended: "the filament was ended for writing"
        case .notAccepted: "the filament is not accepted yet"
        case .notOffered: "the filament doesn't wait to be accepted"
        case .exhausted: "the conduit has no free filament number: close some filaments first"
        }
    }
}
