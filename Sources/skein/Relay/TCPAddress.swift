import ArgumentParser
import CSystem
import Glibc

/// A TCP address as the user writes it: PORT, HOST:PORT or [IPv6]:PORT. Without a host it is 127.0.0.1.
struct TCPAddress {
    private let host: String
    let port: UInt16

    init(_ text: String) throws {
        let (host, port) = TCPAddress.parts(of: text)
        guard let port = UInt16(port), port.description.utf8.count == text.utf8.count - host.written else {
            throw ValidationError(
                "'\(text)' is no TCP address; give PORT, HOST:PORT or [IPv6]:PORT, as in 127.0.0.1:8080")
        }
        self.host = host.name
        self.port = port
    }

    /// The host with what is written around it, and the rest.
    private static func parts(of text: String) -> (host: (name: String, written: Int), port: Substring) {
        guard let colon = text.lastIndex(of: ":") else { return (("127.0.0.1", 0), text[...]) }
        let before = text[..<colon]
        let port = text[text.index(after: colon)...]
        var name = before
        if before.hasPrefix("[") && before.hasSuffix("]") {
            name = before.dropFirst().dropLast()
        } else if before.contains(":") {
            // Nobody knows where an IPv6 address ends without its brackets.
            return (("", 0), "")
        }
        return ((name.isEmpty ? "127.0.0.1" : String(name), before.utf8.count + 1), port)
    }

    /// What the system knows by that name, best first. Asks it now.
    func resolve() throws -> [SocketAddress] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let result = unsafe getaddrinfo(host, "\(port)", &hints, &list)
        guard result == 0 else {
            let reason = unsafe String(cString: gai_strerror(result))
            throw failure("the host '\(printable(host))' is unknown: \(reason)", code: Exit.unreachable)
        }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = unsafe list
        while let info = unsafe next {
            unsafe addresses.append(SocketAddress(info.pointee.ai_addr, length: info.pointee.ai_addrlen))
            unsafe next = info.pointee.ai_next
        }
        return addresses
    }
}
