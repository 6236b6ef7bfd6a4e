import CContract
import Glibc

/// The few things in which a call of skein.h is meant to differ from TCP's: what each of them does, side by side.
///
/// The table of states has rows of its own for two of them.
enum DifferenceCases {
    static let cases: [Case] = connecting + closing + shutting + unconnected + options + addresses

    // MARK: STPconnect waits until the server has accepted, unless STP_CONNECT is set to queued

    private static let connecting: [Case] =
        differing(
            "STPconnect waits until the server has accepted",
            tcp: eachFamily("connect returns while the connection waits to be accepted") { face, family in
                let listener = try face.listener(family)
                let sock = try face.stream(family)
                try expect(sock.connect(listener.address), 0)
                try expect(listener.sock.poll(.readable), .readable)
            }
                + eachFamily("a non-blocking connect is writable while the connection waits to be accepted") {
                    face, family in
                    let listener = try face.listener(family)
                    let sock = try face.stream(family, flags: nonBlockType)
                    _ = sock.connect(listener.address)
                    try expect(sock.poll(.writable, milliseconds: 5000), .writable)
                    try expect(listener.sock.poll(.readable), .readable)
                },
            stp: eachFamily("connect returns once the server has accepted, not before") { face, family in
                let listener = try face.listener(family)
                let sock = try face.waiting(family)
                let server = Worker {
                    pause(milliseconds: 50)
                    let time = seconds()
                    return (time, try listener.accept())
                }
                try expect(sock.connect(listener.address), 0)
                let returned = seconds()
                try expect(returned > server.join().0, "a return after accept was called", got: "one before")
            }
                + eachFamily("a non-blocking connect is writable once the server has accepted, not before") {
                    face, family in
                    let listener = try face.listener(family)
                    let sock = try face.waiting(family, flags: nonBlockType)
                    try expect(sock.connect(listener.address), .failed(EINPROGRESS))
                    try expect(sock.connect(listener.address), .failed(EALREADY))
                    try expect(sock.poll([.readable, .writable], milliseconds: 30), [])
                    try expect(sock.peerName().result, .failed(ENOTCONN))
                    let server = try listener.accept()
                    try expect(sock.poll([.readable, .writable], milliseconds: 5000), .writable)
                    try expect(sock.pendingError(), "0")
                    try expect(sock.peerName().address, listener.address)
                    try expect(server.peerName().address, sock.name().address)
                }
                + ["poll", "select", "epoll_wait"].flatMap { way in
                    eachFamily("a thread blocked in \(way) on a non-blocking connect is woken when the server accepts")
                    {
                        face, family in
                        let listener = try face.listener(family)
                        let sock = try face.waiting(family, flags: nonBlockType)
                        try expect(sock.connect(listener.address), .failed(EINPROGRESS))
                        let worker = Worker { try awaitWritable(sock, way) }
                        pause(milliseconds: 30)
                        _ = try listener.accept()
                        try expect(worker.join(), true)
                    }
                }
                + eachFamily("connect is ECONNREFUSED when the listener is closed before it accepts") { face, family in
                    let listener = try face.listener(family)
                    let sock = try face.waiting(family)
                    let worker = Worker { sock.connect(listener.address) }
                    try expect(listener.sock.poll(.readable, milliseconds: 5000), .readable)
                    listener.close()
                    try expect(worker.join(), .failed(ECONNREFUSED))
                }
                + eachFamily("SO_SNDTIMEO ends a waiting connect with EINPROGRESS, and the connection still comes") {
                    face, family in
                    let listener = try face.listener(family)
                    let sock = try face.waiting(family)
                    try sock.setTimeout(SO_SNDTIMEO, milliseconds: 30)
                    try expect(sock.connect(listener.address), .failed(EINPROGRESS))
                    let server = try listener.accept()
                    try expect(sock.poll(.writable, milliseconds: 5000), .writable)
                    try expect(server.write("x"), 1)
                    try expect(sock.read(), "x")
                })
        + eachFamily("connect, interrupted by a signal without SA_RESTART, is EINTR, and goes on when called again") {
            face, family in
            let (listener, sock, worker) = try interruptedConnect(face, family)
            try expect(worker.join(), .failed(EINTR))
            let again = Worker { sock.connect(listener.address) }
            _ = try listener.accept()
            try expect(again.join(), 0)
        }.holding(for: [.stp], restarting)
        + eachFamily("connect, interrupted by a signal without SA_RESTART, goes on") { face, family in
            let (listener, _, worker) = try interruptedConnect(face, family)
            pause(milliseconds: 20)
            _ = try listener.accept()
            try expect(worker.join(), 0)
        }.holding(for: [.swift], restarting)

