import Glibc

/// The environment that a program is started with: ours, byte for byte, but for what is set here.
struct Environment {
    /// Nil is a name to be left out.
    private(set) var changes: [String: String?] = [:]

    /// What the program will see.
    subscript(name: String) -> String? {
        get { changes[name] ?? environmentVariable(name) }
        set { changes.updateValue(newValue, forKey: name) }
    }

    /// Makes the changes in this process, which exec hands on.
    func apply() {
        for (name, value) in changes {
            _ = unsafe value.map { unsafe setenv(name, $0, 1) } ?? unsetenv(name)
        }
    }
}

/// Turns this process into the program. The last `argumentCount` of our own arguments become the
/// program's, as the bytes they are: they need not be UTF-8. Returns only with the reason of failure.
func replaceProcess(
    path: String, argumentCount: Int, _ environment: Environment, throughShell: Bool
) -> SystemError {
    environment.apply()
    let first = Int(CommandLine.argc) - argumentCount
    let arguments = unsafe CommandLine.unsafeArgv.advanced(by: first)
    _ = unsafe execv(path, arguments)
    let error = SystemError.last
    guard error.code == ENOEXEC, throughShell else { return error }
    // As execvp does for a script without '#!'.
    var words: [UnsafeMutablePointer<CChar>?] = unsafe [strdup("/bin/sh"), strdup(path)]
    for index in 1..<argumentCount + 1 { unsafe words.append(arguments[index]) }
    _ = unsafe execv("/bin/sh", &words)
    return SystemError.last
}
