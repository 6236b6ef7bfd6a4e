import ArgumentParser

/// `skein medium`: the disk that hosts share. The commands are in a program of its own.
struct Medium: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "medium",
        abstract: "Make and look at a medium: the file or block device that hosts share.",
        usage: "skein medium create|show|check [<options>] <path>",
        discussion: "'skein medium --help' lists the commands.",
        helpNames: [])

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("A command and its options.", valueName: "words"))
    var words: [String] = []

    func run() throws { try becomeCompanion("skein-agent", lastWords: words.count + 2) }
}

/// `skein key`: what the hosts of a group share to read a medium.
struct Key: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "The key that the hosts of a group share.",
        usage: "skein key show|import [<options>] <group>",
        discussion: "'skein key --help' lists the commands.",
        helpNames: [])

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("A command and its options.", valueName: "words"))
    var words: [String] = []

    func run() throws { try becomeCompanion("skein-agent", lastWords: words.count + 2) }
}
