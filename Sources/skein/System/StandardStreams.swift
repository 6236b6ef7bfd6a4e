import ArgumentParser
import Glibc

/// Standard input and output as streams of bytes. They stay as they were handed to us: another process may
/// share their flags.
enum StandardStreams {
    /// Keeps the numbers 0 to 2 from being given to sockets where we were started without one of them:
    /// using it fails then as it would have.
    static func reserve() {
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
            _ = unsafe open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
        }
    }

    /// Fills `range` of the buffer from its beginning with what standard input has. Returns how much; 0 at its end.
    static func read(into buffer: inout [UInt8], _ range: Range<Int>) throws(SystemError) -> Int {
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            let room = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[range])
            var count: Int
            repeat {
                count = unsafe Glibc.read(STDIN_FILENO, room.baseAddress, room.count)
            } while count < 0 && errno == EINTR
            return count
        }
        if count < 0 { throw SystemError.last }
        return count
    }

    /// Writes all the bytes to standard output.
    static func write(_ bytes: Span<UInt8>) throws(SystemError) {
        try writeAll(bytes, to: STDOUT_FILENO)
    }

    /// Lets who reads standard output see its end while we go on.
    static func endOutput() {
        let nothing = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        if nothing < 0 || dup2(nothing, STDOUT_FILENO) < 0 { _ = close(STDOUT_FILENO) }
        if nothing >= 0 { _ = close(nothing) }
    }
}

/// Writes all the bytes to a descriptor that waits.
func writeAll(_ bytes: Span<UInt8>, to descriptor: Int32) throws(SystemError) {
    try unsafe bytes.withUnsafeBytes { (buffer) throws(SystemError) in
        var written = 0
        while written < buffer.count {
            let count = unsafe write(descriptor, buffer.baseAddress! + written, buffer.count - written)
            if count < 0 && errno == EINTR { continue }
            if count < 0 { throw SystemError.last }
            written += count
        }
    }
}

/// Prints a result and a new line; says so where that can't be done, which print(_:) doesn't.
func output(_ text: String) throws(ExitCode) {
    do {
        try writeAll(Array("\(text)\n".utf8).span, to: STDOUT_FILENO)
    } catch {
        throw failure("standard output can't be written: \(error.text)")
    }
}

/// Tells whoever started us that we are ready: one line that begins with "ready". On standard error where
/// standard output carries the data.
func announceReady(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
    try? writeAll(Array("ready \(text)\n".utf8).span, to: descriptor)
}
