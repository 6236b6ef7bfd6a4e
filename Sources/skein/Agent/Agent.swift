import ArgumentParser

/// `skein agent`: this host's place in a group. The command is in a program of its own.
struct Agent: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent",
        abstract: "Keep this host's place on a medium, and carry connections to other hosts.",
        usage: "skein agent --host <name> --medium <path> [--key <file>]",
        discussion: "'skein agent --help' lists the options.",
        helpNames: [])

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("Options.", valueName: "words"))
    var words: [String] = []

    func run() throws { try becomeCompanion("skein-agent", lastWords: words.count + 2) }
}
