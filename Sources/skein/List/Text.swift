import Glibc
import SkeinCore

extension Address {
    /// As programs write it: 127.0.0.1:80, [::1]:80, [::ffff:127.0.0.1]:80. An STP address is a port of this host.
    var text: String {
        if isSTP { return "stp:\(port)" }
        return isIPv4 ? "\(hostText):\(port)" : "[\(hostText)]:\(port)"
    }

    /// The same without the port.
    var hostText: String {
        var host = [UInt8](repeating: 0, count: 16)
        for index in 0..<8 {
            host[index] = UInt8(truncatingIfNeeded: high >> UInt64(8 * index))
            host[index + 8] = UInt8(truncatingIfNeeded: low >> UInt64(8 * index))
        }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        _ = unsafe inet_ntop(Int32(family), &host, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// Text that a hostile process chose, without anything that a terminal would obey.
func printable(_ text: String) -> String {
    let obeyed: Set<Unicode.GeneralCategory> = [.control, .format, .lineSeparator, .paragraphSeparator]
    let scalars = text.unicodeScalars.map { obeyed.contains($0.properties.generalCategory) ? "?" : $0 }
    return String(String.UnicodeScalarView(scalars))
}

/// A number of bytes for people: 999, 1.5K, 12M.
func humanReadable(_ bytes: UInt64) -> String {
    guard bytes >= 1024 else { return "\(bytes)" }
    var value = Double(bytes) / 1024
    var letters = Substring("KMGTPE")
    // 1023.5 would be written as 1024 of its unit.
    while value >= 1023.5 {
        value /= 1024
        letters = letters.dropFirst()
    }
    let letter = letters.prefix(1)
    if value >= 9.95 { return "\(Int(value.rounded()))\(letter)" }
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)\(letter)"
}

private func cells(_ socket: ListedSocket) -> [String] {
    func amount(_ bytes: UInt64?) -> String { bytes.map(humanReadable) ?? "-" }
    let carrier = socket.reason.map { "\(socket.carrier): \($0)" } ?? socket.carrier
    return [
        "\(socket.process.identifier)", printable(socket.record.program), "\(socket.record.descriptor)", socket.role,
        socket.state, socket.local.text, socket.peer?.text ?? "-", amount(socket.bytesIn), amount(socket.bytesOut),
        amount(socket.waitingIn), amount(socket.waitingOut), carrier,
    ]
}

/// The table that `skein ls` prints, each column as wide as its widest cell.
func columns(of sockets: [ListedSocket]) -> String {
    let head = [
        "PID", "PROGRAM", "FD", "ROLE", "STATE", "LOCAL", "PEER", "IN", "OUT", "UNREAD", "UNSENT", "CARRIER",
    ]
    let numbers: Set = [0, 2, 7, 8, 9, 10]
    return aligned([head] + sockets.map(cells), numbers: numbers).joined(separator: "\n")
}

/// Rows of as many cells each as lines, every column as wide as its widest cell.
func aligned(_ rows: [[String]], numbers: Set<Int>) -> [String] {
    let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
        row.indices.map { column in
            let padding = String(repeating: " ", count: widths[column] - row[column].count)
            // The last column may be a sentence: nothing is to be aligned behind it.
            if column == row.count - 1 { return row[column] }
            return numbers.contains(column) ? padding + row[column] : row[column] + padding
        }.joined(separator: "  ")
    }
}

/// The line that `skein ls` ends with, for connections that went over TCP; nil when none did.
func summary(of totals: Sums) -> String? {
    if totals.reasons.isEmpty { return nil }
    let parts = totals.reasons.map { "\($0.count) because \($0.reason.text)" }
    return "over TCP so far: " + parts.joined(separator: "; ")
}
