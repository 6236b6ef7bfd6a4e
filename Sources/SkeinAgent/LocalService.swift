import Glibc
import SkeinConduit
import SkeinGroup

/// What the agent does for programs of its own host: streams to ports of other hosts, and ports where streams come in.
///
/// Each program's connection to the control socket is for one thing, which its first frame says. A stream's connection is
/// the program's end of a filament: what the program doesn't read stays in the filament, and what the filament doesn't
/// take stays in the program's socket.
final class LocalService {
    /// What a program listens on.
    struct Port {
        let listener: LocalConnection
        /// Streams from other hosts that no program has accepted yet, the oldest first.
        var offers: [GroupFilament] = []
        /// Programs that wait for one.
        var acceptors: [LocalConnection] = []
    }

    /// Numbers of members of the watcher below this one are the agent's own.
    static let firstNumber: UInt64 = 16
    /// Bytes that one connection moves before others have their turn.
    private static let turn = 256 << 10
    /// Clients that are looked at before others have their turn: who is none may come again and again.
    private static let clientsAtOnce = 64

    private let socket: ControlSocket
    /// Programs' sockets; nil where the agent can't have any.
    let sockets: GroupSockets?
    private let watcher: Watcher
    private var nextNumber = LocalService.firstNumber
    private var connections: [UInt64: LocalConnection] = [:]
    var ports: [UInt16: Port] = [:]
    /// Who has which stream.
    var streams: [GroupFilament: LocalConnection] = [:]
    /// Connections on which something may move.
    private var listed: [LocalConnection] = []
    private var mayAccept = true
    /// What is read from a socket, and what is read from a filament behind the header of its frame.
    private var inputRoom = [UInt8](repeating: 0, count: LocalFrameHeader.size + LocalFrameHeader.largestBody)
    private var outputRoom = [UInt8](repeating: 0, count: LocalFrameHeader.size + LocalFrameHeader.largestBody)

    init(_ socket: ControlSocket, _ sockets: GroupSockets?, _ watcher: Watcher) {
        self.socket = socket
        self.sockets = sockets
        self.watcher = watcher
    }

    /// What becomes readable when programs come: those of the control socket, and those with sockets.
    var descriptors: [Int32] { [socket.descriptor, sockets?.descriptor].compactMap { $0 } }

    /// Whether some connection has more to do than its turn allowed, or another may come now that one has gone.
    var isBusy: Bool { !listed.isEmpty || mayAccept }

    // MARK: What happens

    /// Programs may have come.
    func programsCame() { mayAccept = true }

    /// A program's socket has changed.
    func changed(_ number: UInt64, isReadable: Bool, isWritable: Bool) {
        guard let connection = connections[number] else { return }
        if isReadable { connection.mayRead = true }
        if isWritable { connection.mayWrite = true }
        list(connection)
    }

    /// Something happened to a filament.
    func heed(_ event: FilamentEvent, of filament: GroupFilament, _ group: inout GroupHost) {
        if case .opened(_, let kind, let address) = event {
            return offered(filament, kind, address, &group)
        }
        guard let connection = streams[filament] else { return withdrawn(filament, event) }
        switch event {
        case .opened, .urgent, .delivered: break
        case .accepted: connection.tell(.ready())
        case .readable, .ended: break
        case .writable: connection.isBlocked = false
        case .refused(_, let error): finish(connection, .refused(error))
        case .reset(_, let error): finish(connection, .reset(error))
        case .closed:
            connection.concludes()
            finish(connection, connection.hasToldEnd ? nil : .end)
        }
        list(connection)
    }

    /// Lets each connection on which something may move have its turn.
    func serve(_ group: inout GroupHost) {
        if mayAccept {
            mayAccept = false
            acceptPrograms()
            acceptClients(&group)
        }
        let turn = listed
        listed = []
        for connection in turn {
            connection.isListed = false
            serve(connection, &group)
        }
    }

    // MARK: Connections

    func list(_ connection: LocalConnection) {
        if connection.isListed { return }
        connection.isListed = true
        listed.append(connection)
    }

