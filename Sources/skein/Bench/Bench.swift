import ArgumentParser
import Glibc

/// `skein bench`: how fast STP is on this machine, beside what the kernel has.
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure STP beside TCP loopback and Unix sockets on this machine, in some seconds.",
        discussion: """
            Two processes, a round trip of 64 bytes and a stream one way. All kinds take turns in each round; figures \
            are medians of the rounds, and a ratio compares two kinds within one round. Every byte is checked.
            """)

    @Option(help: ArgumentHelp("How many rounds, from 1 to 100.", valueName: "number"))
    var rounds = 5

    @Flag(help: "Print JSON.")
    var json = false

    @Flag(help: .private)
    var peer = false

    func validate() throws {
        guard (1...100).contains(rounds) else { throw ValidationError("give a number of rounds from 1 to 100") }
    }

    func run() throws {
        StandardStreams.reserve()
        if peer {
            try BenchPeer().run()
            return
        }
        if let preload = environmentVariable("LD_PRELOAD"), preload.contains(Header.fileName) {
            throw failure("under 'skein run' TCP itself goes over shared memory; run this without it")
        }
        let client = try BenchClient()
        var report = BenchReport()
        for round in 0..<rounds {
            // Each kind comes first as often as the others.
            let kinds = BenchKind.allCases
            for index in kinds.indices {
                let kind = kinds[(round + index) % kinds.count]
                report.add(try client.measure(kind), kind)
            }
        }
        try output(json ? report.json : report.text)
    }
}

/// What is compared, TCP first: the others are ratios to it.
enum BenchKind: String, CaseIterable {
    case tcp
    case unix
    case stp

    var title: String {
        switch self {
        case .tcp: "TCP loopback"
        case .unix: "Unix socket"
        case .stp: "STP"
        }
    }
}
