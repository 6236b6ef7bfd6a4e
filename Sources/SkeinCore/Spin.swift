import CSystem

/// How long a wait looks at the ring before it sleeps in the kernel. Adaptive: what it pays is kept,
/// what it wastes is halved. It never spins where the peer could need this processor.
package struct Spin {
    package enum Policy: UInt8 { case off, adaptive, fixed }

    /// Nanoseconds that the next wait may spin.
    private var budget: UInt32 = Spin.longest
    private var yields: UInt32 = 4
    private var rest: UInt32 = 0

    package static let longest: UInt32 = 20_000
    private static let shortest: UInt32 = 600

    package init() {}

    /// Looks until `ready` says true or the budget is used up.
    @inline(__always)
    package mutating func wait(policy: Policy, peerProcessor: UInt32, processors: Int, ready: () -> Bool) -> Bool {
        if policy == .off { return false }
        let here = UInt32(truncatingIfNeeded: sk_cpu()) &+ 1
        if processors < 2 || (peerProcessor == here && policy == .adaptive) { return yieldTo(ready) }
        return spin(policy, ready)
    }

    private mutating func spin(_ policy: Policy, _ ready: () -> Bool) -> Bool {
        if rest > 0 && policy == .adaptive {
            rest &-= 1
            return false
        }
        let start = sk_now()
        let limit = UInt64(policy == .fixed ? Spin.longest * 5 : budget)
        while true {
            for _ in 0..<16 {
                if ready() {
                    budget = min(budget &* 2, Spin.longest)
                    return true
                }
                sk_pause()
            }
            if sk_now() &- start > limit { break }
        }
        budget /= 2
        if budget < Spin.shortest {
            // Spinning does not pay here: try again after a while, cheaply.
            budget = Spin.shortest * 2
            rest = 32
        }
        return false
    }

    /// On one processor only giving it away helps, and only when the peer is the one who gets it.
    private mutating func yieldTo(_ ready: () -> Bool) -> Bool {
        if rest > 0 {
            rest &-= 1
            return false
        }
        for _ in 0..<2 {
            let start = sk_now()
            sk_yield()
            if ready() {
                rest = 0
                return true
            }
            if sk_now() &- start > 50_000 {
                rest = 1024
                return false
            }
        }
        rest = 16
        return false
    }
}
