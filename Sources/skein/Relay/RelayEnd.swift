import ArgumentParser
import Glibc
import Skein

/// One of the two addresses of a relay.
enum RelayEnd {
    case tcp([SocketAddress])
    case stp(Address)

    /// One of the two as the user writes it.
    enum Written {
        case tcp(TCPAddress)
        case stp(Address)

        /// Reads ADDRESS, tcp:ADDRESS or stp:ADDRESS. `byDefault` says what it is without a prefix.
        init(_ text: String, byDefault prefix: String) throws {
            let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let isPrefixed = parts.count == 2 && (parts[0] == "tcp" || parts[0] == "stp")
            let address = isPrefixed ? String(parts[1]) : text
            if (isPrefixed ? String(parts[0]) : prefix) == "tcp" {
                self = .tcp(try TCPAddress(address))
            } else {
                self = .stp(try stpAddress(address))
            }
        }

        var isTCP: Bool {
            if case .tcp = self { true } else { false }
        }

        var port: UInt16 {
            switch self {
            case .tcp(let address): address.port
            case .stp(let address): address.port
            }
        }
    }

    /// Asks the system for the host's addresses where it has a name.
    init(_ written: Written) throws {
        switch written {
        case .tcp(let address): self = .tcp(try address.resolve())
        case .stp(let address): self = .stp(address)
        }
    }

    /// As the user could have written it, with its prefix.
    var text: String {
        switch self {
        case .tcp(let addresses): "tcp:\(addresses[0].text)"
        case .stp(let address): "stp:\(address)"
        }
    }

    /// A socket that listens there and never waits, or what to tell the user.
    func listen() throws -> StreamSocket {
        let listener: StreamSocket
        switch self {
        case .stp(let address): listener = try skein.listening(on: address, backlog: 1024)
        case .tcp(let addresses):
            listener = try RelayEnd.listening(at: addresses[0])
        }
        try listener.setNonBlocking(true)
        return listener
    }

    private static func listening(at address: SocketAddress) throws -> StreamSocket {
        do {
            return try StreamSocket(listeningAt: address, backlog: 4096)
        } catch {
            let reason =
                switch error.code {
                case EADDRINUSE: "an STP or TCP socket of this host has the port; choose another one"
                case EADDRNOTAVAIL: "no interface of this host has that address; give one that has, or 0.0.0.0 or [::]"
                case EACCES: "ports below 1024 are for root; choose another one"
                default: error.text
                }
            throw failure("can't listen on \(address.text): \(reason)", code: Exit.unreachable)
        }
    }

    /// The address that a socket of this kind has itself, or that of its peer.
    func name(of socket: borrowing StreamSocket, peer: Bool = false) -> String {
        switch self {
        case .tcp:
            let address = unsafe SocketAddress(of: socket.descriptor) { descriptor, address, length in
                unsafe peer ? getpeername(descriptor, address, length) : getsockname(descriptor, address, length)
            }
            return "tcp:\(address?.text ?? "an unknown address")"
        case .stp:
            let address = peer ? try? socket.peerAddress : try? socket.localAddress
            return "stp:\(address?.description ?? "an unknown address")"
        }
    }
}

// MARK: - Connecting

/// How an attempt to connect went.
enum Attempt: ~Copyable {
    /// It is under way: the socket is writable once that is decided.
    case begun(StreamSocket)
    /// Something is short for the moment: to be tried again.
    case short(errno: Int32)
    /// Nobody is there.
    case refused(String)
}

extension RelayEnd {
    /// How many addresses there are to try, one after the other.
    var choices: Int {
        if case .tcp(let addresses) = self { addresses.count } else { 1 }
    }

    /// Begins to connect to one of them.
    func connect(choice: Int) -> Attempt {
        switch self {
        case .stp(let address): RelayEnd.attempt(address)
        case .tcp(let addresses): RelayEnd.attempt(addresses[choice])
        }
    }

    private static func attempt(_ address: Address) -> Attempt {
        do {
            let socket = try StreamSocket(nonBlocking: true)
            do {
                try socket.connect(to: address)
            } catch  where error.errno == EINPROGRESS {}
            return .begun(socket)
        } catch {
            return isShortage(error.errno) || error.errno == EAGAIN
                ? .short(errno: error.errno) : .refused(explanation(of: error))
        }
    }

    private static func attempt(_ address: SocketAddress) -> Attempt {
        do throws(SystemError) {
            let socket = try StreamSocket(for: address, nonBlocking: true)
            do throws(SystemError) {
                try socket.connect(to: address)
            } catch  where error.code == EINPROGRESS {}
            return .begun(socket)
        } catch {
            return isShortage(error.code) || error.code == EAGAIN
                ? .short(errno: error.code) : .refused("\(address.text): \(error.text)")
        }
    }
}

/// Whether an errno says that descriptors or memory ran out.
func isShortage(_ errno: Int32) -> Bool { [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(errno) }
