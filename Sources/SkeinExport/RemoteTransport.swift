import Glibc
import Synchronization

/// A way by which clients come: a socket that listens.
public final class RemoteTransport: Sendable {
    let descriptor: Int32
    /// As it was asked for.
    let address: NBDAddress
    /// Whether a service manager has made it: it goes on with the server, whatever addresses are asked for, and its file isn't ours.
    let isGiven: Bool
    /// Where clients find it, as an NBD URI.
    public let uri: String
    let isTCP: Bool
    /// The file of a Unix socket.
    let path: String?
    /// Whether that file goes with us.
    private let ownsPath: Atomic<Bool>

    /// Listens from now on.
    public init(_ address: NBDAddress) throws(ExportFault) {
        self.address = address
        isGiven = false
        ownsPath = Atomic(true)
        switch address {
        case .tcp(let host, let port):
            descriptor = try RemoteTransport.listen(host: host, port: port)
            let name = RemoteTransport.name(of: descriptor)
            uri = "nbd://\(name ?? "unknown")"
            path = nil
            isTCP = true
        case .unix(let path):
            descriptor = try RemoteTransport.listen(path: path)
            uri = "nbd+unix:///?socket=\(path)"
            self.path = path
            isTCP = false
        case .stp(let text):
            (descriptor, uri) = try STPTransport.listen(text)
            path = nil
            isTCP = false
        }
    }

    /// A socket that listens already. The file of a Unix socket is somebody else's, until `own` is called.
    init(inherited descriptor: Int32, _ address: NBDAddress, uri: String, isGiven: Bool) {
        self.descriptor = descriptor
        self.address = address
        self.isGiven = isGiven
        self.uri = uri
        ownsPath = Atomic(false)
        isTCP = if case .tcp = address { true } else { false }
        path = if case .unix(let path) = address { path } else { nil }
    }

