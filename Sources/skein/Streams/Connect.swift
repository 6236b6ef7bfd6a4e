import ArgumentParser
import Skein

/// `skein connect`: standard input and output over an STP connection, as its client.
struct Connect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect",
        abstract: "Connect standard input and output to an STP address.",
        discussion: """
            The end of standard input is passed on, and so is the peer's end to standard output. The command ends \
            when both have ended.
            """)

    @Argument(help: "The STP address to connect to.", transform: stpAddress)
    var address: Address

    func run() throws {
        StandardStreams.reserve()
        try Conversation(over: connected(to: address)).run()
    }
}
