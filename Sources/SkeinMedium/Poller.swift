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

    /// Something is expected, but not before that time has passed.
    mutating func expect(in delay: UInt64, at now: UInt64) {
        if now >= lastFound + timing.eager { pause = delay }
        next = min(next, now + delay)
    }

    /// There was nothing new. The next look is no sooner than `least` from now.
    mutating func missed(at now: UInt64, least: UInt64 = 0) {
        if now >= lastFound + timing.eager {
            pause = min(max(2 * pause, timing.shortestPause), timing.longestPause)
        }
        next = now + max(pause, least)
    }

    /// The read failed.
    mutating func failed(at now: UInt64) { next = now + timing.retry }
}
