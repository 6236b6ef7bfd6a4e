import Glibc
import Skein
import Synchronization

func connectionTests() throws {
    let listener = try Socket(listeningOn: Address(port: 0))
    check(try listener.isListening, "a listener says so")
    let address = try listener.localAddress
    let accepted = Atomic(false)
    let server = Thread {
        usleep(50_000)
        accepted.store(true, ordering: .sequentiallyConsistent)
        let connection = try listener.accept()
        check(try connection.closesOnExec, "exec closes an accepted connection too")
        while true {
            let bytes = try connection.receive(upTo: 1000)
            if bytes.isEmpty { break }
            try connection.sendAll(bytes.span)
        }
        try connection.close()
    }
    let client = try Socket(connectedTo: address)
    check(accepted.load(ordering: .sequentiallyConsistent), "connect returns once the server accepts, not before")
    check(try client.peerAddress, is: address, "the peer's address is the listener's")
    check(
        try client.peerCredentials.process == getpid() && client.peerCredentials.user == getuid(),
        "and its process known")
    check(try client.carrierInUse, is: .memory, "the connection is on memory")
    try bytesTests(client)
    try client.shutdown(.sending)
    check(try client.receive(upTo: 1), is: [], "after half-closing the peer ends too")
    try client.close()
    server.join()
    try endTests()
    try nonBlockingTests()
}

private func bytesTests(_ client: borrowing Socket) throws {
    let sent = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    check(try client.send(sent.span.extracting(first: 3)), is: 3, "send says how much it took")
    check(try client.receive(exactly: 3), is: Array(sent[..<3]), "the echo comes back")
    try client.sendAll("peek".utf8.span)
    check(try client.receive(upTo: 4, flags: [.peek, .waitAll]), is: Array("peek".utf8), "peeked bytes")
    check(try client.receive(exactly: 4), is: Array("peek".utf8), "come again")

    let descriptor = client.descriptor
    let sender = Thread {
        let socket = Socket(adopting: dup(descriptor))
        try socket.sendAll(sent.span)
    }
    var received = [UInt8](repeating: 0, count: sent.count)
    var room = received.mutableSpan
    try client.receiveAll(into: &room)
    check(received == sent, "sendAll and receiveAll move 300,000 bytes unchanged, from two threads")
    sender.join()
    check(try client.bytesSent == 300_007 && client.bytesReceived == 300_007, "they are counted")

    let sum = try unsafe sent.withUnsafeBytes { try unsafe client.send(UnsafeRawBufferPointer(rebasing: $0[..<5])) }
    check(sum, is: 5, "bytes that a pointer leads to are sent as well")
    received = [UInt8](repeating: 0, count: 8)
    let count = try unsafe received.withUnsafeMutableBytes { try unsafe client.receive(into: $0) }
    check(count > 0 && received[..<count] == sent[..<count], "and received")
    if count < 5 { _ = try client.receive(exactly: 5 - count) }
}

private func endTests() throws {
    try withPair { client, server in
        try server.sendAll("abc".utf8.span)
        try server.shutdown(.sending)
        check(throws: ENODATA, .none, "a stream that ends too early is ENODATA") { () throws(SocketError) in
            _ = try client.receive(exactly: 4)
        }
    }
    try withPair { client, server in
        try server.shutdown(.receiving)
        check(throws: EPIPE, .refused, "what the peer refuses to receive is EPIPE, without SIGPIPE") {
            () throws(SocketError) in
            try client.sendAll("x".utf8.span)
        }
        try server.sendAll("still".utf8.span)
        check(try client.receive(exactly: 5), is: Array("still".utf8), "while the other direction goes on")
    }
    try withPair { client, server in
        try client.sendAll("unread".utf8.span)
        try server.setOption(.closeLimit, to: .zero)
        drop(server)
        check(throws: ECONNRESET, .peerGone, "a peer that is gone and left bytes unread is ECONNRESET") {
            () throws(SocketError) in
            _ = try client.receive(upTo: 1)
        }
    }
    let fresh = try Socket()
    check(throws: ENOTCONN, .state, "a socket that isn't connected can't send") { () throws(SocketError) in
        _ = try fresh.send("x".utf8.span)
    }
    let nobody = try Socket().assignAddress()
    check(throws: ECONNREFUSED, .noListener, "where nobody listens connect is ECONNREFUSED") { () throws(SocketError) in
        try fresh.connect(to: nobody)
    }
    do throws(SocketError) {
        try fresh.connect(to: Address(host: "nowhere", port: 1)!)
        check(false, "another host is EHOSTUNREACH")
    } catch {
        check(
            error.errno == EHOSTUNREACH && error.call == "STPconnect" && !error.advice.isEmpty
                && "\(error)".hasSuffix(error.advice), "another host is EHOSTUNREACH, and the error says what to do",
            saw: "\(error)")
    }
}

private func nonBlockingTests() throws {
    let listener = try Socket(nonBlocking: true)
    try listener.listen()
    check(try listener.isNonBlocking, "a non-blocking socket says so")
    check(throws: EAGAIN, .none, "nobody to accept is EAGAIN") { () throws(SocketError) in _ = try listener.accept() }
    let client = try Socket(nonBlocking: true)
    check(throws: EINPROGRESS, .none, "connecting without waiting is EINPROGRESS") { () throws(SocketError) in
        try client.connect(to: listener.localAddress)
    }
    check(events(listener, POLLIN), is: POLLIN, "the listener is readable")
    let server = try listener.accept()
    check(events(client, POLLOUT), is: POLLOUT, "the client is writable once accepted")
    check(try client.takeError() == nil, "without an error")
    check(throws: EAGAIN, .none, "nothing to receive is EAGAIN") { () throws(SocketError) in
        _ = try client.receive(upTo: 1)
    }
    try client.setNonBlocking(false)
    check(throws: EAGAIN, .none, "also for one call of a blocking socket") { () throws(SocketError) in
        _ = try client.receive(upTo: 1, flags: .dontWait)
    }

    // A handler without SA_RESTART: the call itself has to go on.
    check(handleWithoutRestart(SIGUSR1), "a handler can be set")
    let descriptor = client.descriptor
    let received = Atomic(0)
    let reader = Thread {
        let socket = Socket(adopting: dup(descriptor))
        received.store(try socket.receive(upTo: 10).count, ordering: .sequentiallyConsistent)
    }
    for _ in 0..<5 {
        usleep(20_000)
        reader.interrupt()
    }
    check(received.load(ordering: .sequentiallyConsistent), is: 0, "a signal doesn't end a wait")
    try server.sendAll("woken".utf8.span)
    reader.join()
    check(received.load(ordering: .sequentiallyConsistent), is: 5, "which bytes do")
}

private func handleWithoutRestart(_ signal: CInt) -> Bool {
    var action = sigaction()
    unsafe action.__sigaction_handler.sa_handler = { _ in }
    return unsafe sigaction(signal, &action, nil) == 0
}