    /// A socket that a service manager has made, and passed under this number.
    public convenience init(given descriptor: Int32) throws(ExportFault) {
        var listens: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let isNamed = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe getsockname(
                descriptor, UnsafeMutableRawPointer(storage).assumingMemoryBound(to: sockaddr.self), &length) == 0
        }
        guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0, isNamed, listens != 0
        else {
            throw ExportFault(
                "descriptor \(descriptor), which was passed, is no socket that listens: Accept= must be no")
        }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        if Int32(storage.ss_family) == AF_UNIX {
            let path = unsafe withUnsafeBytes(of: storage) { bytes in
                unsafe String(
                    decoding: bytes[MemoryLayout<sa_family_t>.size..<Int(length)].prefix { $0 != 0 }, as: UTF8.self)
            }
            self.init(
                inherited: descriptor, .unix(path: path), uri: "nbd+unix:///?socket=\(path)", isGiven: true)
        } else {
            let uri = "nbd://\(RemoteTransport.name(of: descriptor) ?? "unknown")"
            self.init(inherited: descriptor, try NBDAddress(uri), uri: uri, isGiven: true)
        }
    }

    deinit {
        _ = close(descriptor)
        if let path, ownsPath.load(ordering: .relaxed) { _ = unsafe unlink(path) }
    }

    /// The file of a Unix socket goes with this process, or with another one that has the socket too.
    func own(_ isOurs: Bool) { ownsPath.store(isOurs && !isGiven, ordering: .relaxed) }

    /// Who a client is that was accepted here.
    func peer(of accepted: Int32) -> Peer {
        isTCP ? Peer.ofTCP(accepted) : path == nil ? Peer() : Peer.ofUnix(accepted)
    }

    /// The next client, or minus an errno.
    func accept() -> Int32 {
        // By libc's call: under `skein run` clients may come by shared memory.
        let accepted = Glibc.accept(descriptor, nil, nil)
        guard accepted >= 0 else { return -errno }
        _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
        _ = fcntl(accepted, F_SETFL, fcntl(accepted, F_GETFL) | O_NONBLOCK)
        if isTCP { RemoteTransport.set(Int32(IPPROTO_TCP), TCP_NODELAY, of: accepted) }
        return accepted
    }

    // MARK: - TCP

    private static func listen(host: String?, port: UInt16) throws(ExportFault) -> Int32 {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        // Without a host an IPv6 socket takes IPv4 too.
        let result = unsafe getaddrinfo(host ?? "::", "\(port)", &hints, &list)
        guard result == 0, let first = unsafe list else {
            throw ExportFault(
                "the host '\(host ?? "")' is unknown: \(unsafe String(cString: gai_strerror(result)))", isAddress: true)
        }
        defer { unsafe freeaddrinfo(first) }
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = unsafe socket(first.pointee.ai_family, kind, 0)
        if descriptor >= 0 {
            set(SOL_SOCKET, SO_REUSEADDR, of: descriptor)
            if unsafe Glibc.bind(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0,
                Glibc.listen(descriptor, 4096) == 0
            {
                return descriptor
            }
        }
        let reason = errno
        _ = close(descriptor)
        let advice =
            reason == EADDRINUSE ? "the port is taken; choose another one" : unsafe String(cString: strerror(reason))
        throw ExportFault("can't listen on \(host ?? "all addresses"), port \(port): \(advice)", isAddress: true)
    }

    private static func set(_ level: Int32, _ option: Int32, of descriptor: Int32) {
        var on: Int32 = 1
        _ = unsafe setsockopt(descriptor, level, option, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    /// The address that a socket listens on, in numbers.
    private static func name(of descriptor: Int32) -> String? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var port = [CChar](repeating: 0, count: Int(NI_MAXSERV))
        let result = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            let address = unsafe UnsafeMutableRawPointer(storage).assumingMemoryBound(to: sockaddr.self)
            guard unsafe getsockname(descriptor, address, &length) == 0 else { return Int32(-1) }
            return unsafe getnameinfo(
                address, length, &host, socklen_t(host.count), &port, socklen_t(port.count),
                NI_NUMERICHOST | NI_NUMERICSERV)
        }
        guard result == 0 else { return nil }
        let texts = [host, port].map { text in
            String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
        return storage.ss_family == sa_family_t(AF_INET6) ? "[\(texts[0])]:\(texts[1])" : "\(texts[0]):\(texts[1])"
    }

    // MARK: - Unix

    private static func listen(path: String) throws(ExportFault) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, kind, 0)
        if bind(descriptor, to: path) { return try listening(descriptor, path) }
        if errno == EADDRINUSE {
            // One that nobody listens on was left behind.
            let probe = socket(AF_UNIX, kind, 0)
            defer { _ = close(probe) }
            let isDead = unsafe withAddress(path) { unsafe connect(probe, $0, $1) != 0 } && errno == ECONNREFUSED
            if isDead, unsafe unlink(path) == 0, bind(descriptor, to: path) { return try listening(descriptor, path) }
            errno = EADDRINUSE
        }
        let reason = errno
        _ = close(descriptor)
        let advice = reason == EADDRINUSE ? "something else has that name" : unsafe String(cString: strerror(reason))
        throw ExportFault("can't listen on the Unix socket \(path): \(advice)", isAddress: true)
    }

    private static func listening(_ descriptor: Int32, _ path: String) throws(ExportFault) -> Int32 {
        guard Glibc.listen(descriptor, 4096) == 0 else {
            _ = close(descriptor)
            throw ExportFault("can't listen on the Unix socket \(path)", isAddress: true)
        }
        return descriptor
    }

    private static func bind(_ descriptor: Int32, to path: String) -> Bool {
        unsafe withAddress(path) { unsafe Glibc.bind(descriptor, $0, $1) == 0 }
    }

    private static func withAddress<Result>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { room in
            unsafe room.copyBytes(from: Array(path.utf8.prefix(room.count - 1)))
        }
        return unsafe withUnsafePointer(to: address) { address in
            unsafe body(
                UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self),
                socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}