    // Who finds no room is looked at again when another one comes, or one goes.

    private func acceptPrograms() {
        while let descriptor = socket.accept() { keep { LocalConnection($0, descriptor) } }
    }

    private func acceptClients(_ group: inout GroupHost) {
        guard let sockets else { return }
        for _ in 0..<LocalService.clientsAtOnce {
            switch sockets.accept() {
            case .client(let client):
                let connection = keep { SocketConnection($0, client.descriptor, isAnswered: false) }
                connect(connection, client, &group)
            case .stranger: continue
            case .nobody: return
            }
        }
        mayAccept = true
    }

    /// A new connection, under a number of its own.
    @discardableResult
    func keep<Connection: LocalConnection>(_ make: (UInt64) -> Connection) -> Connection {
        let connection = make(nextNumber)
        nextNumber += 1
        connections[connection.number] = connection
        watcher.add(connection.descriptor, connection.number)
        list(connection)
        return connection
    }

    private func serve(_ connection: LocalConnection, _ group: inout GroupHost) {
        // One that was dropped may be in the list still.
        guard connections[connection.number] != nil else { return }
        var moved = 0
        while moved < LocalService.turn {
            guard connection.flush() else { return drop(connection, &group) }
            let before = moved
            moved += takeInput(of: connection, &group)
            guard let count = readFilament(of: connection, &group) else { return drop(connection, &group) }
            moved += count
            if moved == before { break }
        }
        if case .over = connection.purpose, connection.isFlushed { return drop(connection, &group) }
        if connection.isInputOver && !connection.isBlocked {
            guard let end = (connection as? SocketConnection)?.takeEnd() else { return drop(connection, &group) }
            if end { endFilament(of: connection, &group) }
        }
        if moved >= LocalService.turn { list(connection) }
    }

    /// The connection is for nothing any more: it is closed when that is sent.
    func finish(_ connection: LocalConnection, _ notice: Notice? = nil) {
        if case .stream(let filament) = connection.purpose { streams[filament] = nil }
        connection.purpose = .over
        if let notice { connection.tell(notice) }
        list(connection)
    }

    /// The program is gone, or has all that it is to have.
    private func drop(_ connection: LocalConnection, _ group: inout GroupHost) {
        switch connection.purpose {
        case .unknown, .over: break
        case .listening(let port): close(port, &group)
        case .accepting(let port): ports[port]?.acceptors.removeAll { $0 === connection }
        case .stream(let filament):
            streams[filament] = nil
            group.perform(filament) { conduit, number throws(FilamentFault) in
                // What it wrote still goes out, unless it has left something unread.
                if connection.isBroken || !connection.isFramed {
                    try conduit.reset(number, error: Conduit.ErrorNumber.connectionReset)
                } else {
                    try conduit.close(number)
                }
            }
        }
        connections[connection.number] = nil
        mayAccept = true
    }

    // MARK: From the program

    /// A socket's program sends nothing more.
    private func endFilament(of connection: LocalConnection, _ group: inout GroupHost) {
        guard case .stream(let filament) = connection.purpose else { return }
        group.perform(filament) { conduit, number throws(FilamentFault) in try conduit.end(number) }
    }

    /// Takes frames that were read, and reads more. Returns how many bytes were taken.
    private func takeInput(of connection: LocalConnection, _ group: inout GroupHost) -> Int {
        if case .over = connection.purpose {
            // Nobody wants it; what is unread would make the socket's end a reset.
            return connection.receive(&inputRoom)
        }
        var moved = 0
        if connection.taken < connection.input.count {
            let count = take(connection.input, connection.taken..<connection.input.count, connection, &group)
            connection.taken += count
            moved += count
            if connection.taken < connection.input.count && connection.isBlocked { return moved }
        }
        let rest = Array(connection.input[connection.taken...])
        let count = connection.receive(&inputRoom)
        if count == 0 { return moved }
        if rest.isEmpty {
            let taken = take(inputRoom, 0..<count, connection, &group)
            connection.input = Array(inputRoom[taken..<count])
            connection.taken = 0
            return moved + count
        }
        // The beginning of a frame, or of a request.
        connection.input = rest + inputRoom[..<count]
        connection.taken = 0
        connection.taken = take(connection.input, 0..<connection.input.count, connection, &group)
        return moved + count
    }

