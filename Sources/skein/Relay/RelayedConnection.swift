import Glibc
import Skein

/// A client, and the connection to the target that stands for it.
final class RelayedConnection {
    /// Whose event it is.
    enum Side: UInt64 { case client, target }

    /// How it stands after a turn.
    enum Standing {
        /// Nothing moves until a socket has an event.
        case waits
        /// More could be moved at once, but others have their turn first.
        case unfinished
        case ended
        /// An end was reset, and so was the other.
        case reset
        /// The target can't be reached now: to be tried again.
        case short(errno: Int32)
        /// The target can't be reached, and the client was reset.
        case refused(String)
    }

    /// Steps of one turn, each of which moves `Pump.capacity` at most.
    private static let stepsInTurn = 16

    let number: UInt64
    private let client: StreamSocket
    private var target: StreamSocket?
    /// The target's descriptor while nobody watches it yet: to be taken by who does.
    var newTarget: Int32?
    /// Which of the target's addresses is tried.
    private var choice = 0
    private var isConnected = false
    private var toTarget = Pump()
    private var toClient = Pump()

    init(_ number: UInt64, client: consuming StreamSocket) {
        self.number = number
        self.client = client
    }

    /// Bytes that the target and the client have taken.
    var counts: (toTarget: UInt64, toClient: UInt64) { (toTarget.count, toClient.count) }

    /// Begins to connect to the target, or tries again.
    func connect(to end: RelayEnd) -> Standing {
        while true {
            switch end.connect(choice: choice) {
            case .begun(let socket):
                newTarget = socket.descriptor
                target = consume socket
                return .waits
            case .short(let errno): return .short(errno: errno)
            case .refused(let reason):
                choice += 1
                if choice == end.choices { return refuse(reason) }
            }
        }
    }

    /// Lets bytes flow, after any event. The target's first one says how connecting went; before it the client's
    /// change nothing, and nil is returned.
    func turn(_ side: Side, to end: RelayEnd, through room: inout [UInt8]) -> Standing? {
        if !isConnected {
            guard side == .target, target != nil else { return nil }
            if let error = connectError() {
                target = nil
                choice += 1
                return choice == end.choices ? refuse(SystemError(code: error).text) : connect(to: end)
            }
            isConnected = true
        }
        return pump(through: &room)
    }

    private func connectError() -> Int32? {
        do { return try target?.takeError() } catch { return error.errno }
    }

    /// Goes on where the last turn left off.
    func pump(through room: inout [UInt8]) -> Standing {
        guard let target = target.take() else { return .waits }
        let standing = pump(to: target, through: &room)
        self.target = consume target
        return standing
    }

    private func pump(to target: borrowing StreamSocket, through room: inout [UInt8]) -> Standing {
        for _ in 0..<RelayedConnection.stepsInTurn {
            let forth = toTarget.step(from: client, to: target, through: &room)
            let back = toClient.step(from: target, to: client, through: &room)
            switch (forth, back) {
            case (.reset, _), (_, .reset):
                resetOnClose(client)
                resetOnClose(target)
                return .reset
            case (.ended, .ended): return .ended
            case (.moved, _), (_, .moved): break
            default: return .waits
            }
        }
        return .unfinished
    }

    private func refuse(_ reason: String) -> Standing {
        resetOnClose(client)
        return .refused(reason)
    }

    private func resetOnClose(_ socket: borrowing StreamSocket) { try? socket.setOption(.linger, to: .zero) }
}
