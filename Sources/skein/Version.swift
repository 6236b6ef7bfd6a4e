import ArgumentParser

/// `skein version`: what a report of a fault should begin with.
struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Print the version, and that of the layout that processes share.")

    /// The version of the project.
    static let number = "0.1.0"

    /// Programs talk through memory only where the second number is the same on both ends.
    static var text: String { "skein \(number), layout \(Table.layoutVersion)" }

    func run() throws { try output(Version.text) }
}
