import Glibc
import Logging

/// The log: one line an event, on standard error.
struct LineLog: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.warning

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { complain("\(event.message)") }
}

/// Writes one line for the user to standard error. Where nobody reads it the line is lost: clients aren't to wait for that.
func complain(_ message: String) {
    var room = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
    guard unsafe poll(&room, 1, 0) == 1 else { return }
    put("skein: \(message)\n", STDERR_FILENO)
}

/// Writes one line to standard output, for whoever waits for us.
func announce(_ message: String) { put("\(message)\n", STDOUT_FILENO) }

private func put(_ line: String, _ descriptor: Int32) {
    var bytes = Array(line.utf8)
    unsafe bytes.withUnsafeMutableBytes { bytes in _ = unsafe write(descriptor, bytes.baseAddress, bytes.count) }
}
