/// Bytes that many filaments hold: each its minimum whatever the others do, and what is beyond that out of one pool.
///
/// So filaments that are stuck can't take anything from the others' minimum, and all together hold no more than the
/// pool and their minima.
struct Budget {
    /// It never shrinks.
    var pool: Int
    /// Bytes out of the pool.
    private(set) var used = 0
    /// Bytes in all.
    private(set) var held = 0

    init(pool: Int) { self.pool = pool }

    var left: Int { max(0, pool - used) }

    /// How many bytes a filament that holds `count` may add.
    func room(at count: Int) -> Int { max(0, Limit.minimum - count) + left }

    /// A filament holds `new` bytes in place of `old`.
    mutating func change(from old: Int, to new: Int) {
        used += max(0, new - Limit.minimum) - max(0, old - Limit.minimum)
        held += new - old
    }
}
