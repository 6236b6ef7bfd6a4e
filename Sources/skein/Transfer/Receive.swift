import ArgumentParser
import Glibc
import Skein
import SkeinTransfer

/// `skein receive`: takes a file from a `skein send`.
struct Receive: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "receive",
        abstract: "Receive a file from 'skein send'.",
        discussion: """
            The line "ready ADDRESS" on standard output (with '-o -' on standard error) says that the sender may come; \
            port 0 takes a free one. Until it is complete the file is called NAME\(Offer.partSuffix); after an \
            interruption the same commands go on from there.
            """)

    @Argument(help: "The STP address to listen on.", transform: stpAddress)
    var address: Address

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "A folder for the sender's name, a file, or '-' for standard output. Default: the current folder.",
            valueName: "target"),
        completion: .file())
    var output: String?

    @Flag(help: "Replace a target that exists.")
    var force = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    func validate() throws {
        if json && output == "-" { throw ValidationError("--json needs standard output for itself; use '-o FILE'") }
    }

    func run() throws {
        StandardStreams.reserve()
        let destination = try Destination(output, force: force)
        let advice =
            output == "-"
            ? "standard output can't be resumed: run both commands again from the beginning"
            : "what has arrived stays in the file in progress: run both commands again to go on"
        Interruption.say { "interrupted; \(advice)" }
        let listener = try listening(on: address)
        announceReady("\(try listener.localAddress)", to: output == "-" ? STDERR_FILENO : STDOUT_FILENO)
        while true {
            var delivery = Arrival(from: try accepted(by: listener), to: destination, force: force)
            guard let offer = try delivery.greet() else { continue }
            let outcome = try delivery.take(offer)
            if output != "-" { try skein.output(json ? outcome.json : outcome.text("received")) }
            return
        }
    }
}
