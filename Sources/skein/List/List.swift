import ArgumentParser

/// `skein ls`: the sockets on shared memory of every user whose table can be read.
struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the sockets that are on shared memory.",
        discussion: """
            IN and OUT are bytes. A table that can't be read is named on standard error and left out; it harms \
            no connection.
            """)

    @Flag(help: "Print JSON, with totals over all sockets that ever were.")
    var json = false

    func run() {
        let survey = Survey.take()
        survey.warnings.forEach(complain)
        if json {
            print(survey.json)
        } else if survey.sockets.isEmpty {
            complain("no sockets on shared memory; start both ends with 'skein run PROGRAM'")
        } else {
            print(columns(of: survey.sockets))
        }
    }
}
