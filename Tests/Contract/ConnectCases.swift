import CContract
import Glibc

/// Making a connection: from connect's side.
enum ConnectCases {
    static let cases: [Case] = refused + nonBlocking + order + names

    /// An address where nobody listens: a listener's that has been closed.
    private static func deserted(_ face: Face, _ family: Family) throws -> Address {
        let listener = try face.listener(family)
        listener.close()
        return listener.address
    }

    private static let everything: Events = [.readable, .writable, .peerHalfClosed]

    private static let refused: [Case] =
        eachFamily("connect where nobody listens is ECONNREFUSED, and SO_ERROR is clear afterwards") { face, family in
            let sock = try face.stream(family)
            try expect(sock.connect(deserted(face, family)), .failed(ECONNREFUSED))
            try expect(sock.pendingError(), "0")
            try expect(sock.poll(everything), [.writable, .hangup])
            try expect(sock.peerName().result, .failed(ENOTCONN))
        }
        + eachFamily("a refused socket can connect elsewhere") { face, family in
            let sock = try face.stream(family)
            try expect(sock.connect(deserted(face, family)), .failed(ECONNREFUSED))
            let listener = try face.listener(family)
            try expect(sock.connect(listener.address), 0)
            let server = try listener.accept()
            try expect(sock.write("x"), 1)
            try expect(server.read(), "x")
        }
        + eachFamily("a refused non-blocking connect shows in poll and SO_ERROR, once") { face, family in
            let sock = try face.stream(family, flags: nonBlockType)
            let result = try sock.connect(deserted(face, family))
            if result == .failed(ECONNREFUSED) { return }
            try expect(result, .failed(EINPROGRESS))
            let expected: Events = [.readable, .writable, .peerHalfClosed, .error, .hangup]
            try expect(sock.settle(expected), expected)
            try expect(sock.pendingError(), "ECONNREFUSED")
            try expect(sock.pendingError(), "0")
        }
        + eachFamily("a second connect after a refused non-blocking one reports ECONNREFUSED once") { face, family in
            let sock = try face.stream(family, flags: nonBlockType)
            let nowhere = try deserted(face, family)
            let result = sock.connect(nowhere)
            if result == .failed(ECONNREFUSED) { return }
            try expect(result, .failed(EINPROGRESS))
            _ = sock.poll(.writable, milliseconds: 5000)
            try expect(sock.connect(nowhere), .failed(ECONNREFUSED))
        }
        + eachFamily("an address of the wrong kind or length is refused before anything is sent") { face, family in
            let sock = try face.stream(family)
            var wrong = face.address(family, 9)
            wrong.bytes[0] = UInt8(AF_UNIX)
            try expect(sock.connect(wrong), .failed(EAFNOSUPPORT))
            let short = Address(bytes: Array(face.address(family, 9).bytes.prefix(4)))
            try expect(sock.connect(short), .failed(EINVAL))
            let listener = try face.listener(family)
            let padding = [UInt8](repeating: 0, count: 129 - listener.address.bytes.count)
            try expect(sock.connect(Address(bytes: listener.address.bytes + padding)), .failed(EINVAL))
            try expect(sock.connect(Address(bytes: listener.address.bytes + padding.dropLast())), 0)
        }

    private static let nonBlocking: [Case] =
        eachFamily("a non-blocking connect is EINPROGRESS, then writable, then SO_ERROR 0, then EISCONN") {
            face, family in
            let listener = try face.listener(family)
            let sock = try face.stream(family, flags: nonBlockType)
            let first = sock.connect(listener.address)
            try expect(first == 0 || first == .failed(EINPROGRESS), "0 or EINPROGRESS", got: "\(first)")
            try expect(sock.poll(.writable, milliseconds: 5000), .writable)
            try expect(sock.pendingError(), "0")
            // The first connect that finds the connection made says so; the next ones say EISCONN.
            if first == .failed(EINPROGRESS) { try expect(sock.connect(listener.address), 0, "second connect") }
            try expect(sock.connect(listener.address), .failed(EISCONN))
            let server = try listener.accept()
            try expect(sock.write("x"), 1)
            try expect(server.read(), "x")
        }
        + eachFamily("a non-blocking connect makes select's write set ready and not its read set") { face, family in
            let listener = try face.listener(family)
            let sock = try face.stream(family, flags: nonBlockType)
            _ = sock.connect(listener.address)
            try expect(select(sock, [.read, .write, .exceptional], milliseconds: 5000).ready, .write)
        }
        + eachFamily("a non-blocking connect wakes epoll_wait on a socket that was registered before") { face, family in
            let listener = try face.listener(family)
            let sock = try face.stream(family, flags: nonBlockType)
            let set = try EpollSet(face)
            try expect(set.add(sock, [.readable, .writable, .peerHalfClosed, .edge], data: 5), 0)
            try expect(set.wait(), [Ready(events: [.writable, .hangup], data: 5)], "before connect")
            _ = sock.connect(listener.address)
            try expect(set.wait(milliseconds: 5000), [Ready(events: .writable, data: 5)])
            let server = try listener.accept()
            try expect(server.write("x"), 1)
            try expect(set.wait(milliseconds: 5000), [Ready(events: [.readable, .writable], data: 5)])
        }
        + eachFamily("connect on a connected socket is EISCONN, and so is listen EINVAL") { face, family in
            let listener = try face.listener(family)
            let sock = try listener.connect()
            try expect(sock.connect(listener.address), .failed(EISCONN))
            try expect(Outcome(face.listen(sock.fd, 1)), .failed(EINVAL))
        }

