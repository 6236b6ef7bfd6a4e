import CSkein
import Glibc

/// An STP socket: a stream socket whose bytes travel through memory that both processes share.
///
/// It goes through the states of every stream socket: a fresh one is bound, then listens and accepts, or
/// connects; a connected one sends and receives; and it is closed. Each call is the C library's
/// (skein.h), and has its errors. There is one owner: the descriptor is released when the value goes out of
/// scope, without waiting; `close()` waits until the peer has read everything.
///
/// Threads may use one socket at once. Signals interrupt no call: the wait goes on. No call raises SIGPIPE.
public struct Socket: ~Copyable, Sendable {
    /// The descriptor, a real one: poll, select and epoll work on it, as do read, write, dup and fcntl, in any
    /// program that has this module. It stays this socket's: don't close it.
    public let descriptor: CInt

    /// A new socket, which exec closes (STPsocket).
    ///
    /// The errors are those of the runtime folder (`code` says what is wrong with it), `EMFILE`, `ENFILE` and
    /// `ENOMEM`.
    public init(nonBlocking: Bool = false) throws(SocketError) {
        let flags = CInt(SOCK_CLOEXEC.rawValue) | (nonBlocking ? CInt(SOCK_NONBLOCK.rawValue) : 0)
        let made = STPsocket(PF_STP, CInt(SOCK_STREAM.rawValue) | flags, PF_STP)
        guard made >= 0 else { throw SocketError(lastOf: "STPsocket") }
        descriptor = made
    }

    /// Takes over a descriptor that an STP call returned, or any stream socket: the calls that are STP's
    /// alone refuse another kind.
    public init(adopting descriptor: CInt) { self.descriptor = descriptor }

    /// A connection that another process gave (STPtakesocket), with its unread data and its options.
    ///
    /// `ENOENT`: no such gift, or taken already, or its time is over. `EPERM`: it is for another process or user.
    public init(taking gift: Gift) throws(SocketError) {
        let taken = unsafe gift.withToken { unsafe STPtakesocket($0) }
        guard taken >= 0 else { throw SocketError(lastOf: "STPtakesocket") }
        let socket = Socket(adopting: taken)
        try socket.setClosesOnExec(true)
        self = socket
    }

    deinit { _ = Glibc.close(descriptor) }

    /// Hands the descriptor over to the caller, who closes it.
    public consuming func release() -> CInt {
        let released = descriptor
        discard self
        return released
    }

    /// Waits until the peer has read everything or is gone, then releases the descriptor and everything
    /// behind it (STPclose, which STPshutdown with 2 does too).
    ///
    /// Where the peer has not read everything within `SocketOption.closeLimit`, the descriptor is released all
    /// the same, the peer can still read what is left, and the error says `EAGAIN` with the code `.unread`.
    /// With other copies of the descriptor left it doesn't wait.
    public consuming func close() throws(SocketError) {
        let result = STPclose(descriptor)
        discard self
        if result != 0 { throw SocketError(lastOf: "STPclose") }
        if STPerror(-1) == STP_EUNREAD {
            Glibc.errno = EAGAIN
            throw SocketError(lastOf: "STPclose")
        }
    }
}

// MARK: - Names

extension Socket {
    /// Gives the socket its local address (STPbind); port 0 takes a free one.
    ///
    /// `EADDRINUSE`: STP or TCP has the port. `EADDRNOTAVAIL`: not this group or host. `EACCES`: a port
    /// below 1024 without the privilege. `EINVAL`: bound already.
    public borrowing func bind(to address: Address) throws(SocketError) {
        let result = unsafe address.withSocketAddress { unsafe STPbind(descriptor, $0, $1) }
        guard result == 0 else { throw SocketError(lastOf: "STPbind") }
    }

    /// The socket's own address (STPgetsockname); its port is 0 while it has none.
    public var localAddress: Address {
        get throws(SocketError) {
            try unsafe Address.read("STPgetsockname") { unsafe STPgetsockname(descriptor, $0, $1) }
        }
    }

    /// The address of the peer (STPgetpeername). `ENOTCONN`.
    public var peerAddress: Address {
        get throws(SocketError) {
            try unsafe Address.read("STPgetpeername") { unsafe STPgetpeername(descriptor, $0, $1) }
        }
    }

