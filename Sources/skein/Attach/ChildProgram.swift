import Glibc

/// A program of the system's that a command has do something.
enum ChildProgram {
    /// Where PATH, and where root's programs lie, has it; nil where it isn't installed.
    static func path(of name: String) -> String? {
        let folders = (environmentVariable("PATH") ?? "/bin:/usr/bin") + ":/usr/sbin:/sbin"
        return folders.split(separator: ":").map { "\($0)/\(name)" }.first { unsafe access($0, X_OK) == 0 }
    }

    /// Runs it to its end. Returns how it ended, and all that it said, in one line.
    static func run(_ words: [String]) throws -> (isWell: Bool, said: String) {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { throw failure("no pipe can be made: \(SystemError.last.text)") }
        defer { _ = close(ends[0]) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let process = try start(words, output: ends[1], inBackground: false)
        _ = close(ends[1])
        var said: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe read(ends[0], &piece, piece.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            said += piece[..<count]
        }
        return (wait(for: process) == 0, line(said))
    }

    /// Starts it for good: it outlives this command and its terminal, and writes what it says to a file.
    static func startInBackground(_ words: [String], log: String) throws -> pid_t {
        let output = unsafe open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard output >= 0 else { throw failure("\(log) can't be made: \(SystemError.last.text)") }
        defer { _ = close(output) }
        return try start(words, output: output, inBackground: true)
    }

    /// What a program has said, in one line.
    static func line(_ said: [UInt8]) -> String {
        String(decoding: said, as: UTF8.self).split(separator: "\n").joined(separator: "; ")
    }

    private static func start(_ words: [String], output: Int32, inBackground: Bool) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        // POSIX_SPAWN_SETSID, which Glibc's module lacks.
        if inBackground { unsafe posix_spawnattr_setflags(&attributes, 0x80) }
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe words.map { word in unsafe strdup(word) } + [nil]
        defer { unsafe arguments.forEach { unsafe free($0) } }
        var process: pid_t = 0
        let result = unsafe posix_spawn(
            &process, path(of: words[0]) ?? words[0], &actions, &attributes, &arguments, environ)
        guard result == 0 else { throw failure("\(words[0]) can't be started: \(SystemError(code: result).text)") }
        return process
    }

    private static func wait(for process: pid_t) -> Int32 {
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0 && errno == EINTR {}
        return status
    }

    /// Whether a process that was started in the background has ended.
    static func hasEnded(_ process: pid_t) -> Bool {
        var status: Int32 = 0
        return unsafe waitpid(process, &status, WNOHANG) != 0
    }
}