    static let restarting = "module Skein makes a call again that a signal interrupted"

    /// A connect that waits in a thread and has met a signal.
    private static func interruptedConnect(
        _ face: Face, _ family: Family
    ) throws -> (listener: Listener, sock: Sock, worker: Worker<Outcome>) {
        SignalCount.start(SIGUSR1, flags: 0)
        let listener = try face.listener(family)
        let sock = try face.waiting(family)
        let worker = Worker { sock.connect(listener.address) }
        worker.interrupt(SIGUSR1)
        return (listener, sock, worker)
    }

    private static func awaitWritable(_ sock: Sock, _ way: String) throws -> Bool {
        switch way {
        case "poll": return sock.poll(.writable, milliseconds: -1) == .writable
        case "select": return select(sock, .write, milliseconds: nil).ready == .write
        default:
            let set = try EpollSet(sock.face)
            try expect(set.add(sock, .writable), 0)
            return try set.wait(milliseconds: -1) == [Ready(events: .writable, data: 0)]
        }
    }

    // MARK: STPclose waits until the peer has read everything

    private static let closing: [Case] = differing(
        "STPclose waits until the peer has read everything, STP_CLOSE_LIMIT at most",
        tcp: paired("close returns while what was sent is unread, and the peer reads it") { first, second in
            try expect(first.write("last"), 4)
            first.close()
            try expect(second.readFully(4), "last")
            try expect(second.read(), .end)
        },
        stp: waitingEnds.flatMap { name, end in
            paired("\(name) returns once the peer has read everything, not before") { first, second in
                try first.setParameter(.closeLimit, 3_600_000)
                try expect(first.write("last"), 4)
                let reader = Worker {
                    pause(milliseconds: 50)
                    let time = seconds()
                    try expect(second.readFully(4), "last")
                    try expect(second.read(), .end)
                    return time
                }
                try expect(end(first), 0)
                let returned = seconds()
                try expect(returned > reader.join(), "a return after the peer read", got: "one before")
            }
                + paired("\(name) returns when its limit passes, and the peer still reads what was sent") {
                    first, second in
                    try first.setParameter(.closeLimit, 30)
                    try expect(first.write("last"), 4)
                    try expect(end(first), 0)
                    try expect(first.read(), .failed(EBADF))
                    try expect(second.readFully(4), "last")
                    try expect(second.read(), .end)
                }
        }
            + paired("close with bytes unread resets, and doesn't wait") { first, second in
                try first.setParameter(.closeLimit, 3_600_000)
                try expect(second.write("unread"), 6)
                try first.awaitReadable()
                try expect(first.write("last"), 4)
                first.close()
                try expect(second.readFully(4), "last")
                try expect(second.read(), .failed(ECONNRESET))
            })

    private static let waitingEnds: [(String, @Sendable (Sock) -> Outcome)] = [
        ("close", { Outcome($0.face.close($0.fd)) }), ("shutdown of both sides", { $0.shutdown(.both) }),
    ]

    // MARK: STPshutdown

    static let refused = "STPshutdown 0 refuses what the peer still sends"
    static let released = "STPshutdown 2 releases the socket, as STPclose does"

