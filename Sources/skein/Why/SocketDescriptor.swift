/// A descriptor of another process that is a socket.
struct SocketDescriptor {
    let number: Int32
    /// The kernel's number of the socket; descriptors that are duplicates share it.
    let inode: UInt64
    /// The kernel's name of its protocol: TCP, TCPv6, UNIX, …
    let protocolName: String

    var isTCP: Bool { protocolName == "TCP" || protocolName == "TCPv6" }

    /// All sockets of a process, by number.
    static func all(of process: Process) throws(SystemError) -> [SocketDescriptor] {
        let folder = "\(process.folder)/fd"
        return try names(in: folder).compactMap { Int32($0) }.sorted().compactMap { number in
            guard let inode = inode(ofLink: "\(folder)/\(number)") else { return nil }
            let name = attribute("system.sockprotoname", of: "\(folder)/\(number)")
            return SocketDescriptor(number: number, inode: inode, protocolName: name?.text(0, limit: 32) ?? "unknown")
        }
    }

    private static func inode(ofLink path: String) -> UInt64? {
        guard let text = target(ofLink: path), text.hasPrefix("socket:["), text.hasSuffix("]") else { return nil }
        return UInt64(text.dropFirst("socket:[".count).dropLast())
    }

    /// The process that holds each socket, as far as we may look. One of them where several do.
    static func holders() -> [UInt64: Process] {
        var holders: [UInt64: Process] = [:]
        for identifier in ((try? names(in: "/proc")) ?? []).compactMap({ Int32($0) }) {
            let folder = "/proc/\(identifier)/fd"
            for name in (try? names(in: folder)) ?? [] {
                if let inode = inode(ofLink: "\(folder)/\(name)") { holders[inode] = Process(identifier) }
            }
        }
        return holders
    }
}
