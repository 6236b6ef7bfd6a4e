/// Takes this command's place with a program that is installed beside it. These are programs of their own because what they are
/// linked with would slow down the start of every other command. It gets the last words of this one's command line, of which the
/// first becomes its own name.
func becomeCompanion(_ name: String, lastWords count: Int) throws {
    let command = target(ofLink: "/proc/self/exe") ?? ""
    let path = "\(folder(of: folder(of: command)))/libexec/skein/\(name)"
    let error = replaceProcess(path: path, argumentCount: count, Environment(), throughShell: false)
    throw failure("\(path) can't be started: \(error.text); install Skein again", code: Exit.notFound)
}
