import CContract
import Glibc

/// The listener: its queue, its readiness, what accepted sockets inherit, and how it ends.
enum ListenCases {
    static let cases: [Case] = queue + sharedPorts + readiness + inheritance + ending

    private static let queue: [Case] =
        eachFamily("connections are accepted first come first served") { face, family in
            let listener = try face.listener(family, backlog: 32)
            let clients = try (0..<16).map { _ in try listener.connect() }
            for client in clients {
                try expect(listener.accept().peerName().address, client.name().address)
            }
        }
        + eachFamily("a non-blocking listener gives EAGAIN when its queue is empty, before and after a connection") {
            face, family in
            let listener = try face.listener(family)
            try listener.sock.setNonBlocking()
            try expect(Outcome(face.accept(listener.sock.fd, nil, nil)), .failed(EAGAIN))
            let client = try listener.connect()
            try expect(listener.sock.poll(.readable, milliseconds: 5000), .readable)
            _ = try listener.accept()
            try expect(Outcome(face.accept4(listener.sock.fd, nil, nil, 0)), .failed(EAGAIN))
            client.close()
        }
        + eachFamily("a blocking accept waits for a connection") { face, family in
            let listener = try face.listener(family)
            let worker = Worker { try listener.accept().readFully(2) }
            pause(milliseconds: 30)
            let client = try listener.connect()
            try expect(client.write("hi"), 2)
            try expect(worker.join(), "hi")
        }
        + eachFamily("two threads blocked in accept get one connection each") { face, family in
            let listener = try face.listener(family)
            let workers = (0..<2).map { _ in Worker { try listener.accept().readFully(1) } }
            pause(milliseconds: 30)
            let clients = try (0..<2).map { _ in try listener.connect() }
            for client in clients { try expect(client.write("x"), 1) }
            for worker in workers { try expect(worker.join(), "x") }
        }
        + eachFamily("two processes accepting from one listener share its connections without loss") { face, family in
            let listener = try face.listener(family)
            let children = (0..<2).map { _ in
                Child { turns in
                    for _ in 0..<5 { try expect(try listener.accept().write("x"), 1) }
                }
            }
            for _ in 0..<10 { try expect(listener.connect().read(), "x") }
            for child in children { try child.join() }
        }
        + eachFamily("SO_RCVTIMEO on a listener ends a blocking accept with EAGAIN") { face, family in
            let listener = try face.listener(family)
            try listener.sock.setTimeout(SO_RCVTIMEO, milliseconds: 50)
            try expect(Outcome(face.accept(listener.sock.fd, nil, nil)), .failed(EAGAIN))
        }

    private static let sharedPorts: [Case] =
        eachFamily("listeners that share a port by SO_REUSEPORT share its connections") { face, family in
            var address = face.address(family, 0)
            let listeners = try (0..<4).map { _ in
                let sock = try face.stream(family)
                try expect(sock.setOption(SOL_SOCKET, SO_REUSEPORT, 1), 0)
                try expect(address.with { Outcome(face.bind(sock.fd, $0, $1)) }, 0)
                try expect(Outcome(face.listen(sock.fd, 200)), 0)
                try sock.setNonBlocking()
                address = sock.name().address
                return sock
            }
            // By a hash of the client's address: that one of four goes without is less likely than 1 in 10^12.
            let clients = try (0..<100).map { _ in try face.connected(address, family) }
            var counts = listeners.map { _ in 0 }
            while counts.reduce(0, +) < clients.count {
                for (index, listener) in listeners.enumerated() {
                    let accepted = face.accept(listener.fd, nil, nil)
                    if accepted < 0 { continue }
                    counts[index] += 1
                    _ = face.close(accepted)
                }
            }
            try expect(!counts.contains(0), "connections for each listener", got: "\(counts)")
        }.holding(for: [.tcp], "an STP listener has its port for itself")

