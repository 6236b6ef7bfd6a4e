import ArgumentParser

/// `skein export`: the server, and what is said to one that runs.
@main
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skein export",
        abstract: "Serve local files, block devices and memory to NBD clients.",
        discussion: """
            'skein export disk.img' serves; 'skein export help serve' lists the options. The other sub-commands speak to a server that \
            runs. A file that is called like one of them is given as ./ls.
            """,
        subcommands: [
            Serve.self, ListExports.self, Add.self, Remove.self, Resize.self, Rebuild.self, Stats.self,
            ListClients.self, Restart.self,
        ],
        defaultSubcommand: Serve.self)
}
