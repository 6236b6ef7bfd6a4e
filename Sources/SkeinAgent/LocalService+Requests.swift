import Glibc
import SkeinConduit
import SkeinGroup

// What programs ask for, and the ports that they listen on.

extension LocalService {
    /// A whole frame that isn't data of a stream.
    func take(
        _ type: LocalFrameType, _ body: [UInt8], _ connection: LocalConnection, _ group: inout GroupHost
    ) {
        switch (connection.purpose, type) {
        case (.unknown, .connect): connect(connection, body, &group)
        case (.unknown, .listen): listen(connection, port(body))
        case (.unknown, .accept): accept(connection, port(body), &group)
        case (.stream(let filament), .end):
            let fault = group.perform(filament) { conduit, number throws(FilamentFault) in try conduit.end(number) }
            // Of one that is gone the program is about to be told.
            if let fault, fault != .gone { misunderstood(connection, &group) }
        case (.stream(let filament), .reset):
            let error = body.count == 4 ? (0..<4).reduce(0) { $0 | UInt32(body[$1]) << (8 * UInt32($1)) } : 0
            guard error > 0 && error < Limit.errors else { return misunderstood(connection, &group) }
            reset(filament, error: error, &group)
            finish(connection)
        default: misunderstood(connection, &group)
        }
    }

    /// A frame that no honest program sends here: its stream, if it has one, is reset.
    func misunderstood(_ connection: LocalConnection, _ group: inout GroupHost) {
        switch connection.purpose {
        case .stream(let filament):
            reset(filament, error: Conduit.ErrorNumber.connectionReset, &group)
            finish(connection, .reset(UInt32(EPROTO)))
        case .unknown: finish(connection, .refused(UInt32(EPROTO)))
        case .listening(let port):
            close(port, &group)
            finish(connection, .refused(UInt32(EPROTO)))
        case .accepting(let port):
            ports[port]?.acceptors.removeAll { $0 === connection }
            finish(connection, .refused(UInt32(EPROTO)))
        case .over: break
        }
    }

    private func reset(_ filament: GroupFilament, error: UInt32, _ group: inout GroupHost) {
        group.perform(filament) { conduit, number throws(FilamentFault) in try conduit.reset(number, error: error) }
    }

    // MARK: Connecting

    /// `HOST:PORT`: the filament is opened at once, and `ready` or `refused` follows.
    private func connect(_ connection: LocalConnection, _ body: [UInt8], _ group: inout GroupHost) {
        let text = String(decoding: body, as: UTF8.self)
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0
        else { return refuse(connection, EINVAL) }
        guard group.isMember else { return refuse(connection, ENETDOWN) }
        do throws(FilamentFault) {
            let filament = try group.open(
                to: String(text[..<colon]), kind: FilamentKind.stream, address: FilamentKind.address(port: port))
            guard let filament else { return refuse(connection, EHOSTUNREACH) }
            attach(connection, filament)
        } catch {
            refuse(connection, error == .exhausted ? EAGAIN : EHOSTUNREACH)
        }
    }

    func attach(_ connection: LocalConnection, _ filament: GroupFilament) {
        connection.purpose = .stream(filament)
        streams[filament] = connection
        list(connection)
    }

    func refuse(_ connection: LocalConnection, _ error: Int32) {
        finish(connection, .refused(UInt32(error)))
    }

    // MARK: Ports

    /// The body of a request that is about a port.
    private func port(_ body: [UInt8]) -> UInt16? { body.count == 2 ? UInt16(body[0]) | UInt16(body[1]) << 8 : nil }

    private func listen(_ connection: LocalConnection, _ port: UInt16?) {
        guard let port, port > 0 else { return refuse(connection, EINVAL) }
        guard ports[port] == nil else { return refuse(connection, EADDRINUSE) }
        ports[port] = Port(listener: connection)
        connection.purpose = .listening(port)
        connection.tell(.ready())
        list(connection)
    }

    private func accept(_ connection: LocalConnection, _ port: UInt16?, _ group: inout GroupHost) {
        guard let port, ports[port] != nil else { return refuse(connection, EINVAL) }
        connection.purpose = .accepting(port)
        ports[port]?.acceptors.append(connection)
        match(port, &group)
    }

    /// The listener is gone: nobody accepts there any more.
    func close(_ port: UInt16, _ group: inout GroupHost) {
        guard let closed = ports.removeValue(forKey: port) else { return }
        for filament in closed.offers { refuse(filament, ECONNREFUSED, &group) }
        for acceptor in closed.acceptors { refuse(acceptor, ECONNABORTED) }
    }

    // MARK: Offers

    /// Another host opens a filament.
    func offered(_ filament: GroupFilament, _ kind: UInt32, _ address: [UInt8], _ group: inout GroupHost) {
        guard kind == FilamentKind.stream, let (port, client) = FilamentKind.ports(address: address) else {
            return refuse(filament, EPROTONOSUPPORT, &group)
        }
        guard ports[port] != nil else { return bring(filament, to: port, clientPort: client ?? 0, &group) }
        ports[port]?.offers.append(filament)
        match(port, &group)
    }

    func refuse(_ filament: GroupFilament, _ error: Int32, _ group: inout GroupHost) {
        group.perform(filament) { conduit, number throws(FilamentFault) in
            try conduit.refuse(number, error: UInt32(error))
        }
    }

    /// Gives streams that wait to programs that wait.
    private func match(_ port: UInt16, _ group: inout GroupHost) {
        while let filament = ports[port]?.offers.first, let acceptor = ports[port]?.acceptors.first {
            ports[port]?.offers.removeFirst()
            guard let peer = group.peer(of: filament) else { continue }
            let fault = group.perform(filament) { conduit, number throws(FilamentFault) in
                try conduit.accept(number)
            }
            if fault != nil { continue }
            ports[port]?.acceptors.removeFirst()
            acceptor.tell(.ready(host: peer))
            attach(acceptor, filament)
        }
    }

    /// Something happened to a filament that no program has: perhaps one that waits to be accepted.
    func withdrawn(_ filament: GroupFilament, _ event: FilamentEvent) {
        guard case .reset = event else { return }
        for port in ports.keys { ports[port]?.offers.removeAll { $0 == filament } }
    }
}
