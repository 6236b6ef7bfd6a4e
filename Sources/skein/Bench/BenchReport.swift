/// The rounds of a measurement, and what they come to.
struct BenchReport {
    private var rounds: [BenchKind: [BenchFigures]] = [:]

    mutating func add(_ figures: BenchFigures, _ kind: BenchKind) { rounds[kind, default: []].append(figures) }

    /// The median of something over the rounds.
    private func median(_ kind: BenchKind, _ value: (BenchFigures) -> Double) -> Double {
        middle((rounds[kind] ?? []).map(value))
    }

    /// How many times as good as TCP in the same round: the median of that. `isTime`: less is better.
    private func ratio(_ kind: BenchKind, isTime: Bool, _ value: (BenchFigures) -> Double) -> Double {
        middle(
            zip(rounds[kind] ?? [], rounds[.tcp] ?? []).map { own, tcp in
                isTime ? value(tcp) / value(own) : value(own) / value(tcp)
            })
    }

    private func middle(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return 0 }
        return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
    }

    /// A table for people.
    var text: String {
        let head = ["", "round trip", "99 %", "x TCP", "one way", "x TCP"]
        let rows = BenchKind.allCases.map { kind in
            [
                kind.title, microseconds(median(kind, \.median)), microseconds(median(kind, \.percentile99)),
                decimal(ratio(kind, isTime: true, \.median), 2),
                "\(humanReadable(UInt64(median(kind, \.bytesPerSecond))))/s",
                decimal(ratio(kind, isTime: false, \.bytesPerSecond), 2),
            ]
        }
        let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
        return ([head] + rows).map { row in
            row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                return column == 0 ? row[column] + padding : padding + row[column]
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    /// The same for scripts. Its names stay; new ones may be added.
    var json: String {
        let kinds = BenchKind.allCases.map { kind in
            "{\"kind\":\"\(kind.rawValue)\",\"round_trip_median_ns\":\(decimal(median(kind, \.median), 0)),"
                + "\"round_trip_p99_ns\":\(decimal(median(kind, \.percentile99), 0)),"
                + "\"round_trip_ratio\":\(decimal(ratio(kind, isTime: true, \.median), 3)),"
                + "\"stream_bytes_per_second\":\(decimal(median(kind, \.bytesPerSecond), 0)),"
                + "\"stream_ratio\":\(decimal(ratio(kind, isTime: false, \.bytesPerSecond), 3))}"
        }
        return "{\"rounds\":\(rounds[.tcp]?.count ?? 0),\"kinds\":[\(kinds.joined(separator: ","))]}"
    }

    private func microseconds(_ nanoseconds: Double) -> String { "\(decimal(nanoseconds / 1000, 1)) us" }

    /// With so many digits after the point.
    private func decimal(_ value: Double, _ digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let whole = UInt64((value * scale).rounded())
        if digits == 0 { return "\(whole)" }
        let fraction = String(whole % UInt64(scale))
        return "\(whole / UInt64(scale))." + String(repeating: "0", count: digits - fraction.count) + fraction
    }
}
