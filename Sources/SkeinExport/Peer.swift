import Glibc
import SkeinTLS

/// Who a client is, as far as the system and TLS vouch for it.
struct Peer: Sendable {
    /// Its address; nil where it came by no internet protocol.
    var address: IPAddress?
    /// Its user on this machine; nil where it didn't come by a Unix socket.
    var user: UInt32?
    var isSecure = false
    /// The names in its certificate; none where it was asked for none.
    var certificateNames: [String] = []
    /// The name of the key that it has.
    var keyName: String?

    /// For people.
    var description: String {
        let place = address?.description ?? user.map { "user \($0)" } ?? "an STP socket"
        return [place, certificateNames.first ?? keyName].compactMap { $0 }.joined(separator: " as ")
    }

    /// What TLS vouches for.
    mutating func secured(_ session: TLSSession) {
        isSecure = true
        certificateNames = session.certificateNames
        keyName = session.keyName
    }

    static func ofUnix(_ descriptor: Int32) -> Peer {
        // struct ucred: process, user, group.
        var credentials: (Int32, UInt32, UInt32) = (0, 0, 0)
        var length = socklen_t(MemoryLayout<(Int32, UInt32, UInt32)>.size)
        let result = unsafe getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length)
        return Peer(user: result == 0 ? credentials.1 : nil)
    }

    static func ofTCP(_ descriptor: Int32) -> Peer {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let found = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe getpeername(
                descriptor, UnsafeMutableRawPointer(storage).assumingMemoryBound(to: sockaddr.self), &length)
        }
        guard found == 0 else { return Peer() }
        return unsafe withUnsafeBytes(of: storage) { bytes in
            switch Int32(storage.ss_family) {
            // Behind family and port; in IPv6 behind the flow as well.
            case AF_INET: unsafe Peer(address: IPAddress(Array(bytes[4..<8])))
            case AF_INET6: unsafe Peer(address: IPAddress(Array(bytes[8..<24])))
            default: Peer()
            }
        }
    }
}

/// An address of IPv4 or IPv6. One of IPv4 and the same within IPv6 are equal.
struct IPAddress: Equatable, Sendable {
    private static let mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
    /// 16, in the order of the network.
    let bytes: [UInt8]

    /// Takes 4 bytes or 16.
    init(_ bytes: [UInt8]) { self.bytes = bytes.count == 4 ? IPAddress.mapped + bytes : bytes }

    /// Reads an address as people write it.
    init?(_ text: Substring) {
        var bytes = [UInt8](repeating: 0, count: 16)
        let text = String(text)
        if unsafe inet_pton(AF_INET, text, &bytes) == 1 {
            self.init(Array(bytes[..<4]))
        } else if unsafe inet_pton(AF_INET6, text, &bytes) == 1 {
            self.init(bytes)
        } else {
            return nil
        }
    }

    var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        var bytes = isIPv4 ? Array(bytes[12...]) : bytes
        guard unsafe inet_ntop(isIPv4 ? AF_INET : AF_INET6, &bytes, &text, socklen_t(text.count)) != nil else {
            return "?"
        }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    var isIPv4: Bool { bytes.starts(with: IPAddress.mapped) }

    /// Whether the first so many bits are equal.
    func shares(_ bits: Int, with other: IPAddress) -> Bool {
        (0..<16).allSatisfy { index in
            let count = min(8, max(0, bits - index * 8))
            let mask = UInt8(truncatingIfNeeded: 0xFF00 >> count)
            return (bytes[index] ^ other.bytes[index]) & mask == 0
        }
    }
}
