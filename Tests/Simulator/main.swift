import Glibc

// simulator [--streams] [--from SEED] [--count N] [--planted NAME]   runs N seeds; --streams: agents that have payloads
//                                                                    for each other, not only membership
// simulator [--streams] --seed N --trace [--planted NAME]            one seed, with all that happens

var from: UInt64 = 1
var count: UInt64 = 1
var planted: Planted?
var isTraced = false
var hasStreams = false

func fail(_ message: String) -> Never {
    print(message)
    exit(2)
}

var arguments = CommandLine.arguments.dropFirst()
while let option = arguments.popFirst() {
    if option == "--trace" {
        isTraced = true
        continue
    }
    if option == "--streams" {
        hasStreams = true
        continue
    }
    guard let value = arguments.popFirst() else { fail("\(option) needs a value") }
    switch (option, UInt64(value)) {
    case ("--from", let number?), ("--seed", let number?): from = number
    case ("--count", let number?): count = number
    case ("--planted", _):
        planted = Planted(rawValue: value)
        if planted == nil { fail("planted bugs: \(Planted.allCases.map(\.rawValue).joined(separator: " "))") }
    default: fail("no option \(option) \(value)")
    }
}

let options = (hasStreams ? " --streams" : "") + (planted.map { " --planted " + $0.rawValue } ?? "")
var overlap = Overlap()
for seed in from..<from + count {
    var world = World(seed: seed, hasStreams: hasStreams, planted: planted, isTraced: isTraced)
    if let failure = world.run() {
        print("not ok - seed \(seed)\(options): \(failure)")
        print("build/tests/simulator --seed \(seed)\(options) --trace shows all of it")
        exit(1)
    }
    overlap += world.overlap
}
print("ok - \(count) seeds from \(from) on\(options): nothing went wrong")
if hasStreams {
    print("of reads of one ring under way together \(overlap.overtaking) overtook, \(overlap.failed) failed")
    // A machine that never has two under way isn't tested by this.
    if count >= 50 && planted == nil && (overlap.overtaking == 0 || overlap.failed == 0) {
        fail("not ok - both happen")
    }
}
exit(0)
