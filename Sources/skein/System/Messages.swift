import ArgumentParser
import Glibc

/// Writes one line for the user to standard error. Standard output belongs to results.
func complain(_ message: String) {
    var line = Array("skein: \(message)\n".utf8)
    unsafe line.withUnsafeMutableBytes { bytes in
        _ = unsafe write(STDERR_FILENO, bytes.baseAddress, bytes.count)
    }
}

/// Exit codes, as `env`, `nohup` and `timeout` use them; a mistake in the options themselves is 64.
enum Exit {
    /// What was asked about isn't there.
    static let failure: Int32 = 1
    /// The address can't be had or reached.
    static let unreachable: Int32 = 2
    /// The peer went away before the end.
    static let peerGone: Int32 = 3
    /// What came is not what was sent.
    static let wrongChecksum: Int32 = 4
    /// What was to be made is there already.
    static let exists: Int32 = 5
    /// `skein` itself failed or refused, and the program was not started.
    static let refused: Int32 = 125
    static let notExecutable: Int32 = 126
    static let notFound: Int32 = 127
}

/// Says what is wrong and what to do, and is what a command throws to end with `code`.
func failure(_ message: String, code: Int32 = Exit.failure) -> ExitCode {
    complain(message)
    return ExitCode(code)
}
