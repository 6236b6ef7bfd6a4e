import CSystem

/// How long a wait looks at the ring before it sleeps in the kernel. Adaptive: what it pays is kept,
/// what it wastes is halved, and where it never pays it rests.
///
/// With a processor of its own the waiter pauses between looks. On the peer's processor only giving it
/// away helps: the peer runs, and the scheduler, which sees two that want to run, moves one of them to a
/// free processor if there is one (a sleep would keep them together). Where a third wants the processor
/// a yield takes long, and the waiter sleeps like everybody else.
///
/// Two that have begun to sleep keep each other asleep: each needs longer to wake up than the other's
/// budget lasts. So a rest ends with a few waits that outlast a wake-up, and a resting waiter still looks
/// for a moment, which is all it needs if the other one is awake.
package struct Spin {
    package enum Policy: UInt8 { case off, adaptive, fixed }

    /// Nanoseconds that the next wait may spin.
    private var budget: UInt32 = Spin.longest
    /// Waits that only glance.
    private var rest: UInt32 = 0
    /// How many those are when spinning next turns out not to pay.
    private var nextRest: UInt32 = Spin.shortestRest
    /// Waits left that outlast a wake-up.
    private var probes: UInt32 = 0

    package static let longest: UInt32 = 20_000
    private static let shortest: UInt32 = 600
    /// Longer than a processor takes to leave its idle state and run what was woken, on virtual machines too.
    private static let wakeUp: UInt32 = 100_000
    private static let shortestRest: UInt32 = 32
    private static let longestRest: UInt32 = 512
    private static let probesAfterRest: UInt32 = 4
    /// A yield that took this long went to somebody else.
    private static let foreignYield: UInt64 = 60_000

    package init() {}

    /// Looks until `ready` says true or the budget is used up.
    @inline(__always)
    package mutating func wait(policy: Policy, peerProcessor: UInt32, processors: Int, ready: () -> Bool) -> Bool {
        if policy == .off { return false }
        let yields = processors < 2 || peerProcessor == UInt32(truncatingIfNeeded: sk_cpu()) &+ 1
        if policy == .fixed { return look(Spin.longest * 5, policy, yields, ready) != nil }
        if rest > 0 { return glance(yields, ready) }
        let limit = probes > 0 && !yields ? Spin.wakeUp : budget
        guard let taken = look(limit, policy, yields, ready) else {
            missed()
            return false
        }
        paid(after: taken)
        return true
    }

    /// The short look of a waiter that rests.
    private mutating func glance(_ yields: Bool, _ ready: () -> Bool) -> Bool {
        rest &-= 1
        if rest == 0 && !yields { probes = Spin.probesAfterRest }
        if yields || look(Spin.shortest, .adaptive, false, ready) == nil { return false }
        rest = 0
        paid(after: 0)
        return true
    }

    /// The nanoseconds after which `ready` said true; nil if it didn't within `limit`.
    private mutating func look(_ limit: UInt32, _ policy: Policy, _ yields: Bool, _ ready: () -> Bool) -> UInt64? {
        let start = sk_now()
        var now = start
        repeat {
            if yields {
                sk_yield()
                let after = sk_now()
                if after &- now > Spin.foreignYield && policy == .adaptive {
                    rest = 1024
                    return ready() ? 0 : nil
                }
                now = after
                if ready() { return now &- start }
            } else {
                for _ in 0..<16 {
                    if ready() { return now &- start }
                    sk_pause()
                }
                now = sk_now()
            }
        } while now &- start <= UInt64(limit)
        return nil
    }

    private mutating func paid(after taken: UInt64) {
        guard taken <= UInt64(Spin.longest) else {
            // The other one had to wake up. Now that it is awake, the next waits tell.
            if probes == 1 { return goToRest() }
            probes &-= 1
            return
        }
        probes = 0
        nextRest = Spin.shortestRest
        budget = min(budget &* 2, Spin.longest)
    }

    private mutating func missed() {
        budget /= 2
        if probes > 0 || budget < Spin.shortest { goToRest() }
    }

    private mutating func goToRest() {
        budget = Spin.shortest * 2
        rest = max(rest, nextRest)
        if probes > 0 { nextRest = min(nextRest &* 2, Spin.longestRest) }
        probes = 0
    }
}
