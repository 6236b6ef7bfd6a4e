import Glibc
import Skein

// What takes two processes: this program again, with a role for its argument.

/// Another process that runs `role`, and the pipe that it writes to.
private struct Process: ~Copyable {
    let number: pid_t
    private let output: CInt

    init(_ role: String, _ argument: String = "") {
        var ends: [CInt] = [-1, -1]
        precondition(unsafe pipe(&ends) == 0, "no pipe can be made")
        output = ends[0]
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        unsafe posix_spawn_file_actions_addclose(&actions, ends[0])
        let words: [String] = [CommandLine.arguments[0], role, argument]
        var arguments = unsafe words.map { unsafe strdup($0) } + [nil]
        var number: pid_t = 0
        let result = unsafe posix_spawn(&number, "/proc/self/exe", &actions, nil, &arguments, environ)
        unsafe arguments.forEach { unsafe free($0) }
        unsafe posix_spawn_file_actions_destroy(&actions)
        close(ends[1])
        precondition(result == 0, "no process can be made")
        self.number = number
    }

    deinit { close(output) }

    /// The next line that it prints; empty at its end.
    func line() -> String {
        var text: [UInt8] = []
        var byte: UInt8 = 0
        while unsafe read(output, &byte, 1) == 1 && byte != UInt8(ascii: "\n") { text.append(byte) }
        return String(decoding: text, as: UTF8.self)
    }

    /// How it ended: its exit status, or minus the signal.
    func wait() -> CInt {
        var status: CInt = 0
        while unsafe waitpid(number, &status, 0) < 0 && errno == EINTR {}
        return status & 0x7f == 0 ? status >> 8 & 0xff : -(status & 0x7f)
    }
}

/// Does what a role says; nil where this is no such process.
func runRole() -> CInt? {
    guard CommandLine.arguments.count > 2 else { return nil }
    do {
        switch CommandLine.arguments[1] {
        case "echo": try echo()
        case "take": try take(CommandLine.arguments[2])
        default: return 2
        }
        return 0
    } catch {
        print("\(error)")
        return 1
    }
}

private func echo() throws(SocketError) {
    let listener = try Socket(listeningOn: Address(port: 0))
    print(try listener.localAddress)
    fflush(nil)
    let connection = try listener.accept()
    while true {
        let bytes = try connection.receive(upTo: 1000)
        if bytes.isEmpty { return try connection.close() }
        try connection.sendAll(bytes.span)
    }
}

private func take(_ token: String) throws(SocketError) {
    let connection = try Socket(taking: Gift(token)!)
    guard try connection.closesOnExec else { return print("kept by exec") }
    print(String(decoding: try connection.receive(exactly: 6), as: UTF8.self))
    try connection.sendAll("taker's".utf8.span)
    print(String(decoding: try connection.receive(exactly: 7), as: UTF8.self))
    try connection.close()
}

func processTests() throws {
    let server = Process("echo")
    let client = try Socket(connectedTo: Address(server.line())!)
    try client.sendAll("between".utf8.span)
    check(try client.receive(exactly: 7), is: Array("between".utf8), "two processes talk")
    check(try client.peerCredentials.process, is: server.number, "and know each other")
    try client.close()
    check(server.wait(), is: 0, "and end")

    let killed = Process("echo")
    let survivor = try Socket(connectedTo: Address(killed.line())!)
    kill(killed.number, SIGKILL)
    check(try survivor.receive(upTo: 1), is: [], "a killed peer is the end of the stream")
    check(killed.wait(), is: -SIGKILL, "it was killed")
    try giftTests()
}

private func giftTests() throws {
    let peer = Process("echo")
    let connection = try Socket(connectedTo: Address(peer.line())!)
    try connection.sendAll("unread".utf8.span)
    check(events(connection, POLLIN), is: POLLIN, "there is something unread")
    let gift = try connection.give()
    check(Gift("\(gift)") == gift, "a gift reads and writes its token")
    check(throws: EALREADY, .state, "what is given already can't be given") { () throws(SocketError) in
        _ = try connection.give()
    }
    let taker = Process("take", "\(gift)")
    check(events(connection, POLLPRI) & POLLPRI != 0, "the giver sees that it was taken")
    try connection.close()
    check(taker.line(), is: "unread", "the taker reads what was unread")
    check(taker.line(), is: "taker's", "and goes on with the connection")
    check(taker.wait() == 0 && peer.wait() == 0, "both processes end well")

    check(
        Gift("") == nil && Gift(String(repeating: "x", count: 64)) == nil, "what is too short or too long is no token")
    check(throws: EINVAL, .gift, "nor is any other text") { () throws(SocketError) in
        _ = try Socket(taking: Gift("nonsense")!)
    }
    check(throws: ENOENT, .gift, "a gift can be taken once") { () throws(SocketError) in _ = try Socket(taking: gift) }
    let fresh = try Socket()
    check(throws: ENOTCONN, .state, "only a connection can be given") { () throws(SocketError) in _ = try fresh.give() }
    try withPair { client, server in
        let other = try client.give(to: getppid())
        check(throws: EPERM, .taker, "a gift for another process can't be taken") { () throws(SocketError) in
            _ = try Socket(taking: other)
        }
        try client.setOption(.closeLimit, to: .zero)
        drop(server)
    }
}
