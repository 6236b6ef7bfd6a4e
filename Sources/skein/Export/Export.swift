import ArgumentParser

/// `skein export`: the server of devices, which is a program of its own.
struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Serve local files, block devices and memory to NBD clients.",
        usage: "skein export [<options>] <[name=]device> ...",
        discussion: "'skein export --help' lists the options.",
        helpNames: [])

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("Options and devices.", valueName: "words"))
    var words: [String] = []

    func run() throws { try becomeCompanion("skein-export", lastWords: words.count + 1) }
}
