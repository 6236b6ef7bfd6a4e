import SkeinText

/// An export as it is listed.
struct Row {
    let name: String
    let size: UInt64
    let isReadOnly: Bool
    let clients: Int
    let sums: Sums
    let device: String

    static let heading = line(["NAME", "BYTES", "MODE", "CLIENTS", "DEVICE"])
    static let statsHeading = line(
        ["NAME", "CLIENTS", "REQUESTS", "READ", "WRITTEN", "ERRORS", "READ-P50", "READ-P99", "WRITE-P50", "WRITE-P99"])

    var text: String {
        line([printable(name), "\(size)", isReadOnly ? "ro" : "rw", "\(clients)", printable(device)])
    }

    var statsText: String {
        let counts = [UInt64(clients), sums.requests, sums.bytesRead, sums.bytesWritten, sums.errors].map { "\($0)" }
        let latencies = [LatencyKind.read, .write].flatMap { kind in
            [0.5, 0.99].map { share in sums.latency.percentile(share, kind).map { "\($0)" } ?? "-" }
        }
        return line([printable(name)] + counts + latencies)
    }

    var json: String {
        """
        {"name": \(quoted(name)), "bytes": \(size), "read_only": \(isReadOnly), "clients": \(clients), \
        "device": \(quoted(device))}
        """
    }

    var statsJSON: String {
        """
        {"name": \(quoted(name)), "clients": \(clients), \(sums.json), \
        "latency": {\(LatencyKind.allCases.map(latencyJSON).joined(separator: ", "))}}
        """
    }

    private func latencyJSON(_ kind: LatencyKind) -> String {
        let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1)].map { name, share in
            "\"\(name)_us\": \(sums.latency.percentile(share, kind).map { "\($0)" } ?? "null")"
        }
        return "\"\(kind)\": {\"count\": \(sums.latency.count(kind)), \(shares.joined(separator: ", "))}"
    }
}

/// A client as it is listed.
struct ClientRow {
    let export: String
    let counters: Counters
    let sums: Sums

    static let heading = line(["EXPORT", "CLIENT", "TLS", "SECONDS", "REQUESTS", "READ", "WRITTEN", "ERRORS"])

    var text: String {
        line(
            [printable(export), printable(counters.client), counters.isSecure ? "yes" : "no"]
                + [counters.seconds, sums.requests, sums.bytesRead, sums.bytesWritten, sums.errors].map { "\($0)" })
    }

    var json: String {
        """
        {"export": \(quoted(export)), "client": \(quoted(counters.client)), "tls": \(counters.isSecure), \
        "seconds": \(counters.seconds), \(sums.json)}
        """
    }
}

extension Sums {
    /// Members of an object.
    fileprivate var json: String {
        """
        "requests": \(requests), "bytes_read": \(bytesRead), "bytes_written": \(bytesWritten), "errors": \(errors)
        """
    }
}

private func line(_ words: [String]) -> String { words.joined(separator: "\t") + "\n" }

/// For a terminal, which control characters could lead astray.
private func printable(_ text: String) -> String {
    String(
        String.UnicodeScalarView(
            text.unicodeScalars.map { $0.value < 32 || (127..<160).contains($0.value) ? "?" : $0 }))
}
