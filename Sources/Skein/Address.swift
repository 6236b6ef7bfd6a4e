import CSkein
import Glibc

/// An STP address: a group, a host of that group, and a port (`struct sockaddr_stp`).
///
/// Its text is `GROUP/HOST:PORT`. Shorter forms leave out the group (`HOST:PORT`) or the host as well
/// (`:PORT` or `PORT`): an empty group or host stands for the process's own.
public struct Address: Sendable, Hashable {
    /// The group; empty for the process's own.
    public let group: String
    /// The host; empty for the process's own.
    public let host: String
    /// The port. 0 asks for any free one where an address is given to a socket.
    public let port: UInt16

    /// A port of this host.
    public init(port: UInt16) {
        group = ""
        host = ""
        self.port = port
    }

    /// An address of any group and host. Nil where a name is too long (15 bytes of UTF-8 for a group, 31
    /// for a host) or has a slash or a NUL in it.
    public init?(group: String = "", host: String, port: UInt16) {
        guard Address.isName(group, below: Int(STP_GROUP_SIZE)), Address.isName(host, below: Int(STP_HOST_SIZE))
        else { return nil }
        self.group = group
        self.host = host
        self.port = port
    }

    private static func isName(_ name: String, below size: Int) -> Bool {
        name.utf8.count < size && !name.utf8.contains { $0 == 0 || $0 == UInt8(ascii: "/") }
    }

    /// The address of a host, with port 0 (STPgethostbyname): its name, or "localhost" or "" for this one.
    /// `EHOSTUNREACH`: a host that the agent doesn't know.
    public static func name(of host: String) throws(SocketError) -> Address {
        try unsafe read("STPgethostbyname") { address, length in
            unsafe host.withCString { unsafe STPgethostbyname($0, address, length) }
        }
    }

    /// The same group and host, another port.
    public func with(port: UInt16) -> Address { Address(group, host, port) }

    private init(_ group: String, _ host: String, _ port: UInt16) {
        self.group = group
        self.host = host
        self.port = port
    }
}

extension Address: LosslessStringConvertible {
    /// Reads each of the forms. Nil for anything else.
    public init?(_ description: String) {
        var rest = description[...]
        var group = ""
        if let slash = rest.firstIndex(of: "/") {
            group = String(rest[..<slash])
            rest = rest[rest.index(after: slash)...]
        }
        var host = ""
        if let colon = rest.lastIndex(of: ":") {
            host = String(rest[..<colon])
            rest = rest[rest.index(after: colon)...]
        } else if !group.isEmpty {
            return nil
        }
        guard rest.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(rest) else { return nil }
        self.init(group: group, host: host, port: port)
    }

    /// The shortest form that says it all: `:PORT`, `HOST:PORT` or `GROUP/HOST:PORT`.
    public var description: String { group.isEmpty ? "\(host):\(port)" : "\(group)/\(host):\(port)" }
}

extension Address {
    /// Calls `body` with the C form of this address.
    func withSocketAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        var storage = sockaddr_stp()
        storage.stp_family = sa_family_t(AF_STP)
        storage.stp_port = port
        Address.store(group, in: &storage.stp_group)
        Address.store(host, in: &storage.stp_host)
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe body(UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), socklen_t(Address.size))
        }
    }

    /// The address that `body` fills in.
    static func read(
        _ call: StaticString, _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> CInt
    ) throws(SocketError) -> Address {
        var storage = sockaddr_stp()
        var length = socklen_t(size)
        let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe body(UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
        }
        guard result == 0 else { throw SocketError(lastOf: call) }
        guard storage.stp_family == sa_family_t(AF_STP) else {
            throw SocketError(
                call, errno: EAFNOSUPPORT, advice: "The socket is no STP socket: ask for its name by the system's call")
        }
        return Address(text(storage.stp_group), text(storage.stp_host), storage.stp_port)
    }

    private static let size = MemoryLayout<sockaddr_stp>.size

    private static func store<Field>(_ name: String, in field: inout Field) {
        unsafe withUnsafeMutableBytes(of: &field) { unsafe $0.copyBytes(from: name.utf8) }
    }

    private static func text<Field>(_ field: Field) -> String {
        unsafe withUnsafeBytes(of: field) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
