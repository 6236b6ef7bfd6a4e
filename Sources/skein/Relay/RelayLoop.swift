import Glibc
import Skein

/// The event loop: all connections of a relay in one thread.
struct RelayLoop: ~Copyable {
    /// The listener's number in events; connections count from 1.
    private static let listenerNumber: UInt64 = 0
    /// Clients taken in a row before others have their turn.
    private static let acceptsInTurn = 64
    /// Between two tries of what was short.
    private static let retryMilliseconds: Int32 = 20

    private let source: RelayEnd
    private let target: RelayEnd
    private let isVerbose: Bool
    private let listener: StreamSocket
    private var events: EventSet
    private var connections: [UInt64: RelayedConnection] = [:]
    private var lastNumber = RelayLoop.listenerNumber
    /// Those that can go on without an event.
    private var unfinished: Set<UInt64> = []
    /// Those that wait for what is short.
    private var waiting: Set<UInt64> = []
    private var isAccepting = false
    /// Both are said once, until they are over.
    private var isRefusalSaid = false
    private var isShortageSaid = false
    private var room = [UInt8](repeating: 0, count: Pump.capacity)

    /// Listens from now on, or says what to do.
    init(from source: RelayEnd, to target: RelayEnd, isVerbose: Bool) throws {
        let listener = try source.listen()
        let events = try RelayLoop.newEvents()
        self.source = source
        self.target = target
        self.isVerbose = isVerbose
        self.listener = listener
        self.events = events
    }

    private static func newEvents() throws -> EventSet {
        do {
            return try EventSet()
        } catch {
            throw failure("no epoll set can be made: \(error.text)")
        }
    }

    /// Where clients come to.
    var address: String { source.name(of: listener) }

    /// Goes on until a signal ends the process.
    mutating func run() {
        resumeAccepting()
        while true {
            let isShort = !waiting.isEmpty || !isAccepting
            let timeout = !unfinished.isEmpty ? 0 : isShort ? RelayLoop.retryMilliseconds : -1
            for mark in events.wait(milliseconds: timeout) { handle(mark) }
            for number in unfinished { settle(number) { $0.pump(through: &$1.room) } }
            if isShort { retry() }
        }
    }

    private mutating func handle(_ mark: UInt64) {
        let number = mark >> 1
        if number == RelayLoop.listenerNumber { return accept() }
        let side = RelayedConnection.Side(rawValue: mark & 1) ?? .client
        settle(number) { connection, loop in connection.turn(side, to: loop.target, through: &loop.room) }
    }

    // MARK: - Connections

    /// Gives a connection its turn and does what comes of it.
    private mutating func settle(
        _ number: UInt64, _ turn: (RelayedConnection, inout RelayLoop) -> RelayedConnection.Standing?
    ) {
        guard let connection = connections[number], let standing = turn(connection, &self) else { return }
        if let descriptor = connection.newTarget.take() { watch(descriptor, number, .target) }
        unfinished.remove(number)
        waiting.remove(number)
        switch standing {
        case .waits: break
        case .unfinished: unfinished.insert(number)
        case .short(let errno):
            waiting.insert(number)
            if isShortage(errno) { stopAccepting(errno) }
        case .ended, .reset, .refused: end(connection, standing)
        }
    }

    private mutating func end(_ connection: RelayedConnection, _ standing: RelayedConnection.Standing) {
        connections[connection.number] = nil
        let (forth, back) = connection.counts
        if case .refused(let reason) = standing {
            let message = "connection \(connection.number) was refused: \(reason)"
            if isVerbose || !isRefusalSaid { complain(message) }
            isRefusalSaid = true
        } else {
            if case .reset = standing {
                tell("connection \(connection.number) was reset after \(forth) bytes there and \(back) back")
            } else {
                tell("connection \(connection.number) ended after \(forth) bytes there and \(back) back")
            }
            isRefusalSaid = false
        }
        // Its descriptors may be what others wait for.
        if !isAccepting { resumeAccepting() }
    }

    private mutating func retry() {
        for number in waiting {
            settle(number) { connection, loop in connection.connect(to: loop.target) }
        }
        if !isAccepting && waiting.isEmpty { resumeAccepting() }
    }

    // MARK: - Accepting

    private mutating func accept() {
        for _ in 0..<RelayLoop.acceptsInTurn {
            do {
                let client = try listener.accept()
                try client.setNonBlocking(true)
                add(client)
            } catch {
                if error.errno == EAGAIN {
                    isShortageSaid = false
                    return
                }
                // Any other error is that of one client, who is gone.
                if isShortage(error.errno) { return stopAccepting(error.errno) }
            }
            if !isAccepting { return }
        }
    }

    private mutating func add(_ client: consuming StreamSocket) {
        lastNumber += 1
        tell("connection \(lastNumber) from \(source.name(of: client, peer: true))")
        watch(client.descriptor, lastNumber, .client)
        connections[lastNumber] = RelayedConnection(lastNumber, client: client)
        settle(lastNumber) { connection, loop in connection.connect(to: loop.target) }
    }

    private mutating func stopAccepting(_ errno: Int32) {
        guard isAccepting else { return }
        isAccepting = false
        events.remove(listener.descriptor)
        if isShortageSaid { return }
        isShortageSaid = true
        let advice = errno == EMFILE ? "; more at once take a higher limit, 'ulimit -n'" : ""
        complain("\(SystemError(code: errno).text): new clients wait until a connection has ended\(advice)")
    }

    private mutating func resumeAccepting() {
        isAccepting = true
        events.add(listener.descriptor, RelayLoop.listenerNumber << 1, .readable)
    }

    private func watch(_ descriptor: Int32, _ number: UInt64, _ side: RelayedConnection.Side) {
        events.add(descriptor, number << 1 | side.rawValue, .changes)
    }

    private func tell(_ message: String) {
        if isVerbose { complain(message) }
    }
}
