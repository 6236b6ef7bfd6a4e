import Glibc
import Synchronization

/// How many sentences did not hold.
package let failures = Atomic(0)

/// Prints `ok - …` or `not ok - …`, at once, so that a crash later hides none.
package func check(_ holds: Bool, _ sentence: String, saw: @autoclosure () -> String = "") {
    let seen = saw()
    print(holds ? "ok - \(sentence)" : "not ok - \(sentence)\(seen.isEmpty ? "" : " (saw \(seen))")")
    fflush(nil)
    if !holds { failures.add(1, ordering: .relaxed) }
}

package func check<Value: Equatable>(_ got: Value, is expected: Value, _ sentence: String) {
    check(got == expected, sentence, saw: "\(got)")
}

/// Bytes that look like noise and are the same each time.
package func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return (0..<count).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return UInt8(truncatingIfNeeded: state)
    }
}
