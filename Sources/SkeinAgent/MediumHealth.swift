import Logging

/// Says in the log when a medium begins to fail or to be slow, and when it works again.
final class MediumHealth {
    /// Nanoseconds between two lines about slowness.
    private static let pause: UInt64 = 60_000_000_000

    private let path: String
    private let timeout: UInt64
    private let log: Logger
    /// When something failed last; nil where it works.
    private var lastFailure: UInt64?
    private var lastSlow: UInt64?

    /// `timeout` is that of the superblock, in nanoseconds.
    init(_ path: String, timeout: UInt64, _ log: Logger) {
        self.path = path
        self.timeout = timeout
        self.log = log
    }

    /// Something that was asked of the medium has ended.
    func note(_ ended: EndedAction, at now: UInt64) {
        if ended.error != 0 {
            if lastFailure == nil {
                let verb = ended.isWrite ? "writing" : "reading"
                log.error("\(MediumDevice.failure(path, verb, ended.unit, ended.error)); it is tried again and again")
            }
            lastFailure = now
        } else if let lastFailure, now >= lastFailure + timeout {
            // A part of it may fail while others work.
            log.warning("\(path) works again")
            self.lastFailure = nil
        }
        guard ended.duration > timeout / 2, lastSlow.map({ now >= $0 + MediumHealth.pause }) ?? true else { return }
        lastSlow = now
        log.warning(
            "\(path) took \(ended.duration / 1_000_000) ms for one unit or a batch; more than \(timeout / 1_000_000) ms is taken for its failure"
        )
    }
}
