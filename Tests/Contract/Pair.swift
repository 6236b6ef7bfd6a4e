import CContract
import Glibc

let streamType = Int32(SOCK_STREAM.rawValue)
let nonBlockType = Int32(SOCK_NONBLOCK.rawValue)
let closeOnExecType = Int32(SOCK_CLOEXEC.rawValue)

extension Face {
    func stream(_ family: Family? = nil, flags: Int32 = 0) throws -> Sock {
        let fd = Int32(try Outcome(socket((family ?? families[0]).number, streamType | flags, 0)).value)
        let sock = Sock(face: self, fd: fd)
        // Most cases have both ends in one thread, which can't wait for itself.
        if contract != .tcp {
            try sock.setParameter(.connect, Parameter.connectQueued)
            try sock.setParameter(.closeLimit, 0)
        }
        return sock
    }

    /// A listener on an ephemeral port of the loopback address.
    func listener(_ family: Family? = nil, backlog: Int32 = 16) throws -> Listener {
        let family = family ?? families[0]
        let sock = try stream(family)
        let bound = address(family, 0).with { Outcome(bind(sock.fd, $0, $1)) }
        try expect(bound, 0, "bind")
        try expect(Outcome(listen(sock.fd, backlog)), 0, "listen")
        return Listener(sock: sock, address: sock.name().address, family: family)
    }

    func connected(_ address: Address, _ family: Family? = nil) throws -> Sock {
        let sock = try stream(family)
        try expect(sock.connect(address), 0, "connect")
        return sock
    }
}

struct Listener: Sendable {
    let sock: Sock
    let address: Address
    let family: Family

    func accept() throws -> Sock {
        Sock(face: sock.face, fd: Int32(try Outcome(sock.face.accept(sock.fd, nil, nil)).value))
    }

    func connect() throws -> Sock { try sock.face.connected(address, family) }
    func close() { sock.close() }
}

/// Both ends of one connection, in this process.
struct Pair: Sendable {
    let client: Sock
    let server: Sock

    init(_ face: Face, _ family: Family? = nil) throws {
        let listener = try face.listener(family)
        client = try listener.connect()
        server = try listener.accept()
        listener.close()
    }

    var ends: [(String, Sock, Sock)] { [("the client", client, server), ("the accepted end", server, client)] }
}

/// A forked process of a case, and the two pipes by which it takes turns with its parent.
struct Child: Sendable {
    let pid: pid_t
    let toChild: Pipe
    let toParent: Pipe

    /// Runs `body` in a child; what it throws comes out of `join`.
    init(_ body: (Turns) throws -> Void) {
        toChild = Pipe()
        toParent = Pipe()
        pid = cx_fork()
        guard pid == 0 else {
            toChild.closeReader()
            toParent.closeWriter()
            return
        }
        toChild.closeWriter()
        toParent.closeReader()
        do {
            try body(Turns(mine: toChild, theirs: toParent))
            _exit(0)
        } catch {
            print("# in a child process: \(error)")
            fflush(cx_standard_output())
            _exit(1)
        }
    }

    func signal() { toChild.signal() }
    func takeTurn() throws { try toParent.takeTurn() }

    func join() throws {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        try expect(cx_exit_code(status), 0, "exit of a child process")
    }

    func kill() {
        _ = Glibc.kill(pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    }
}

/// The child's end of the turns.
struct Turns {
    let mine: Pipe
    let theirs: Pipe

    func signal() { theirs.signal() }
    func takeTurn() throws { try mine.takeTurn() }

    /// Keeps the process and its descriptors until the parent is gone or kills it.
    func stay() { while (try? takeTurn()) != nil {} }
}
