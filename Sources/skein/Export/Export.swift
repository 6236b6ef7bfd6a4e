import ArgumentParser
import Glibc

/// `skein export`: the server of devices. It is a program of its own, which takes the place of this one: what it is linked
/// with would slow down the start of every other command.
struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Serve local files, block devices and memory to NBD clients.",
        usage: "skein export [<options>] <[name=]device> ...",
        discussion: "'skein export --help' lists the options.",
        helpNames: [])

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("Options and devices.", valueName: "words"))
    var words: [String] = []

    func run() throws {
        let name = "skein-export"
        let command = target(ofLink: "/proc/self/exe") ?? ""
        let path = "\(folder(of: folder(of: command)))/libexec/skein/\(name)"
        // What stands before the words becomes the program's own name.
        let error = replaceProcess(path: path, argumentCount: words.count + 1, Environment(), throughShell: false)
        throw failure("\(path) can't be started: \(error.text); install Skein again", code: Exit.notFound)
    }
}
