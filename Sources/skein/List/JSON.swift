import SkeinCore
import SkeinText

extension Survey {
    /// The answer for scripts. Its names stay; new ones may be added.
    var json: String { "{\(jsonFields(sockets.map { "{\($0.jsonFields)}" }))}" }

    /// "sockets" with these objects, and what belongs to none of them.
    func jsonFields(_ sockets: [String]) -> String {
        let list = sockets.joined(separator: ",")
        let fallBacks = totals.reasons.map { "{\"reason\":\(quoted("\($0.reason.text)")),\"connections\":\($0.count)}" }
        return "\"sockets\":[\(list)],\"totals\":\(totals.json),\"fall_backs\":[\(fallBacks.joined(separator: ","))]"
    }
}

extension ListedSocket {
    /// What stands between the braces of one of "sockets".
    var jsonFields: String {
        func text(_ value: String?) -> String { value.map(quoted) ?? "null" }
        return "\"pid\":\(process.identifier),\"program\":\(quoted(record.program)),\"fd\":\(record.descriptor),"
            + "\"role\":\"\(role)\",\"state\":\"\(state)\",\"local\":\(quoted(local.text)),\"peer\":\(text(peer?.text)),"
            + "\"carrier\":\"\(carrier)\",\"reason\":\(text(reason)),"
            + "\"bytes_in\":\(number(bytesIn)),\"bytes_out\":\(number(bytesOut)),"
            + "\"waiting_in\":\(number(waitingIn)),\"waiting_out\":\(number(waitingOut)),"
            + "\"bells\":\(number(bells)),\"spins\":\(number(spins))"
    }
}

extension Sums {
    /// Over all processes that ever were.
    var json: String {
        "{\"memory_connections\":\(memoryConnections),\"tcp_connections\":\(tcpConnections),"
            + "\"memory_bytes_in\":\(bytesIn),\"memory_bytes_out\":\(bytesOut)}"
    }
}

/// A number of JSON, or null for what is not known.
func number(_ value: UInt64?) -> String { value.map { "\($0)" } ?? "null" }
