/// When to look next for what another host may write at any time: again and again while something comes, then after
/// pauses that double.
struct Poller {
    let timing: Timing
    private(set) var next: UInt64
    private var pause: UInt64 = 0
    private var lastFound: UInt64

    init(timing: Timing, at now: UInt64) {
        self.timing = timing
        next = now
        lastFound = now
    }

    /// Something came, or is expected from now on.
    mutating func found(at now: UInt64) {
        lastFound = now
        pause = 0
        next = now
    }

    /// There was nothing new.
    mutating func missed(at now: UInt64) {
        if now >= lastFound + timing.eager {
            pause = min(max(2 * pause, timing.shortestPause), timing.longestPause)
        }
        next = now + pause
    }

    /// The read failed.
    mutating func failed(at now: UInt64) { next = now + timing.retry }
}