    /// Takes whole requests, and data as far as the filament does. Returns how many bytes.
    private func take(
        _ bytes: [UInt8], _ range: Range<Int>, _ connection: LocalConnection, _ group: inout GroupHost
    ) -> Int {
        if !connection.isFramed { return write(bytes, range, connection, &group) }
        var next = range.lowerBound
        while next < range.upperBound {
            if connection.dataLeft > 0 {
                let part = next..<min(next + connection.dataLeft, range.upperBound)
                let written = write(bytes, part, connection, &group)
                connection.dataLeft -= written
                next += written
                if written < part.count { break }
                continue
            }
            let rest = bytes[next..<range.upperBound]
            guard rest.count >= LocalFrameHeader.size else { break }
            guard let header = LocalFrameHeader(rest) else {
                misunderstood(connection, &group)
                return range.count
            }
            if header.type == .data, case .stream = connection.purpose {
                connection.dataLeft = header.length
                next += LocalFrameHeader.size
                continue
            }
            let end = next + LocalFrameHeader.size + header.length
            guard end <= range.upperBound else { break }
            take(header.type, Array(bytes[next + LocalFrameHeader.size..<end]), connection, &group)
            if case .over = connection.purpose { return range.count }
            next = end
        }
        return next - range.lowerBound
    }

    /// Gives data to the filament. Returns how much it took.
    private func write(
        _ bytes: [UInt8], _ part: Range<Int>, _ connection: LocalConnection, _ group: inout GroupHost
    ) -> Int {
        guard case .stream(let filament) = connection.purpose else { return part.count }
        do throws(FilamentFault) {
            let written = try group.with(filament) { conduit, number throws(FilamentFault) in
                try unsafe conduit.write(number, bytes.span.bytes.extracting(part))
            }
            connection.isBlocked = written < part.count
            return written
        } catch {
            // Of one that is gone the program is about to be told.
            if error != .gone { misunderstood(connection, &group) }
            return part.count
        }
    }

    // MARK: To the program

    /// Sends what the filament has, as far as the program takes it. Returns how many bytes; nil where the program is gone.
    private func readFilament(of connection: LocalConnection, _ group: inout GroupHost) -> Int? {
        guard case .stream(let filament) = connection.purpose, connection.mayWrite, connection.isFlushed else {
            return 0
        }
        let count = LocalService.read(filament, &group, into: &outputRoom)
        if count > 0 {
            var part = LocalFrameHeader.size..<LocalFrameHeader.size + count
            if connection.isFramed {
                for (index, byte) in LocalFrameHeader.bytes(.data, length: count).enumerated() {
                    outputRoom[index] = byte
                }
                part = 0..<part.upperBound
            }
            guard connection.send(outputRoom, part) else { return nil }
        }
        let isAtEnd = try? group.with(filament) { conduit, number throws(FilamentFault) in
            try conduit.isAtEnd(number)
        }
        if isAtEnd ?? false, !connection.hasToldEnd {
            connection.hasToldEnd = true
            connection.tell(.end)
            return count + LocalFrameHeader.size
        }
        return count
    }

    /// Reads into `room`, behind where the header of a frame is put.
    private static func read(_ filament: GroupFilament, _ group: inout GroupHost, into room: inout [UInt8]) -> Int {
        let count = try? group.with(filament) { conduit, number throws(FilamentFault) in
            var span = room.mutableSpan
            var bytes = unsafe span.mutableBytes
            let body = LocalFrameHeader.size..<LocalFrameHeader.size + LocalFrameHeader.largestBody
            var part = bytes._mutatingExtracting(body)
            return try conduit.read(number, into: &part)
        }
        return count ?? 0
    }
}
