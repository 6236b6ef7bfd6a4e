import Logging

/// Says in the log when a medium begins to fail or to be slow, and when it works again.
final class MediumHealth {
    /// Nanoseconds between two lines about slowness.
    private static let pause: UInt64 = 60_000_000_000

    private let path: String
    private let timeout: UInt64
    private let log: Logger
    private var isFailing = false
    private var sinceSlow: UInt64?

    /// `timeout` is that of the superblock, in nanoseconds.
    init(_ path: String, timeout: UInt64, _ log: Logger) {
        self.path = path
        self.timeout = timeout
        self.log = log
    }

    /// Something that was asked of the medium has ended.
    func note(_ ended: EndedAction, at now: UInt64) {
        if ended.error != 0 && !isFailing {
            log.error(
                "\(MediumDevice.failure(path, ended.isWrite ? "writing" : "reading", ended.unit, ended.error)); it is tried again and again"
            )
        } else if ended.error == 0 && isFailing {
            log.warning("\(path) works again")
        }
        isFailing = ended.error != 0
        guard ended.duration > timeout / 2, now >= (sinceSlow ?? 0) + MediumHealth.pause || sinceSlow == nil else {
            return
        }
        sinceSlow = now
        log.warning(
            "\(path) took \(ended.duration / 1_000_000) ms for one unit or a batch; more than \(timeout / 1_000_000) ms is taken for its failure"
        )
    }
}
