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
    /// A stream of bytes to who listens on a port. The address is the port (2 bytes, little-endian).
    package static let stream: UInt32 = 1

    /// The address of a stream.
    package static func address(port: UInt16) -> [UInt8] { [UInt8(truncatingIfNeeded: port), UInt8(port >> 8)] }

    /// The port in such an address; nil where it is none.
    package static func port(address: [UInt8]) -> UInt16? {
        address.count == 2 ? UInt16(address[0]) | UInt16(address[1]) << 8 : nil
    }
}
