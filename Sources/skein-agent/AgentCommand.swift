import ArgumentParser
import Glibc
import SkeinAgent

/// `skein medium` and `skein key`: what is done with a medium that hosts share.
@main
struct AgentCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skein", abstract: "Media that hosts share.", subcommands: [MediumCommand.self, KeyCommand.self])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let fault as AgentFault {
            complain("\(fault)")
            Glibc.exit(1)
        } catch {
            exit(withError: error)
        }
    }
}

/// Writes one line for the user to standard error.
func complain(_ message: String) {
    let line = Array("skein: \(message)\n".utf8)
    _ = unsafe write(STDERR_FILENO, line, line.count)
}
