import ArgumentParser
import Glibc
import SkeinAgent
import SkeinText

/// `skein agent`, `skein medium` and `skein key`: what is done with a medium that hosts share.
@main
struct AgentCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skein", abstract: "Hosts that share a medium.",
        subcommands: [Serve.self, MediumCommand.self, KeyCommand.self])

    static func main() {
        do {
            try checkName(CommandLine.arguments)
            var command = try parseAsRoot()
            try command.run()
        } catch let fault as AgentFault {
            complain("\(fault)")
            Glibc.exit(fault.status)
        } catch {
            exit(withError: error)
        }
    }

    /// Refuses `skein medium creat`: the word behind the family's name.
    private static func checkName(_ words: [String]) throws {
        guard words.count > 2, let family = configuration.subcommands.first(where: { $0._commandName == words[1] })
        else { return }
        let names = family.configuration.subcommands.map { $0._commandName }
        if names.isEmpty { return }
        if let unknown = unknownSubcommand(words[2], among: names) { throw ValidationError(unknown) }
    }
}

/// Writes one line for the user to standard error.
func complain(_ message: String) { put("skein: \(message)\n", STDERR_FILENO) }

/// Writes one line to standard output, for whoever waits for us.
func announce(_ message: String) { put("\(message)\n", STDOUT_FILENO) }

private func put(_ line: String, _ descriptor: Int32) {
    let bytes = Array(line.utf8)
    _ = unsafe write(descriptor, bytes, bytes.count)
}
