import CContract
import Glibc

/// What this side has shut down.
enum OwnSide: String, CaseIterable, Sendable {
    case none, RD, WR, RDWR

    var shut: Shut? {
        switch self {
        case .none: nil
        case .RD: .read
        case .WR: .write
        case .RDWR: .both
        }
    }

    var words: String { self == .none ? "" : "shut \(rawValue) itself, " }
}

/// What the other side has done last.
enum PeerSide: String, CaseIterable, Sendable {
    case open, shutRead, halfClosed, shutBoth, closed, reset, linger, endReset, endLinger, killed, killedReset

    var words: String {
        switch self {
        case .open: "the peer is open"
        case .shutRead: "the peer shut RD"
        case .halfClosed: "the peer half-closed"
        case .shutBoth: "the peer shut RDWR"
        case .closed: "the peer closed"
        case .reset: "the peer closed with data unread"
        case .linger: "the peer closed with SO_LINGER 0"
        case .endReset: "the peer half-closed, then closed with data unread"
        case .endLinger: "the peer half-closed, then closed with SO_LINGER 0"
        case .killed: "the peer was killed"
        case .killedReset: "the peer was killed with data unread"
        }
    }

    /// The peer leaves bytes of ours unread, so that its close is a reset.
    var leavesUnread: Bool { self == .reset || self == .endReset || self == .killedReset }
    var dies: Bool { self == .killed || self == .killedReset }
}

/// One row's left side: everything that a socket's answers may depend on.
struct State: Hashable, Sendable {
    let own: OwnSide
    let peer: PeerSide
    let unread: Bool

    static let all: [State] = OwnSide.allCases.flatMap { own in
        PeerSide.allCases.flatMap { peer in [false, true].map { State(own: own, peer: peer, unread: $0) } }
    }

    var words: String { "\(own.words)\(peer.words), \(unread ? "data" : "nothing") is unread" }
}

/// Where the peer lives; the second also swaps the roles of client and accepted end.
enum Place: CaseIterable, Sendable {
    case here, elsewhere

    var words: String { self == .here ? "in this process" : "in another process" }
}

/// A socket that was brought into a state.
struct Stage: Sendable {
    let subject: Sock
    /// Kept so that the peer's descriptor stays open where the state says so.
    let peer: Sock?
    let child: Child?

    init(_ state: State, _ face: Face, _ family: Family, _ place: Place) throws {
        if place == .here && !state.peer.dies {
            let pair = try Pair(face, family)
            (subject, peer, child) = (pair.client, pair.server, nil)
            try Stage.prepare(pair.server, state)
            try Stage.prepareOwn(pair.client, state)
            try Stage.act(pair.server, state)
        } else {
            let listener = try face.listener(family)
            let child = Child { turns in
                let peer = try listener.connect()
                listener.close()
                try Stage.prepare(peer, state)
                turns.signal()
                try turns.takeTurn()
                try Stage.act(peer, state)
                turns.signal()
                turns.stay()
            }
            (subject, peer) = (try listener.accept(), nil)
            self.child = child
            listener.close()
            try child.takeTurn()
            try Stage.prepareOwn(subject, state)
            child.signal()
            try child.takeTurn()
            if state.peer.dies { child.kill() }
        }
    }

    private static func prepare(_ peer: Sock, _ state: State) throws {
        if state.unread { try expect(peer.write("data"), 4) }
    }

    /// Our own shutdown comes before the peer's act: after a reset it would be refused.
    private static func prepareOwn(_ subject: Sock, _ state: State) throws {
        if state.unread { try subject.awaitReadable() }
        if state.peer.leavesUnread { try expect(subject.write("left"), 4) }
        if let shut = state.own.shut { try expect(subject.shutdown(shut), 0, "shutdown") }
    }

    private static func act(_ peer: Sock, _ state: State) throws {
        if state.peer.leavesUnread { try peer.awaitReadable() }
        switch state.peer {
        case .open, .killed, .killedReset: break
        case .shutRead: try expect(peer.shutdown(.read), 0)
        case .halfClosed: try expect(peer.shutdown(.write), 0)
        case .shutBoth: try expect(peer.shutdown(.both), 0)
        case .closed, .reset: peer.close()
        case .linger:
            try peer.lingerZero()
            peer.close()
        case .endReset:
            try expect(peer.shutdown(.write), 0)
            peer.close()
        case .endLinger:
            try expect(peer.shutdown(.write), 0)
            try peer.lingerZero()
            peer.close()
        }
    }
}

/// Three reads in a row, as `data,EAGAIN,EAGAIN`.
func threeReads(_ sock: Sock, _ read: (Sock) -> Received) throws -> String {
    try sock.setNonBlocking()
    return (0..<3).map { _ in read(sock).description }.joined(separator: ",")
}

/// Three writes in a row, as `4,EPIPE,EPIPE`, and how many SIGPIPEs they raised.
///
/// Before the second and third an error gets the time to come back, where the row says that one comes.
func threeWrites(_ sock: Sock, errorFollows: Bool, _ write: (Sock) -> Outcome) throws -> String {
    SignalCount.start(SIGPIPE, flags: 0)
    try sock.setNonBlocking()
    var results: [String] = []
    for _ in 0..<3 {
        results.append(write(sock).description)
        if errorFollows { _ = sock.poll([], milliseconds: 2000) }
    }
    return results.joined(separator: ",") + ",\(SignalCount.value)xSIGPIPE"
}

/// SO_ERROR asked for twice, as `ECONNRESET,0`.
func twoErrors(_ sock: Sock) -> String { "\(sock.pendingError()),\(sock.pendingError())" }
