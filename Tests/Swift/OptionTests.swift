import Glibc
import Skein

/// Sets an option to some values and reads each back.
private func keeps<Value: Equatable & Sendable>(
    _ socket: borrowing Socket, _ option: SocketOption<Value>, _ values: [Value], _ name: String
) throws {
    let before = try socket.option(option)
    for value in values {
        try socket.setOption(option, to: value)
        check(try socket.option(option), is: value, "\(name) keeps \(value)")
    }
    try socket.setOption(option, to: before)
}

func optionTests() throws {
    let socket = try Socket()
    try keeps(socket, .keepAlive, [true, false], "keepAlive")
    try keeps(socket, .reuseAddress, [true, false], "reuseAddress")
    try keeps(socket, .outOfBandInline, [true, false], "outOfBandInline")
    try keeps(socket, .receiveLowWater, [100, 1], "receiveLowWater")
    try keeps(socket, .receiveTimeout, [.milliseconds(1500), nil], "receiveTimeout")
    try keeps(socket, .sendTimeout, [.seconds(3), nil], "sendTimeout")
    try keeps(socket, .linger, [.seconds(5), .zero, nil], "linger")
    try keeps(socket, .ring, [.small, .large, .automatic], "ring")
    try keeps(socket, .spin, [.off, .fixed, .adaptive], "spin")
    try keeps(socket, .connectReturns, [.queued, .accepted], "connectReturns")
    try keeps(socket, .closeLimit, [.milliseconds(1234), .zero, .seconds(60)], "closeLimit")
    try keeps(socket, .giftLimit, [.seconds(7)], "giftLimit")
    check(
        try socket.option(.closeLimit) == .seconds(2) && socket.option(.giftLimit) == .seconds(60),
        "the defaults are skein.h's")
    for option in [SocketOption<Int>.receiveBuffer, .sendBuffer] {
        let before = try socket.option(option)
        try socket.setOption(option, to: 100_000)
        check(
            try socket.option(option) >= 100_000 && socket.option(option) != before, "a buffer's size can be asked for")
    }
    try socket.setOption(.carrier, to: .memory)
    check(try socket.option(.carrier), is: .memory, "the carrier that was asked for is told")
    check(throws: EINVAL, .option, "a carrier that there isn't is EINVAL") { () throws(SocketError) in
        try socket.setOption(.carrier, to: Carrier(rawValue: "pigeon"))
    }
    check(throws: EINVAL, .option, "a ring that there isn't too") { () throws(SocketError) in
        try socket.setOption(.ring, to: Ring(rawValue: 9))
    }
    check(throws: EINVAL, .option, "and a negative limit") { () throws(SocketError) in
        try socket.setOption(.closeLimit, to: .seconds(-1))
    }
    check(try socket.carrierInUse == nil, "nothing carries what isn't connected")
    try effectTests()

    let tcp = Socket(adopting: Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0))
    check(try !tcp.isSTP, "an adopted TCP socket is known as such")
    check(throws: EOPNOTSUPP, .notSTP, "STP's own options refuse it") { () throws(SocketError) in
        _ = try tcp.option(.ring)
    }
    check(throws: EAFNOSUPPORT, .none, "it has no STP address") { () throws(SocketError) in _ = try tcp.localAddress }
}

private func effectTests() throws {
    try withPair { client, server in
        try client.setOption(.receiveTimeout, to: .nanoseconds(1))
        check(throws: EAGAIN, .none, "even the shortest time-out ends a wait") { () throws(SocketError) in
            _ = try client.receive(upTo: 1)
        }
        let sleeps = try client.sleeps
        try client.setOption(.spin, to: .off)
        try client.setOption(.receiveTimeout, to: .milliseconds(5))
        check(throws: EAGAIN, .none, "a time-out ends a wait") { () throws(SocketError) in
            _ = try client.receive(upTo: 1)
        }
        check(try client.sleeps > sleeps, "and sleeps are counted")
        try client.setOption(.spin, to: .adaptive)
        try server.setOption(.linger, to: .zero)
        drop(server)
        check(throws: ECONNRESET, .peerGone, "lingering for zero resets") { () throws(SocketError) in
            _ = try client.receive(upTo: 1)
        }
    }
    try withPair { client, server in
        try client.setOption(.ring, to: .small)
        let room = [UInt8](repeating: 0, count: 100_000)
        let taken = try client.send(room.span, flags: .dontWait)
        check(taken <= 16_384, "a small ring takes 16 KiB at most", saw: "\(taken)")
        check(try server.receive(exactly: taken).count, is: taken, "all of which come")
        check(try client.send("u".utf8.span, flags: .outOfBand), is: 1, "an urgent byte is sent")
        check(events(server, POLLPRI), is: POLLPRI, "the peer sees that there is one")
        check(try server.receive(upTo: 1, flags: .outOfBand), is: Array("u".utf8), "and receives it")
    }
    try withPair(listener: { try $0.setOption(.outOfBandInline, to: true) }) { client, server in
        check(try server.option(.outOfBandInline), "what is accepted inherits the listener's options")
        _ = try client.send("u".utf8.span, flags: [.outOfBand, .dontRoute])
        check(try server.receive(exactly: 1), is: Array("u".utf8), "an urgent byte inline is in the stream")
    }
}
