import Glibc

/// The program that a user named, found as execvp(3) finds it.
struct Program {
    /// As the user wrote it.
    let name: String
    let path: String

    /// Why there is nothing to start.
    enum Missing: Error {
        case notFound(String)
        case notExecutable(String)
    }

    init(_ name: String) throws(Missing) {
        self.name = name
        path = try name.contains("/") ? Program.check(name) : Program.search(name)
    }

    private static func check(_ path: String) throws(Missing) -> String {
        guard let status = status(of: path) else {
            throw .notFound("\(path) can't be opened: \(SystemError.last.text); check the path")
        }
        if status.st_mode & S_IFMT == S_IFDIR { throw .notExecutable("\(path) is a folder; name a program in it") }
        guard status.st_mode & S_IFMT == S_IFREG, unsafe access(path, X_OK) == 0 else {
            throw .notExecutable("\(path) is not executable; 'chmod +x' it, or name the interpreter before it")
        }
        return path
    }

    private static func search(_ name: String) throws(Missing) -> String {
        var refused: String?
        let list = environmentVariable("PATH") ?? "/bin:/usr/bin"
        for folder in list.split(separator: ":", omittingEmptySubsequences: false) {
            let path = folder.isEmpty ? "./\(name)" : "\(folder)/\(name)"
            guard let status = status(of: path), status.st_mode & S_IFMT == S_IFREG else { continue }
            if unsafe access(path, X_OK) == 0 { return path }
            refused = refused ?? path
        }
        if let refused { throw .notExecutable("\(refused) is not executable; 'chmod +x' it") }
        let isHere = !name.isEmpty && status(of: "./\(name)") != nil
        let advice = isHere ? "there is one in this folder: write './\(name)'" : "check the name or install it"
        throw .notFound("no program named '\(name)' in PATH; \(advice)")
    }

    /// The file whose loader would load a preloaded library: the interpreter of a script, else the
    /// program itself. Follows `#!` as far as the kernel does, and `env` to what it will start.
    func interpreter() -> String {
        var path = self.path
        for _ in 0..<5 {
            guard let next = Program.interpreter(ofScript: path) else { break }
            path = next
        }
        return path
    }

    /// What the `#!` line names; nil for what isn't a script or can't be read.
    private static func interpreter(ofScript path: String) -> String? {
        guard let file = try? File(path) else { return nil }
        let head = file.read(at: 0, count: 256)
        guard head.starts(with: Array("#!".utf8)) else { return nil }
        let line = head.text(2, limit: 254).prefix { $0 != "\n" && $0 != "\r\n" }
        let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
        guard let first = words.first else { return nil }
        guard lastPart(first) == "env",
            let name = words.dropFirst().first(where: { !$0.hasPrefix("-") && !$0.contains("=") }),
            let started = try? Program(name)
        else { return first }
        return started.path
    }

    /// What must be missing when the program is there and yet can't be found: its loader or interpreter.
    var missingHelper: String {
        let last = interpreter()
        guard let file = try? File(last), let loader = Executable(file)?.loader else { return last }
        return loader
    }

    /// Whether the file holds text: what execve(2) refuses for want of a `#!` is a shell's script then.
    var isText: Bool {
        guard let file = try? File(path) else { return false }
        let head = file.read(at: 0, count: 128)
        return !head.starts(with: [0x7f, 0x45, 0x4c, 0x46]) && !head.storage.contains(0)
    }
}
