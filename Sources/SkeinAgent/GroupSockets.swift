import CSkein
import Glibc
import SkeinCore

/// Sockets of local programs under Skein that are, or are to be, connected to other hosts of the group.
final class GroupSockets {
    /// Clients that wait to be looked at, at most.
    private static let backlog: Int32 = 1024

    /// A program that has connected to an address of another host.
    struct Client {
        let descriptor: Int32
        /// The number of the host that it dialled, and the port there; nil where no host can have that address.
        let host: Int?
        let port: UInt16
        /// Its own port.
        let clientPort: UInt16
    }

    /// What becomes readable when clients come.
    let descriptor: Int32

    init() throws(AgentFault) {
        var made = skein_agent_listen(GroupSockets.backlog)
        // The last agent has ended, and may have to be cleared away still.
        for _ in 0..<100 where made < 0 && errno == EADDRINUSE {
            usleep(10_000)
            made = skein_agent_listen(GroupSockets.backlog)
        }
        descriptor = made
        guard descriptor >= 0 else {
            let error = errno
            let advice = unsafe STPerror(-1) != STP_ENONE ? String(cString: STPstrerror(-1)) : text(error)
            throw AgentFault("programs under 'skein run' can't reach other hosts: \(advice)")
        }
    }

    deinit { close(descriptor) }

    /// What came of looking for the next client.
    enum Arrival {
        case client(Client)
        /// Somebody who was none.
        case stranger
        /// There is none, or no room for it.
        case nobody
    }

    /// The next client.
    func accept() -> Arrival {
        let accepted = STPaccept(descriptor, nil, nil)
        guard accepted >= 0 else { return errno == EINTR || errno == ECONNABORTED ? .stranger : .nobody }
        _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
        _ = fcntl(accepted, F_SETFL, O_NONBLOCK)
        guard let dialled = unsafe GroupSockets.address(of: accepted, getsockname),
            let own = unsafe GroupSockets.address(of: accepted, getpeername)
        else {
            close(accepted)
            return .stranger
        }
        return .client(
            Client(descriptor: accepted, host: dialled.groupHost, port: dialled.port, clientPort: own.port))
    }

    /// Connects to the server of this host on that port, for a client of another host. A descriptor, or minus the errno.
    ///
    /// Hosts are told by their numbers. A port that this process may not speak for, or 0, is replaced by another.
    func connect(to port: UInt16, of own: Int, from host: Int, port clientPort: UInt16) -> Int32 {
        let isUsable = clientPort >= 1024 || (clientPort > 0 && geteuid() == 0)
        let shown = isUsable ? clientPort : UInt16.random(in: 32768...60999)
        var error = ECONNREFUSED
        // A server of IPv6 alone is met by that.
        for six in [false, true] {
            let connected = GroupSockets.connect(
                .ofGroup(host: own, six: six, port: port), from: .ofGroup(host: host, six: six, port: shown))
            if connected >= 0 { return connected }
            error = errno
            if error != ECONNREFUSED { break }
        }
        return -error
    }

    private static func connect(_ server: Address, from client: Address) -> Int32 {
        var storage = (sockaddr_storage(), sockaddr_storage())
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return unsafe withUnsafeMutableBytes(of: &storage) { bytes in
            let second = unsafe bytes.baseAddress! + MemoryLayout<sockaddr_storage>.stride
            unsafe server.store(bytes.baseAddress!, &length)
            length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            unsafe client.store(second, &length)
            return unsafe skein_agent_connect(
                bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self),
                second.assumingMemoryBound(to: sockaddr.self), length)
        }
    }

    private static func address(
        of descriptor: Int32,
        _ call: (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
    ) -> Address? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return unsafe withUnsafeMutableBytes(of: &storage) { bytes in
            let pointer = unsafe bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            guard unsafe call(descriptor, pointer, &length) == 0 else { return nil }
            return unsafe Address(bytes.baseAddress!, length: length)
        }
    }
}