    private static let shutting: [Case] =
        differing(
            refused,
            tcp: paired("data for a peer that shut its reading side is taken and readable nonetheless") {
                first, second in
                try expect(second.shutdown(.read), 0)
                try expect(second.read(), .end)
                try expect(first.write("data"), 4)
                try expect(first.write("more"), 4)
                while second.unreadCount() != 8 { pause(milliseconds: 1) }
                try expect(second.read(), "datamore")
                try expect(second.read(), .end)
            },
            stp: paired("data for a peer that shut its reading side is EPIPE, and what came before is readable") {
                first, second in
                SignalCount.start(SIGPIPE, flags: 0)
                try expect(first.write("before"), 6)
                try expect(second.shutdown(.read), 0)
                try expect(first.write("data"), .failed(EPIPE))
                try expect(SignalCount.value, 1, "SIGPIPE")
                try expect(first.send("data", Msg.noSignal), .failed(EPIPE))
                try expect(second.read(), "before")
                try expect(second.read(), .end)
                try expect(second.write("back"), 4)
                try expect(first.read(), "back")
            })
        + differing(
            released,
            tcp: paired("the own shutdown of both sides wakes a blocked poll with everything") { first, _ in
                let worker = Worker { first.poll(.readable, milliseconds: -1) }
                pause(milliseconds: 30)
                try expect(first.shutdown(.both), 0)
                try expect(worker.join(), [.readable, .hangup])
            }
                + paired("the own shutdown of both sides is the end of reading, though the peer has yet to read") {
                    first, second in
                    try expect(first.write("answer"), 6)
                    try expect(first.shutdown(.both), 0)
                    try expect(first.poll(.readable), [.readable, .hangup])
                    try expect(first.pendingError(), "0")
                    try expect(first.read(), .end)
                    try expect(second.readFully(6), "answer")
                    try expect(second.read(), .end)
                }
                + paired("the own shutdown of both sides wakes a blocked read, though the peer has yet to read") {
                    first, _ in
                    try expect(first.write("answer"), 6)
                    let worker = Worker { first.read() }
                    pause(milliseconds: 30)
                    try expect(first.shutdown(.both), 0)
                    try expect(worker.join(), .end)
                }
                + paired("the peer's shutdown of both sides is the end, though it leaves bytes unread") {
                    first, second in
                    try expect(first.write("unread"), 6)
                    try second.awaitReadable()
                    try expect(second.write("last"), 4)
                    try expect(second.shutdown(.both), 0)
                    try expect(first.readFully(4), "last")
                    try expect(first.read(), .end)
                    try expect(first.pendingError(), "0")
                    try expect(second.read(), "unread")
                    try expect(second.read(), .end)
                }
                + eachFamily("shutdown of a listener wakes a blocked accept with EINVAL") { face, family in
                    let listener = try face.listener(family)
                    let worker = Worker { Outcome(face.accept(listener.sock.fd, nil, nil)) }
                    pause(milliseconds: 50)
                    try expect(listener.sock.shutdown(.both), 0)
                    try expect(worker.join(), .failed(EINVAL))
                },
            stp: paired("shutdown of both sides releases the descriptor, and the peer reads to the end") {
                first, second in
                try expect(first.write("last"), 4)
                try expect(first.shutdown(.both), 0)
                try expect(first.read(), .failed(EBADF))
                try expect(first.poll(.readable), .invalid)
                try expect(second.readFully(4), "last")
                try expect(second.read(), .end)
            }
                + eachFamily("shutdown of a listener is ENOTCONN, and it still listens") { face, family in
                    let listener = try face.listener(family)
                    try expect(listener.sock.shutdown(.both), .failed(ENOTCONN))
                    _ = try listener.connect()
                    _ = try listener.accept()
                })

    // MARK: Without a connection

