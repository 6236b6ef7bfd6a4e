import ArgumentParser
import Glibc

/// Which server is meant.
struct Server: ParsableArguments {
    @Option(help: ArgumentHelp("The socket of the server, as its --manage says.", valueName: "path"))
    var manage: String?

    /// Sends a request and prints the answer, or says what is wrong.
    func send(_ words: String...) throws {
        guard let path = manage ?? ManagementSocket.defaultPath(making: false) else {
            complain("there is no folder with a server's socket; name the socket by --manage")
            throw ExitCode(2)
        }
        guard let answer = ManagementSocket.ask(path, words) else {
            complain("no server answers on \(path); name its socket by --manage")
            throw ExitCode(2)
        }
        let parts = answer.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0] == "ok" else {
            complain(
                parts.count == 2 ? String(parts[1]) : "the server on \(path) doesn't answer as one of 'skein export'")
            throw ExitCode(1)
        }
        print(parts[1], terminator: "")
    }
}

struct ListExports: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the exports of a server.")

    @OptionGroup var server: Server
    @Flag(help: "As JSON.") var json = false

    func run() throws { try server.send(json ? "ls-json" : "ls") }
}

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Tell what a server has done for the clients of each export.")

    @OptionGroup var server: Server
    @Flag(help: "As JSON.") var json = false

    func run() throws { try server.send(json ? "stats-json" : "stats") }
}

struct ListClients: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clients", abstract: "List the clients of a server: who they are, and what was done for each.")

    @OptionGroup var server: Server
    @Flag(help: "As JSON.") var json = false

    func run() throws { try server.send(json ? "clients-json" : "clients") }
}

struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Have a server export one more device.")

    @OptionGroup var server: Server
    @Argument(help: ArgumentHelp("The device, by its absolute path.", valueName: "[name=]device")) var device: String

    func run() throws { try server.send("add", device) }
}

struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Take an export away: its clients are answered and sent off.")

    @OptionGroup var server: Server
    @Argument(help: "The name of the export.") var name: String

    func run() throws { try server.send("remove", name) }
}

struct Rebuild: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebuild",
        abstract:
            "Put a device in the place of a part of a mirror, and return when it has the content. Clients are served meanwhile."
    )

    @OptionGroup var server: Server
    @Argument(help: "The name of the export.") var name: String
    @Argument(help: "Which part, counted from 1.") var part: String
    @Argument(help: "The new device, by its absolute path.") var device: String

    func run() throws { try server.send("rebuild", name, part, device) }
}

struct Restart: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restart",
        abstract:
            "Start a server anew, as after an upgrade. The new one goes on with its listeners, devices and clients.")

    @OptionGroup var server: Server

    func run() throws { try server.send("restart") }
}

struct Resize: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "resize", abstract: "Change the size of an export.")

    @OptionGroup var server: Server
    @Argument(help: "The name of the export.") var name: String
    @Argument(help: "Bytes, as 64M or 1G.") var size: String

    func run() throws { try server.send("resize", name, size) }
}
