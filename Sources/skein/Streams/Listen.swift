import ArgumentParser
import Glibc
import Skein

/// `skein listen`: standard input and output over an STP connection, as its server.
struct Listen: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "listen",
        abstract: "Connect standard input and output to the first client of an STP address.",
        discussion: """
            The line "ready ADDRESS" on standard error says that clients may come; port 0 takes a free one. The end \
            of standard input is passed on, and so is the peer's end to standard output. The command ends when \
            both have ended.
            """)

    @Argument(help: "The STP address to listen on.", transform: stpAddress)
    var address: Address

    func run() throws {
        StandardStreams.reserve()
        try Conversation(over: theOnlyClient()).run()
    }

    /// Later ones are refused from then on.
    private func theOnlyClient() throws -> StreamSocket {
        let listener = try listening(on: address)
        announceReady("\(try listener.localAddress)", to: STDERR_FILENO)
        return try accepted(by: listener)
    }
}