    private static let unconnected: [Case] = differing(
        "an STP socket without a connection can't send: ENOTCONN, as POSIX has it, where Linux has EPIPE for TCP",
        tcp: eachFamily("a socket that was never connected refuses to read and write with ENOTCONN and EPIPE") {
            face, family in
            let sock = try face.stream(family)
            SignalCount.start(SIGPIPE, flags: 0)
            try expect(sock.read(), .failed(ENOTCONN))
            try expect(sock.write("x"), .failed(EPIPE))
            try expect(SignalCount.value, 1, "SIGPIPE")
            try expect(sock.peerName().result, .failed(ENOTCONN))
            try expect(sock.poll([.readable, .writable, .peerHalfClosed]), [.writable, .hangup])
            try expect(sock.shutdown(.both), .failed(ENOTCONN))
            // The refused shutdown leaves its mark on the socket nonetheless.
            try expect(
                sock.poll([.readable, .writable, .peerHalfClosed]), [.readable, .writable, .hangup, .peerHalfClosed])
        }
            + eachFamily("a listener cannot be read, written, or asked for a peer") { face, family in
                let listener = try face.listener(family).sock
                cx_ignore_signal(SIGPIPE)
                try expect(listener.read(), .failed(ENOTCONN))
                try expect(listener.write("x"), .failed(EPIPE))
                try expect(listener.peerName().result, .failed(ENOTCONN))
                try expect(listener.option(SOL_SOCKET, SO_ACCEPTCONN), 1)
            },
        stp: eachFamily("a socket that was never connected refuses to read and write with ENOTCONN") { face, family in
            let sock = try face.stream(family)
            SignalCount.start(SIGPIPE, flags: 0)
            try expect(sock.read(), .failed(ENOTCONN))
            try expect(sock.write("x"), .failed(ENOTCONN))
            try expect(sock.send("x"), .failed(ENOTCONN))
            try expect(SignalCount.value, 0, "SIGPIPE")
            try expect(sock.peerName().result, .failed(ENOTCONN))
            try expect(sock.poll([.readable, .writable, .peerHalfClosed]), [.writable, .hangup])
            try expect(sock.shutdown(.both), .failed(ENOTCONN))
            try expect(sock.poll([.readable, .writable, .peerHalfClosed]), [.writable, .hangup])
        }
            + eachFamily("a listener cannot be read, written, or asked for a peer: ENOTCONN") { face, family in
                let listener = try face.listener(family).sock
                try expect(listener.read(), .failed(ENOTCONN))
                try expect(listener.write("x"), .failed(ENOTCONN))
                try expect(listener.peerName().result, .failed(ENOTCONN))
                try expect(listener.option(SOL_SOCKET, SO_ACCEPTCONN), 1)
            })

    // MARK: Options of TCP and IP, addresses

