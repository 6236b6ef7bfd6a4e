import CSystem

/// The monotonic clock.
enum Clock {
    /// Nanoseconds.
    @inline(__always)
    static var now: UInt64 { sk_now() }
}
