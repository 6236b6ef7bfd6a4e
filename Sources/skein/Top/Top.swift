import ArgumentParser
import Glibc

/// `skein top`: what the sockets of programs under Skein do, again and again.
struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Show what the sockets of programs under Skein do: rates, waiting bytes, bells, spins, fall-backs.",
        discussion: """
            On a terminal a table that is drawn anew until q is pressed; elsewhere the table of one interval. \
            Keys: t, w, b, s, p, n sort by traffic, waiting bytes, bells, spins, process, name; r reverses.
            """)

    @Option(help: ArgumentHelp("Seconds between two looks, from 0.1 to 3600.", valueName: "seconds"))
    var interval = 1.0

    @Option(help: "What stands first.")
    var sort = SortKey.traffic

    @Flag(help: "Print one interval, on a terminal too.")
    var once = false

    @Flag(help: "Print one interval as JSON.")
    var json = false

    func validate() throws {
        guard (0.1...3600).contains(interval) else {
            throw ValidationError("give an interval from 0.1 to 3600 seconds")
        }
    }

    func run() throws {
        if !once, !json, let screen = Screen() {
            var view = try TopView(screen, interval: interval, sort: sort)
            return try view.run()
        }
        let first = Sample.take()
        pause(microseconds: UInt32(interval * 1e6))
        var activity = Sample.take().activity(since: first)
        activity.sockets = sort.sorted(activity.sockets, reversed: false)
        activity.survey.warnings.forEach(complain)
        if json { return try output(activity.json) }
        try output((activity.heading + activity.table).joined(separator: "\n"))
    }
}
