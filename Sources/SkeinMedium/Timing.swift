/// All times of a medium, in nanoseconds. Those that membership rests on are multiples of the I/O timeout T.
package struct Timing: Equatable, Sendable {
    /// Milliseconds that a superblock may state as T.
    package static let timeoutsAllowed: ClosedRange<UInt32> = 10...600_000

    private static let millisecond: UInt64 = 1_000_000

    /// T: the longest that a read or write of a working device takes.
    package let timeout: UInt64

    /// Between two renewals of a lease.
    package var renewal: UInt64
    /// From the issue of the last renewal that was read back until a host fences itself.
    package var fence: UInt64
    /// Between two readings of a lease that didn't change, until its host is judged dead.
    package var verdict: UInt64
    /// From a host's last renewal until everybody has its verdict: one period until the renewal was seen, `verdict`,
    /// one for the period in which it falls due and is written, one until the others have read it.
    package var dead: UInt64
    /// From a claim until it is read back: others that claim as well have written by then.
    package var claim: UInt64
    /// Between two readings of a host that may judge: after a longer gap it watches anew.
    package var readingGap: UInt64
    /// Until a read or write that failed is tried again.
    package var retry: UInt64

    // What follows decides how fast blocks arrive, never whether.

    /// From the writing of a block until it is written again, unless its reader has taken it; doubles up to the limit
    /// while the reader takes nothing.
    package var rewriting: UInt64
    package var rewritingLimit: UInt64
    /// A writer that sent nothing for so long rings the bell, since its reader may look no more. Less than `active`.
    package var bell: UInt64
    /// How long a reader looks into a ring after the last block came.
    package var active: UInt64
    /// How long it looks without a pause, and then between two looks at first and at most.
    package var eager: UInt64
    package var shortestPause: UInt64
    package var longestPause: UInt64
    /// From a write of blocks until what acknowledges them is looked for.
    package var expectation: UInt64
    /// From the arrival of a block until its writer is told, if nothing tells it before.
    package var acknowledgement: UInt64

    /// The times that docs/MEDIUM.md states for this T.
    package init(timeoutMilliseconds: UInt32) {
        timeout = UInt64(timeoutMilliseconds) * Timing.millisecond
        renewal = timeout
        fence = 4 * timeout
        verdict = 6 * timeout
        dead = 9 * timeout
        claim = 2 * timeout
        readingGap = 2 * timeout
        retry = timeout / 4
        rewriting = min(100 * Timing.millisecond, timeout)
        rewritingLimit = 2 * timeout
        bell = 10 * Timing.millisecond
        active = 50 * Timing.millisecond
        eager = 2 * Timing.millisecond
        shortestPause = Timing.millisecond / 20
        longestPause = 20 * Timing.millisecond
        expectation = Timing.millisecond
        acknowledgement = 10 * Timing.millisecond
    }
}
