import Glibc
import SkeinCore

// A user's file of totals, which a process adds to and `skein ls` reads.

struct Process {
    let identifier: Int32
}
func pause(microseconds: UInt32) {}
func status(of path: String) -> stat? { nil }

/// The file, in a runtime folder of this process's own.
private let path: String = {
    let folder = "\(getenv("FUZZ_FOLDER").map { String(cString: $0) } ?? "/tmp")/totals-\(getpid())"
    mkdir(folder, 0o700)
    setenv("SKEIN_DIR", folder, 1)
    identifyProcess()
    findRuntimeFolder()
    let amounts = InlineArray<28, UInt64>(repeating: 0)
    require(addToTotals(amounts) == 0, "there is no file of totals")
    return "\(folder)/\(geteuid())/totals-\(Totals.version)"
}()

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let amounts = InlineArray<28, UInt64> { _ in UInt64(input.byte()) << 56 }
    let noise = input.rest()
    let file = open(path, O_WRONLY | O_TRUNC)
    _ = write(file, noise, noise.count)
    close(file)
    let before = readTotals()?.bytesIn ?? 0
    require(addToTotals(amounts) == 0, "totals are added to whatever is there")
    guard let after = readTotals() else { fatalError("what was written is damaged") }
    require(after.bytesIn == before &+ amounts[Totals.bytesIn / 8], "what was there and what was added")
    return 0
}

private func readTotals() -> Sums? {
    guard let file = try? File(path) else { return nil }
    return try? Sums(file)
}