    private static let readiness: [Case] =
        eachFamily("poll, select and epoll see a pending connection, and nothing else") { face, family in
            let listener = try face.listener(family)
            let set = try EpollSet(face)
            try expect(set.add(listener.sock, [.readable, .writable, .peerHalfClosed], data: 3), 0)
            let all: Events = [.readable, .writable, .priority, .peerHalfClosed]
            try expect(listener.sock.poll(all), [])
            try expect(select(listener.sock, [.read, .write, .exceptional]).ready, [])
            try expect(set.wait(), [])
            let client = try listener.connect()
            try expect(listener.sock.poll(all, milliseconds: 5000), .readable)
            try expect(select(listener.sock, [.read, .write, .exceptional]).ready, .read)
            try expect(set.wait(), [Ready(events: .readable, data: 3)])
            _ = try listener.accept()
            try expect(listener.sock.poll(all), [])
            try expect(select(listener.sock, .read).ready, [])
            try expect(set.wait(), [])
            client.close()
        }
        + ["poll", "select", "epoll_wait"].flatMap { way in
            eachFamily("a thread blocked in \(way) on a listener is woken by a connection from another process") {
                face, family in
                let listener = try face.listener(family)
                let child = Child { turns in
                    try turns.takeTurn()
                    let client = try listener.connect()
                    try expect(client.read(), .end)
                }
                let worker = Worker<Bool> {
                    switch way {
                    case "poll": return listener.sock.poll(.readable, milliseconds: -1) == .readable
                    case "select": return select(listener.sock, .read, milliseconds: nil).ready == .read
                    default:
                        let set = try EpollSet(face)
                        try expect(set.add(listener.sock, .readable), 0)
                        return try set.wait(milliseconds: -1) == [Ready(events: .readable, data: 0)]
                    }
                }
                pause(milliseconds: 20)
                child.signal()
                try expect(worker.join(), true)
                try listener.accept().close()
                try child.join()
            }
        }
        + eachFamily("an edge on a listener comes for each connection") { face, family in
            let listener = try face.listener(family)
            let set = try EpollSet(face)
            try expect(set.add(listener.sock, [.readable, .edge]), 0)
            for _ in 0..<3 {
                let client = try listener.connect()
                try expect(set.wait(milliseconds: 5000).count, 1)
                try expect(set.wait().count, 0)
                withExtendedLifetime(client) {}
            }
        }
        + eachFamily("accept on what does not listen is EINVAL") { face, family in
            let pair = try Pair(face, family)
            try expect(Outcome(face.accept(pair.client.fd, nil, nil)), .failed(EINVAL))
            try expect(Outcome(face.accept(face.stream(family).fd, nil, nil)), .failed(EINVAL))
        }

    private static let inheritance: [Case] =
        [0, nonBlockType, closeOnExecType, nonBlockType | closeOnExecType].flatMap { flags in
            eachFamily("accept4 with flags \(flags) sets just those, whatever the listener has") { face, family in
                let listener = try face.listener(family)
                try listener.sock.setNonBlocking()
                let client = try listener.connect()
                try expect(listener.sock.poll(.readable, milliseconds: 5000), .readable)
                let fd = Int32(try Outcome(face.accept4(listener.sock.fd, nil, nil, flags)).value)
                let server = Sock(face: face, fd: fd)
                try expect(face.fcntl(fd, F_GETFL, 0) & O_NONBLOCK != 0, flags & nonBlockType != 0)
                try expect(face.fcntl(fd, F_GETFD, 0), flags & closeOnExecType != 0 ? FD_CLOEXEC : 0)
                if flags & nonBlockType != 0 { try expect(server.read(), .failed(EAGAIN)) }
                try expect(client.write("x"), 1)
                try server.awaitReadable()
                try expect(server.read(), "x")
            }
        }
        + eachFamily("accept does not inherit O_NONBLOCK, but does SO_KEEPALIVE") { face, family in
            let listener = try face.listener(family)
            try listener.sock.setNonBlocking()
            try expect(listener.sock.setOption(SOL_SOCKET, SO_KEEPALIVE, 1), 0)
            let client = try listener.connect()
            try expect(listener.sock.poll(.readable, milliseconds: 5000), .readable)
            let server = try listener.accept()
            try expect(face.fcntl(server.fd, F_GETFL, 0) & O_NONBLOCK, 0)
            try expect(server.option(SOL_SOCKET, SO_KEEPALIVE), 1)
            try expect(client.option(SOL_SOCKET, SO_KEEPALIVE), 0)
        }
        + eachFamily("accept takes the lowest free descriptor") { face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            let hole = try client.duplicate()
            let above = try client.duplicate()
            hole.close()
            let server = try listener.accept()
            try expect(server.fd, hole.fd)
            try expect(above.fd > server.fd, "a lower number", got: "\(server.fd)")
        }