    /// The socket's own address, which it gets now where it had none (STPgethostname).
    public borrowing func assignAddress() throws(SocketError) -> Address {
        try unsafe Address.read("STPgethostname") { unsafe STPgethostname(descriptor, $0, $1) }
    }
}

// MARK: - Connections

extension Socket {
    /// Takes connections from now on, `backlog` of them waiting at most (STPlisten). A socket without an
    /// address gets a free port. Once more: changes the backlog.
    public borrowing func listen(backlog: Int = 128) throws(SocketError) {
        guard STPlisten(descriptor, CInt(clamping: backlog)) == 0 else { throw SocketError(lastOf: "STPlisten") }
    }

    /// The connection that has waited longest (STPaccept), as a new socket, which exec closes; `peerAddress`
    /// says whose it is.
    ///
    /// `EAGAIN`: none waits, and the socket is non-blocking. `EMFILE`: the connection keeps waiting.
    public borrowing func accept() throws(SocketError) -> Socket {
        let accepted = try uninterrupted("STPaccept") { Int(STPaccept(descriptor, nil, nil)) }
        let connection = Socket(adopting: CInt(accepted))
        try connection.setClosesOnExec(true)
        return connection
    }

    /// Connects, and waits until the server has accepted (STPconnect), or with the option `.connectReturns` set to
    /// `.queued` until the connection is in the server's queue.
    ///
    /// A non-blocking socket throws `EINPROGRESS`, and is writable once accepted; then `takeError()` says how
    /// it went. `EAGAIN`: the queue is full. `ECONNREFUSED`: nobody listens, or the server closed before accepting.
    /// `EHOSTUNREACH`: another group or host, and no agent that knows it.
    public borrowing func connect(to address: Address) throws(SocketError) {
        _ = try uninterrupted("STPconnect") {
            unsafe Int(address.withSocketAddress { unsafe STPconnect(descriptor, $0, $1) })
        }
    }

    /// Ends one direction (STPshutdown with 0 or 1). For both there is `close()`. `ENOTCONN`.
    public borrowing func shutdown(_ direction: Direction) throws(SocketError) {
        guard STPshutdown(descriptor, direction.rawValue) == 0 else { throw SocketError(lastOf: "STPshutdown") }
    }

    /// What `shutdown` ends.
    public enum Direction: CInt, Sendable {
        /// No more is received, and what the peer still sends is refused: it gets `EPIPE`.
        case receiving = 0
        /// No more is sent, and the peer reads to the end.
        case sending = 1
    }

    /// Makes a call until no signal interrupts it.
    borrowing func uninterrupted(_ name: StaticString, _ call: () -> Int) throws(SocketError) -> Int {
        while true {
            let result = call()
            if result >= 0 { return result }
            if Glibc.errno != EINTR { throw SocketError(lastOf: name) }
        }
    }
}

// MARK: - Flags of the descriptor

extension Socket {
    /// Whether calls return `EAGAIN` instead of waiting (fcntl, `O_NONBLOCK`).
    public var isNonBlocking: Bool {
        get throws(SocketError) { try flags(F_GETFL) & O_NONBLOCK != 0 }
    }

    /// Makes calls wait, or not.
    public borrowing func setNonBlocking(_ on: Bool) throws(SocketError) {
        let others = try flags(F_GETFL) & ~O_NONBLOCK
        guard fcntl(descriptor, F_SETFL, on ? others | O_NONBLOCK : others) >= 0 else {
            throw SocketError("fcntl", errno: Glibc.errno)
        }
    }

    /// Whether exec closes the descriptor (fcntl, `FD_CLOEXEC`); it does unless told not to.
    public var closesOnExec: Bool {
        get throws(SocketError) { try flags(F_GETFD) & FD_CLOEXEC != 0 }
    }

    /// Lets a program that this process becomes or starts keep the descriptor, or not.
    public borrowing func setClosesOnExec(_ on: Bool) throws(SocketError) {
        let others = try flags(F_GETFD) & ~FD_CLOEXEC
        guard fcntl(descriptor, F_SETFD, on ? others | FD_CLOEXEC : others) >= 0 else {
            throw SocketError("fcntl", errno: Glibc.errno)
        }
    }

    private borrowing func flags(_ command: CInt) throws(SocketError) -> CInt {
        let flags = fcntl(descriptor, command)
        guard flags >= 0 else { throw SocketError("fcntl", errno: Glibc.errno) }
        return flags
    }
}
