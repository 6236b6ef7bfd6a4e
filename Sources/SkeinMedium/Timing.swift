/// All times of a medium, in nanoseconds. Those that membership rests on are multiples of the I/O timeout T.
package struct Timing: Equatable, Sendable {
    /// Milliseconds that a superblock may state as T.
    package static let timeoutsAllowed: ClosedRange<UInt32> = 10...600_000

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

    /// The times that docs/MEDIUM.md states for this T.
    package init(timeoutMilliseconds: UInt32) {
        timeout = UInt64(timeoutMilliseconds) * 1_000_000
        renewal = timeout
        fence = 4 * timeout
        verdict = 6 * timeout
        dead = 9 * timeout
        claim = 2 * timeout
        readingGap = 2 * timeout
        retry = timeout / 4
    }
}
