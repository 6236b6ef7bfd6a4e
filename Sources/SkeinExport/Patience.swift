import CSystem

/// How long a worker looks for events before it sleeps.
///
/// A client that waits for its reply sends its next request some microseconds after it, and being woken takes longer
/// than that. Where looking paid off, the worker looks longer, up to a limit; where not, it soon stops.
struct Patience {
    private static let longest: UInt64 = 60_000
    private static let shortest: UInt64 = 4_000
    /// Sleeps until it looks again, after it has stopped.
    private static let rest = 64

    /// Nanoseconds; 0: not at all.
    private var budget = Patience.longest
    private var sleeps = 0

    /// Asks `poll` for the number of events, in vain for some microseconds at most, then as long as it takes.
    mutating func wait(milliseconds: Int32, _ poll: (_ milliseconds: Int32) -> Int32) -> Int32 {
        if budget > 0 {
            let begin = sk_now()
            repeat {
                let count = poll(0)
                if count != 0 {
                    budget = min(Patience.longest, budget * 2)
                    return count
                }
                sk_pause()
            } while sk_now() - begin < budget
            budget = budget / 2 < Patience.shortest ? 0 : budget / 2
        } else {
            sleeps += 1
            if sleeps % Patience.rest == 0 { budget = Patience.shortest }
        }
        return poll(milliseconds)
    }
}
