import ArgumentParser

/// The command. Each sub-command lives in a folder of its own; `System` is what they share of Linux.
@main
struct SkeinCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skein",
        abstract: "Sockets through what processes share: memory on one host.",
        version: Version.text,
        subcommands: [
            Run.self, List.self, Top.self, Why.self, Send.self, Receive.self, Listen.self, Connect.self, Relay.self,
            Bench.self, Export.self, Attach.self, Detach.self, Medium.self, Key.self, Version.self,
        ])

    static func main() {
        do {
            do {
                try checkName(CommandLine.arguments.dropFirst().first ?? "")
                var command = try parseAsRoot()
                try command.run()
            } catch  where exitCode(for: error) == .success {
                try output(fullMessage(for: error))
            }
        } catch {
            exit(withError: error)
        }
    }

    /// The argument parser would call a mistyped sub-command an unexpected argument.
    private static func checkName(_ word: String) throws {
        let names = configuration.subcommands.map { $0._commandName } + ["help"]
        if word.isEmpty || word.hasPrefix("-") || names.contains(word) { return }
        let nearest = names.map { (name: $0, changes: word.difference(from: $0).count) }.min { $0.changes < $1.changes }
        let meant = nearest.map { $0.changes <= 3 ? " Did you mean '\($0.name)'?" : "" } ?? ""
        throw ValidationError("There is no sub-command '\(word)'.\(meant)")
    }
}