    private static let ending: [Case] =
        eachFamily("closing a listener resets its pending connections and refuses new ones") { face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            listener.close()
            let expected: Events = [.readable, .writable, .peerHalfClosed, .error, .hangup]
            try expect(client.settle(expected), expected)
            try expect(client.read(), .failed(ECONNRESET))
            try expect(face.stream(family).connect(listener.address), .failed(ECONNREFUSED))
        }
        + [Shut.read, .both].flatMap { how in
            eachFamily(
                "a listener that was shut down (\(how)) says HUP and OUT, in all who hold it, and accepts nobody"
            ) {
                face, family in
                let listener = try face.listener(family)
                let all: Events = [
                    .readable, .writable, .priority, .peerHalfClosed, .readNormal, .readBand, .writeNormal, .writeBand,
                ]
                let over: Events = [.writable, .writeNormal, .hangup]
                let set = try EpollSet(face)
                try expect(set.add(listener.sock, [.readable, .writable, .peerHalfClosed]), 0)
                func isOver() throws {
                    try expect(listener.sock.poll(all), over)
                    try expect(select(listener.sock, [.read, .write, .exceptional]).ready, [.read, .write])
                    try expect(Outcome(face.accept(listener.sock.fd, nil, nil)), .failed(EINVAL))
                    try expect(listener.sock.poll(all), over)
                }
                let child = Child { turns in
                    try turns.takeTurn()
                    try isOver()
                }
                let client = try listener.connect()
                try expect(listener.sock.poll(.readable, milliseconds: 5000), .readable)
                try expect(listener.sock.shutdown(how), 0)
                try expect(set.wait(), [Ready(events: [.writable, .hangup], data: 0)])
                try isOver()
                child.signal()
                try child.join()
                try expect(client.read(), .failed(ECONNRESET))
                try expect(face.stream(family).connect(listener.address), .failed(ECONNREFUSED))
            }
        }.holding(for: [.tcp], "an STP listener can't be shut down")
        + eachFamily("a listener that was shut down for writing accepts as before") { face, family in
            let listener = try face.listener(family)
            try expect(listener.sock.shutdown(.write), 0)
            try expect(listener.sock.poll([.readable, .writable]), [])
            let client = try listener.connect()
            try expect(listener.accept().write("x"), 1)
            try expect(client.read(), "x")
        }.holding(for: [.tcp], "an STP listener can't be shut down")
        + eachFamily("a listener that is connected to AF_UNSPEC ends, and resets who waits in its queue") {
            face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            try expect(listener.sock.connect(Address(bytes: [UInt8](repeating: 0, count: 16))), 0)
            try expect(Outcome(face.accept(listener.sock.fd, nil, nil)), .failed(EINVAL))
            try expect(client.read(), .failed(ECONNRESET))
            try expect(face.stream(family).connect(listener.address), .failed(ECONNREFUSED))
        }.holding(for: [.tcp], "STP has no such call")
        + eachFamily("closing a listener leaves accepted connections alone") { face, family in
            let pair = try Pair(face, family)
            try expect(pair.client.write("x"), 1)
            try expect(pair.server.read(), "x")
        }
        + eachFamily("a listener closed in one process still listens in the other") { face, family in
            let listener = try face.listener(family)
            let child = Child { turns in
                try turns.takeTurn()
                try expect(listener.accept().write("x"), 1)
            }
            listener.close()
            child.signal()
            try expect(listener.connect().read(), "x")
            try child.join()
        }
        + eachFamily("the death of a listening process refuses new connections and resets pending ones") {
            face, family in
            let listener = try face.listener(family)
            let child = Child { $0.stay() }
            listener.close()
            let client = try listener.connect()
            child.kill()
            try expect(client.read(), .failed(ECONNRESET))
            try expect(face.stream(family).connect(listener.address), .failed(ECONNREFUSED))
        }
        + eachFamily("a port in use cannot be bound again, and can with SO_REUSEADDR once its listener is gone") {
            face, family in
            // Linux asks both the old and the new holder of the port for SO_REUSEADDR.
            let sock = try face.stream(family)
            try expect(sock.setOption(SOL_SOCKET, SO_REUSEADDR, 1), 0)
            try expect(face.address(family, 0).with { Outcome(face.bind(sock.fd, $0, $1)) }, 0)
            try expect(Outcome(face.listen(sock.fd, 4)), 0)
            let listener = Listener(sock: sock, address: sock.name().address, family: family)
            let other = try face.stream(family)
            try expect(listener.address.with { Outcome(face.bind(other.fd, $0, $1)) }, .failed(EADDRINUSE))
            let client = try listener.connect()
            let server = try listener.accept()
            listener.close()
            server.close()
            client.close()
            try expect(other.setOption(SOL_SOCKET, SO_REUSEADDR, 1), 0)
            try expect(listener.address.with { Outcome(face.bind(other.fd, $0, $1)) }, 0)
            try expect(Outcome(face.listen(other.fd, 1)), 0)
        }
}
