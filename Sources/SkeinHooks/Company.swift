import CSystem

/// Who else sleeps on an end: all its sleepers share one queue of bells.
enum Company: UInt8, Comparable {
    case alone
    /// The bells are drained so that nobody is robbed of one (`Endpoint.drain`). Sleepers that wait for
    /// different amounts are the exception.
    case others
    /// No bell comes any more, or it comes to another process.
    case withoutBells

    static func < (one: Company, other: Company) -> Bool { one.rawValue < other.rawValue }
}

extension Endpoint {
    @inline(__always) func company(_ own: Arms) -> Company {
        if has(EndFlag.given | EndFlag.deaf) { return .withoutBells }
        return hasOtherSleepers(than: own) ? .others : .alone
    }
}

/// How long the sleeps of one wait last at most. In company each lasts as long as the wait has lasted so far,
/// so that a wake-up that was lost all the same at most doubles it, and an idle connection costs next to nothing.
struct Patience {
    /// Nanoseconds.
    static let shortest: UInt64 = 20_000_000
    static let longest: UInt64 = 1_000_000_000
    private var start: UInt64 = 0

    /// When the next sleep ends at the latest.
    mutating func limit(_ company: Company, _ deadline: UInt64) -> UInt64 {
        if company == .alone { return deadline }
        let now = sk_now()
        if start == 0 { start = now }
        let longest = company == .others ? Patience.longest : Patience.shortest
        return min(deadline, now &+ min(max(now &- start, Patience.shortest), longest))
    }
}
