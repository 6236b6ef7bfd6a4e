/// The only chance in a run: a seed gives the same run each time.
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }

    mutating func word() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }

    mutating func next() -> UInt64 { word() }
    mutating func below(_ bound: Int) -> Int { Int(word() % UInt64(bound)) }
    mutating func between(_ low: UInt64, _ high: UInt64) -> UInt64 { low + word() % (high - low + 1) }
    /// True once in `times`.
    mutating func once(in times: Int) -> Bool { times > 0 && below(times) == 0 }
}
