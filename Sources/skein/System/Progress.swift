import Glibc

/// A line on standard error that shows how far something is, where standard error is a terminal.
struct Progress {
    private static let secondsBetween = 0.2

    private let total: UInt64?
    private let first: UInt64
    private let start = secondsNow()
    private var next = secondsNow() + Progress.secondsBetween
    private let isShown = isatty(STDERR_FILENO) != 0

    /// From `first` bytes on to `total`, where that is known.
    init(from first: UInt64, total: UInt64?) {
        self.first = first
        self.total = total
    }

    /// So many bytes are done.
    mutating func advance(to position: UInt64) {
        let now = secondsNow()
        guard isShown, now >= next else { return }
        next = now + Progress.secondsBetween
        var line = humanReadable(position)
        if let total { line = "\(position * 100 / max(total, 1))%  \(line) of \(humanReadable(total))" }
        let rate = humanReadable(UInt64(Double(position - first) / (now - start)))
        write("\r\(line)  \(rate)/s\u{1b}[K")
    }

    /// Takes the line away, for what is said next.
    func clear() {
        if isShown { write("\r\u{1b}[K") }
    }

    /// Since the beginning.
    var seconds: Double { secondsNow() - start }

    private func write(_ text: String) { try? writeAll(Array(text.utf8).span, to: STDERR_FILENO) }
}