    /// TCP's number of the state.
    private static func state(of sock: Sock) -> Int {
        var info = [UInt8](repeating: 0, count: 104)
        var length = socklen_t(104)
        return sock.face.getsockopt(sock.fd, Int32(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 ? Int(info[0]) : -1
    }

    private static let options: [Case] = differing(
        "TCP and IP have options of their own",
        tcp: paired("TCP_INFO follows the state: established, close-wait, closed after a reset") { first, second in
            try expect(state(of: first), 1, "established")
            try expect(second.shutdown(.write), 0)
            try first.awaitReadable()
            try expect(state(of: first), 8, "close-wait")
            try second.lingerZero()
            second.close()
            first.settle([.readable, .writable, .peerHalfClosed, .error, .hangup])
            try expect(state(of: first), 7, "closed")
        }
            + paired("TCP_INFO says close-wait once the peer has closed, though nothing has looked yet") {
                first, second in
                second.close()
                pause(milliseconds: 20)
                try expect(state(of: first), 8)
            }
            + eachFamily("accept inherits TCP_NODELAY") { face, family in
                let listener = try face.listener(family)
                try expect(listener.sock.setOption(Int32(IPPROTO_TCP), TCP_NODELAY, 1), 0)
                _ = try listener.connect()
                try expect(listener.accept().option(Int32(IPPROTO_TCP), TCP_NODELAY), 1)
            },
        stp: paired("options of TCP and IP are ENOPROTOOPT") { first, _ in
            for level in [IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6].map(Int32.init) {
                try expect(first.option(level, 1), .failed(ENOPROTOOPT))
                try expect(first.setOption(level, 1, 1), .failed(ENOPROTOOPT))
            }
        })

    private static let addresses: [Case] = differing(
        "an STP address has a group, a host and a port, and no family beside it",
        tcp: [
            Case("an IPv4 client reaches an IPv6 listener on any address by a mapped name") { face in
                let sock = try face.stream(.v6)
                try expect(sock.setOption(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0), 0)
                var any = Address.loopback(.v6, port: 0)
                any.bytes[23] = 0
                try expect(any.with { Outcome(face.bind(sock.fd, $0, $1)) }, 0)
                try expect(Outcome(face.listen(sock.fd, 4)), 0)
                let client = try face.connected(.loopback(.v4, port: sock.name().address.port))
                let accepted = Address.filled { face.accept(sock.fd, $0, $1) }
                _ = try accepted.result.value
                try expect(Array(accepted.address.bytes[18..<24]), [255, 255, 127, 0, 0, 1])
                try expect(accepted.address.port, client.name().address.port)
            },
            Case("who dials another address of 127/8 comes from 127.0.0.1") { face in
                let sock = try face.stream(.v4)
                var any = Address.loopback(.v4, port: 0)
                any.bytes.replaceSubrange(4..<8, with: [0, 0, 0, 0])
                try expect(any.with { Outcome(face.bind(sock.fd, $0, $1)) }, 0)
                try expect(Outcome(face.listen(sock.fd, 4)), 0)
                var dialled = Address.loopback(.v4, port: sock.name().address.port)
                dialled.bytes[7] = 2
                var mapped = Address.loopback(.v6, port: dialled.port)
                mapped.bytes.replaceSubrange(18..<24, with: [255, 255, 127, 0, 0, 3])
                for (address, family, place) in [(dialled, Family.v4, 4..<8), (mapped, .v6, 20..<24)] {
                    let client = try face.connected(address, family)
                    let accepted = Address.filled { face.accept(sock.fd, $0, $1) }
                    try expect(client.peerName().address, address)
                    try expect(Array(client.name().address.bytes[place]), [127, 0, 0, 1])
                    try expect(Array(accepted.address.bytes[4..<8]), [127, 0, 0, 1])
                    let server = Sock(face: face, fd: Int32(try accepted.result.value))
                    try expect(Array(server.name().address.bytes[4..<8]), Array(address.bytes[place]))
                }
            },
        ]
            + eachFamily("connect to AF_UNSPEC resets the connection, and the socket can connect again") {
                face, family in
                let listener = try face.listener(family)
                let client = try listener.connect()
                let server = try listener.accept()
                let none = Address(bytes: [UInt8](repeating: 0, count: 16))
                try expect(client.connect(none), 0)
                try expect(client.peerName().result, .failed(ENOTCONN))
                try expect(server.read(), .failed(ECONNRESET))
                try expect(client.connect(listener.address), 0)
                let again = try listener.accept()
                try expect(client.write("x"), 1)
                try expect(again.read(), "x")
            }
            + eachFamily("connect to AF_UNSPEC keeps options, duplicates and epoll sets") {
                face, family in
                cx_ignore_signal(SIGPIPE)
                let listener = try face.listener(family)
                let client = try listener.connect()
                let server = try listener.accept()
                let copy = try server.duplicate()
                let set = try EpollSet(face)
                try expect(set.add(server, .readable, data: 7), 0)
                try expect(server.setOption(Int32(IPPROTO_TCP), TCP_NODELAY, 1), 0)
                try expect(server.setOption(SOL_SOCKET, SO_SNDBUF, 30_000), 0)
                let size = try server.option(SOL_SOCKET, SO_SNDBUF).value
                try expect(client.write("unread"), 6)
                let none = Address(bytes: [UInt8](repeating: 0, count: 16))
                try expect(server.connect(none), 0)
                try expect(client.read(), .failed(ECONNRESET))
                try expect(copy.peerName().result, .failed(ENOTCONN))
                // TCP's own reset may be pending.
                _ = copy.pendingError()
                try expect(copy.write("x"), .failed(EPIPE))
                try expect(copy.connect(none), 0)
                try expect(copy.connect(listener.address), 0)
                let again = try listener.accept()
                try expect(server.option(Int32(IPPROTO_TCP), TCP_NODELAY), 1)
                try expect(server.option(SOL_SOCKET, SO_SNDBUF), .value(size))
                try expect(again.write("y"), 1)
                try expect(set.wait(milliseconds: 5000).map(\.data), [7])
                try expect(server.read(), "y")
            },
        stp: eachFamily("another host can't be bound, and can't be reached without an agent") { face, family in
            var elsewhere = face.address(family, 9)
            elsewhere.bytes.replaceSubrange(18..<26, with: Array("nowhere\0".utf8))
            let sock = try face.stream(family)
            try expect(elsewhere.with { Outcome(face.bind(sock.fd, $0, $1)) }, .failed(EADDRNOTAVAIL))
            try expect(sock.connect(elsewhere), .failed(EHOSTUNREACH))
        })
}

extension Face {
    /// A fresh socket whose connect waits until the server has accepted.
    fileprivate func waiting(_ family: Family, flags: Int32 = 0) throws -> Sock {
        let sock = try stream(family, flags: flags)
        try sock.setParameter(.connect, Parameter.connectAccepted)
        return sock
    }
}
