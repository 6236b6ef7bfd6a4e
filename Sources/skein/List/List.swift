import ArgumentParser

/// `skein ls`: the sockets of programs under Skein, on shared memory or why not.
struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the sockets of programs under Skein: on shared memory, or why not.",
        discussion: """
            IN and OUT are bytes; UNREAD have come and were not read here, UNSENT were not read there. Sockets of \
            other users' processes are shown to root alone. A table that can't be read is named on standard error \
            and left out; it harms no connection.
            """)

    @Flag(help: "Print JSON, with totals over all sockets that ever were.")
    var json = false

    func run() throws {
        let survey = Survey.ofHost()
        survey.warnings.forEach(complain)
        if json {
            try output(survey.json)
        } else if survey.sockets.isEmpty {
            complain("no sockets of programs under Skein; start both ends with 'skein run PROGRAM'")
        } else {
            try output(columns(of: survey.sockets))
        }
        if !json, let line = summary(of: survey.totals) { complain(line) }
    }
}
