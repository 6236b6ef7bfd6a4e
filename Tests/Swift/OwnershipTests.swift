import Glibc
import Skein
import Synchronization

// Who releases a descriptor, and when.

func ownershipTests() throws {
    var number: CInt = -1
    do {
        let socket = try Socket()
        number = socket.descriptor
        check(isOpen(number), "a socket has a descriptor")
        check(try socket.closesOnExec && !socket.isNonBlocking && socket.isSTP, "that exec closes, and that blocks")
    }
    check(!isOpen(number), "at the end of its scope the descriptor is released")

    let released = try Socket().release()
    check(isOpen(released), "release leaves it to the caller")
    do {
        let adopted = Socket(adopting: released)
        try adopted.setClosesOnExec(false)
        check(try !adopted.closesOnExec, "exec can be told to keep it")
    }
    check(!isOpen(released), "and whoever adopts it owns it")

    let taken = try Socket(listeningOn: Address(port: 0))
    let before = try Socket().release()
    close(before)
    check(throws: EADDRINUSE, .portTaken, "a socket that can't be made") { () throws(SocketError) in
        _ = try Socket(listeningOn: taken.localAddress)
    }
    check(!isOpen(before), "leaves no descriptor behind")

    // With a limit longer than the watchdog, waiting would be seen.
    try withPair { client, server in
        try client.setOption(.closeLimit, to: .seconds(3600))
        try client.sendAll("left".utf8.span)
        drop(client)
        check(try server.receive(exactly: 4), is: Array("left".utf8), "the end of scope doesn't wait for the peer")
        check(try server.receive(upTo: 1), is: [], "which reads everything and then the end")
    }
    try withPair { client, server in
        try client.setOption(.closeLimit, to: .milliseconds(20))
        try client.sendAll("left".utf8.span)
        number = client.descriptor
        do throws(SocketError) {
            try client.close()
            check(false, "close says when the peer had not read everything")
        } catch {
            check(
                error.code == .unread && error.errno == EAGAIN, "close says when the peer had not read everything",
                saw: "\(error)")
        }
        check(!isOpen(number), "and releases the descriptor")
        check(try server.receive(exactly: 4), is: Array("left".utf8), "the peer can still read it")
    }
    try withPair { client, server in
        let reads = Atomic(false)
        let descriptor = server.release()
        let reader = Thread {
            let server = Socket(adopting: descriptor)
            usleep(50_000)
            reads.store(true, ordering: .sequentiallyConsistent)
            _ = try server.receive(exactly: 4)
        }
        try client.setOption(.closeLimit, to: .seconds(3600))
        try client.sendAll("read".utf8.span)
        try client.close()
        check(reads.load(ordering: .sequentiallyConsistent), "close waits for the peer to read")
        reader.join()
    }
}

func drop(_ socket: consuming Socket) {}
