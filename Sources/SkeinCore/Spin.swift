import CSystem

/// How long a wait looks at the ring before it sleeps in the kernel. Adaptive: what it pays is kept,
/// what it wastes is halved, and where it never pays it rests.
///
/// With a processor of its own the waiter pauses between looks. On the peer's processor only giving it
/// away helps: the peer runs, and the scheduler, which sees two that want to run, moves one of them to a
/// free processor if there is one (a sleep would keep them together). Where a third wants the processor
/// a yield takes long, and the waiter sleeps like everybody else.
package struct Spin {
    package enum Policy: UInt8 { case off, adaptive, fixed }

    /// Nanoseconds that the next wait may spin.
    private var budget: UInt32 = Spin.longest
    /// Waits that go straight to sleep.
    private var rest: UInt32 = 0

    package static let longest: UInt32 = 20_000
    private static let shortest: UInt32 = 600
    /// A yield that took this long went to somebody else.
    private static let foreignYield: UInt64 = 60_000

    package init() {}

    /// Looks until `ready` says true or the budget is used up.
    @inline(__always)
    package mutating func wait(policy: Policy, peerProcessor: UInt32, processors: Int, ready: () -> Bool) -> Bool {
        if policy == .off { return false }
        if rest > 0 && policy == .adaptive {
            rest &-= 1
            return false
        }
        let yields = processors < 2 || peerProcessor == UInt32(truncatingIfNeeded: sk_cpu()) &+ 1
        return look(policy, yields, ready)
    }

    private mutating func look(_ policy: Policy, _ yields: Bool, _ ready: () -> Bool) -> Bool {
        let start = sk_now()
        let limit = UInt64(policy == .fixed ? Spin.longest * 5 : budget)
        var now = start
        repeat {
            if yields {
                sk_yield()
                let after = sk_now()
                if after &- now > Spin.foreignYield && policy == .adaptive {
                    rest = 1024
                    return ready()
                }
                now = after
                if ready() { return paid() }
            } else {
                for _ in 0..<16 {
                    if ready() { return paid() }
                    sk_pause()
                }
                now = sk_now()
            }
        } while now &- start <= limit
        budget /= 2
        if budget < Spin.shortest {
            // It does not pay here: try again after a while, cheaply.
            budget = Spin.shortest * 2
            rest = 32
        }
        return false
    }

    private mutating func paid() -> Bool {
        budget = min(budget &* 2, Spin.longest)
        return true
    }
}
