import Glibc

// conduit-simulator [--from SEED] [--count N] [--seconds S] [--planted NAME]   runs seeds: N at least, and for S seconds at least
// conduit-simulator --seed N --trace [--planted NAME]                          one seed, with all that happens

var from: UInt64 = 1
var count: UInt64 = 1
var seconds = 0
var planted: Planted?
var isTraced = false

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
    guard let value = arguments.popFirst() else { fail("\(option) needs a value") }
    switch (option, UInt64(value)) {
    case ("--from", let number?), ("--seed", let number?): from = number
    case ("--count", let number?): count = number
    case ("--seconds", let number?): seconds = Int(number)
    case ("--planted", _):
        planted = Planted(rawValue: value)
        if planted == nil { fail("planted bugs: \(Planted.allCases.map(\.rawValue).joined(separator: " "))") }
    default: fail("no option \(option) \(value)")
    }
}

let start = time(nil)
var seed = from
while seed < from + count || time(nil) < start + seconds {
    var world = World(seed: seed, planted: planted, isTraced: isTraced)
    if let failure = world.run() {
        print("not ok - seed \(seed): \(failure)")
        print(
            "build/tests/conduit-simulator --seed \(seed) --trace\(planted.map { " --planted " + $0.rawValue } ?? "") shows all of it"
        )
        exit(1)
    }
    seed += 1
}
print("ok - \(seed - from) seeds from \(from) on: nothing went wrong")
exit(0)
