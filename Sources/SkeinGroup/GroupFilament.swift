import SkeinConduit

/// One filament of a host, whatever conduit it is on. A host that comes back has other ones.
package struct GroupFilament: Hashable, Sendable {
    let link: UInt64
    package let host: Int
    package let number: FilamentNumber

    package init(link: UInt64, host: Int, number: FilamentNumber) {
        self.link = link
        self.host = host
        self.number = number
    }
}

extension FilamentEvent {
    /// Whom it is about.
    package var number: FilamentNumber {
        switch self {
        case .opened(let number, _, _), .accepted(let number), .refused(let number, _), .readable(let number),
            .writable(let number), .urgent(let number), .ended(let number), .delivered(let number),
            .reset(let number, _), .closed(let number):
            number
        }
    }
}

/// What a filament is opened for: the kind in its first frame, and the address of that kind.
package enum FilamentKind {
    /// A stream of bytes to who listens on a port. The address is the port (2 bytes, little-endian); that of a program's
    /// socket has the client's own port behind it (2 bytes).
    package static let stream: UInt32 = 1

    /// The address of a stream.
    package static func address(port: UInt16, client: UInt16? = nil) -> [UInt8] {
        [port, client].compactMap { $0 }.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    }

    /// The ports in such an address; nil where it is none.
    package static func ports(address: [UInt8]) -> (port: UInt16, client: UInt16?)? {
        func number(at index: Int) -> UInt16 { UInt16(address[index]) | UInt16(address[index + 1]) << 8 }
        switch address.count {
        case 2: return (number(at: 0), nil)
        case 4: return (number(at: 0), number(at: 2))
        default: return nil
        }
    }
}