    private static let order: [Case] =
        eachFamily("a connection stands and takes data before it is accepted") { face, family in
            let listener = try face.listener(family)
            let sock = try listener.connect()
            try expect(sock.poll(everything), .writable)
            try expect(sock.write("early"), 5)
            try expect(sock.shutdown(.write), 0)
            let server = try listener.accept()
            try expect(server.readFully(5), "early")
            try expect(server.read(), .end)
            try expect(server.write("late"), 4)
            try expect(sock.read(), "late")
        }
        + eachFamily("a client that sent and closed before accept is still read to its end") { face, family in
            let listener = try face.listener(family)
            let sock = try listener.connect()
            try expect(sock.write("gone"), 4)
            sock.close()
            let server = try listener.accept()
            try expect(server.readFully(4), "gone")
            try expect(server.read(), .end)
        }
        + eachFamily("a client that reset before accept is accepted as a reset connection") { face, family in
            let listener = try face.listener(family)
            let sock = try listener.connect()
            try sock.lingerZero()
            sock.close()
            let server = try listener.accept()
            try expect(server.read(), .failed(ECONNRESET))
        }
        + eachFamily("connect from one process, accept in another") { face, family in
            let listener = try face.listener(family)
            let child = Child { turns in
                let server = try listener.accept()
                try expect(server.readFully(5), "hello")
                try expect(server.write("world"), 5)
                try expect(server.read(), .end)
            }
            let sock = try listener.connect()
            try expect(sock.write("hello"), 5)
            try expect(sock.readFully(5), "world")
            sock.close()
            try child.join()
        }

    private static let names: [Case] =
        eachFamily("getsockname and getpeername of both ends agree") { face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            let server = try listener.accept()
            try expect(client.peerName().address, listener.address)
            try expect(server.name().address, listener.address)
            try expect(client.name().address, server.peerName().address)
            try expect(client.name().address, face.address(family, client.name().address.port))
            try expect(client.name().address.port != 0, "a port", got: "0")
        }
        + eachFamily("accept gives the client's own name") { face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            let accepted = Address.filled { face.accept(listener.sock.fd, $0, $1) }
            _ = try accepted.result.value
            try expect(accepted.address, client.name().address)
        }
        + eachFamily("a client that bound its port connects from it") { face, family in
            let listener = try face.listener(family)
            let sock = try face.stream(family)
            try expect(face.address(family, 0).with { Outcome(face.bind(sock.fd, $0, $1)) }, 0)
            let bound = sock.name().address
            try expect(sock.connect(listener.address), 0)
            try expect(sock.name().address, bound)
            let server = try listener.accept()
            try expect(server.peerName().address, bound)
        }
        + eachFamily("a name is cut to the room given, and its full length told") { face, family in
            let pair = try Pair(face, family)
            var bytes = [UInt8](repeating: 0xEE, count: 16)
            var length = socklen_t(4)
            let result = bytes.withUnsafeMutableBytes {
                Outcome(
                    face.getpeername(pair.client.fd, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length))
            }
            try expect(result, 0)
            try expect(Int(length), family.addressSize)
            try expect(Array(bytes.prefix(4)), Array(pair.client.peerName().address.bytes.prefix(4)))
            try expect(bytes[4], 0xEE)
        }
        + eachFamily("the peer's name is gone after a reset, the own name stays") { face, family in
            let pair = try Pair(face, family)
            let name = pair.client.name().address
            try pair.server.lingerZero()
            pair.server.close()
            try pair.client.awaitReadable()
            try expect(pair.client.peerName().result, .failed(ENOTCONN))
            try expect(pair.client.name().address.port, name.port)
        }
        + eachFamily("the peer's name is gone after a reset though bytes are unread, and those are read") {
            face, family in
            let pair = try Pair(face, family)
            try expect(pair.server.write("last"), 4)
            try pair.server.lingerZero()
            pair.server.close()
            try pair.client.awaitReadable()
            try expect(pair.client.peerName().result, .failed(ENOTCONN))
            try expect(pair.client.read(), "last")
            try expect(pair.client.read(), .failed(ECONNRESET))
        }
        + eachFamily("the peer's name is gone after a write that met EPIPE, and shutdown is ENOTCONN") { face, family in
            cx_ignore_signal(SIGPIPE)
            let pair = try Pair(face, family)
            pair.server.close()
            try pair.client.awaitReadable()
            try expect(pair.client.write("x"), 1)
            _ = pair.client.poll([], milliseconds: 2000)
            try expect(pair.client.write("x"), .failed(EPIPE))
            try expect(pair.client.peerName().result, .failed(ENOTCONN))
            try expect(pair.client.shutdown(.write), .failed(ENOTCONN))
        }
        + eachFamily("the peer's name is gone once both directions have ended, and shutdown is ENOTCONN") {
            face, family in
            let pair = try Pair(face, family)
            try expect(pair.client.shutdown(.write), 0)
            try expect(pair.server.read(), .end)
            try expect(pair.server.shutdown(.write), 0)
            for sock in [pair.client, pair.server] {
                _ = sock.settle([.readable, .writable, .hangup, .peerHalfClosed])
                pause(milliseconds: 20)
                try expect(sock.peerName().result, .failed(ENOTCONN))
                try expect(sock.shutdown(.write), .failed(ENOTCONN))
                try expect(sock.name().result, 0)
            }
        }
        + eachFamily("the peer's name stays after the peer closed") { face, family in
            let pair = try Pair(face, family)
            let name = pair.client.peerName().address
            pair.server.close()
            try pair.client.awaitReadable()
            try expect(pair.client.peerName().result, 0)
            try expect(pair.client.peerName().address, name)
        }
}
