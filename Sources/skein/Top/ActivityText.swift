import SkeinCore

/// One column of the table.
private struct Column {
    let title: String
    let isNumber: Bool
    /// Where lines are short, columns with a high rank go first; those of rank 0 stay.
    let rank: Int
    let text: @Sendable (ActiveSocket) -> String
}

private func amount(_ bytes: UInt64?) -> String { bytes.map(humanReadable) ?? "-" }
private func count(_ number: UInt64?) -> String { number.map { "\($0)" } ?? "-" }

private let columns = [
    Column(title: "PID", isNumber: true, rank: 0) { "\($0.socket.process.identifier)" },
    Column(title: "PROGRAM", isNumber: false, rank: 0) { printable($0.socket.record.program) },
    Column(title: "IN/s", isNumber: true, rank: 0) { amount($0.rates?.bytesIn) },
    Column(title: "OUT/s", isNumber: true, rank: 0) { amount($0.rates?.bytesOut) },
    Column(title: "UNREAD", isNumber: true, rank: 4) { amount($0.socket.waitingIn) },
    Column(title: "UNSENT", isNumber: true, rank: 5) { amount($0.socket.waitingOut) },
    Column(title: "BELLS/s", isNumber: true, rank: 6) { count($0.rates?.bells) },
    Column(title: "SPINS/s", isNumber: true, rank: 7) { count($0.rates?.spins) },
    Column(title: "STATE", isNumber: false, rank: 3) { $0.socket.state },
    Column(title: "LOCAL", isNumber: false, rank: 2) { $0.socket.local.text },
    Column(title: "PEER", isNumber: false, rank: 1) { $0.socket.peer?.text ?? "-" },
    Column(title: "CARRIER", isNumber: false, rank: 0) { active in
        active.socket.reason.map { "\(active.socket.carrier): \($0)" } ?? active.socket.carrier
    },
]

extension Activity {
    /// The lines above the table: how many sockets, what they do together, why some went over TCP.
    var heading: [String] {
        let connected = sockets.filter { $0.socket.record.state == .connected }
        let onMemory = connected.count { $0.socket.record.isOnMemory }
        let listening = sockets.count { $0.socket.record.state == .listening }
        var lines = [
            "\(sockets.count) sockets: \(onMemory) connected over memory, \(connected.count - onMemory) over TCP, "
                + "\(listening) listening"
        ]
        if seconds > 0 {
            lines.append(
                "a second: \(humanReadable(sum(\.bytesIn))) in, \(humanReadable(sum(\.bytesOut))) out, "
                    + "\(sum(\.bells)) bells, \(sum(\.spins)) spins, \(newOnMemory) new over memory, "
                    + "\(newOverTCP) new over TCP")
        }
        return lines + [summary(of: survey.totals)].compactMap { $0 }
    }

    private func sum(_ rate: (Rates) -> UInt64?) -> UInt64 {
        sockets.reduce(0) { $0 &+ ($1.rates.flatMap(rate) ?? 0) }
    }

    /// The table of all sockets, its head first.
    var table: [String] { table(of: sockets, width: nil) }

    /// The first `rows` lines of the table. So that they are no longer than `width`, lesser columns are left out;
    /// the last one, a sentence, may still be longer.
    func table(width: Int, rows: Int) -> [String] { table(of: sockets.prefix(max(rows - 1, 0)), width: width) }

    private func table(of sockets: some Collection<ActiveSocket>, width: Int?) -> [String] {
        var shown = columns
        while true {
            let rows = [shown.map(\.title)] + sockets.map { active in shown.map { $0.text(active) } }
            let numbers = Set(shown.indices.filter { shown[$0].isNumber })
            let lines = aligned(rows, numbers: numbers)
            // Up to the carrier's first word, which is at most as wide as its title.
            let needed = (lines.first?.count ?? 0)
            let least = shown.indices.max { shown[$0].rank < shown[$1].rank }
            guard let width, needed > width, let least, shown[least].rank > 0 else { return lines }
            shown.remove(at: least)
        }
    }

    /// The answer for scripts: as that of `skein ls`, with rates.
    var json: String {
        let objects = sockets.map { active in
            "{\(active.socket.jsonFields),\"bytes_in_per_second\":\(number(active.rates?.bytesIn)),"
                + "\"bytes_out_per_second\":\(number(active.rates?.bytesOut)),"
                + "\"bells_per_second\":\(number(active.rates?.bells)),"
                + "\"spins_per_second\":\(number(active.rates?.spins))}"
        }
        return "{\"seconds\":\(seconds),\(survey.jsonFields(objects))}"
    }
}
