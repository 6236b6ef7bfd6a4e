import ArgumentParser
import SkeinText

/// The command. Each sub-command lives in a folder of its own; `System` is what they share of Linux.
@main
struct SkeinCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skein",
        abstract: "Sockets through what processes share: memory on one host.",
        version: Version.text,
        subcommands: [
            Run.self, List.self, Top.self, Why.self, Send.self, Receive.self, Listen.self, Connect.self, Relay.self,
            Bench.self, Export.self, Attach.self, Detach.self, Agent.self, Medium.self, Key.self, Version.self,
        ])

    static func main() {
        do {
            do {
                let names = configuration.subcommands.map { $0._commandName }
                if let unknown = unknownSubcommand(CommandLine.arguments.dropFirst().first, among: names) {
                    throw ValidationError(unknown)
                }
                var command = try parseAsRoot()
                try command.run()
            } catch  where exitCode(for: error) == .success {
                try output(fullMessage(for: error))
            }
        } catch {
            exit(withError: error)
        }
    }
}
