import CSystem
import Glibc
import Skein

// Sockets of the kernel's, TCP and Unix.

extension StreamSocket {
    /// A socket of the kind that an address has, which exec closes.
    init(for address: SocketAddress, nonBlocking: Bool = false) throws(SystemError) {
        let flags = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | (nonBlocking ? SOCK_NONBLOCK.rawValue : 0)
        let descriptor = socket(address.family, Int32(flags), 0)
        if descriptor < 0 { throw SystemError.last }
        // TCP's habit of waiting for more before it sends has no use between two programs of one host. What a
        // listener accepts inherits it.
        if address.isTCP { switchOn(Int32(IPPROTO_TCP), TCP_NODELAY, of: descriptor) }
        self.init(adopting: descriptor)
    }

    /// One that listens.
    init(listeningAt address: SocketAddress, backlog: Int32) throws(SystemError) {
        let socket = try StreamSocket(for: address)
        let descriptor = socket.descriptor
        if address.isTCP { switchOn(SOL_SOCKET, SO_REUSEADDR, of: descriptor) }
        guard unsafe address.withPointer({ unsafe Glibc.bind(descriptor, $0, address.length) }) == 0,
            Glibc.listen(descriptor, backlog) == 0
        else { throw SystemError.last }
        self = socket
    }

    /// Connects in the kernel; `EINPROGRESS` from one that doesn't wait.
    borrowing func connect(to address: SocketAddress) throws(SystemError) {
        let descriptor = descriptor
        guard unsafe address.withPointer({ unsafe Glibc.connect(descriptor, $0, address.length) }) == 0 else {
            throw SystemError.last
        }
    }
}

private func switchOn(_ level: Int32, _ option: Int32, of descriptor: Int32) {
    var on: Int32 = 1
    _ = unsafe setsockopt(descriptor, level, option, &on, socklen_t(MemoryLayout<Int32>.size))
}
