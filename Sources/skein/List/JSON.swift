extension Survey {
    /// The answer for scripts. Its names stay; new ones may be added.
    var json: String {
        let list = sockets.map(\.json).joined(separator: ",")
        return "{\"sockets\":[\(list)],\"totals\":\(totals.json)}"
    }
}

extension SocketRecord {
    /// One of "sockets".
    var json: String {
        let peer = peer.map { quoted($0.text) } ?? "null"
        return "{\"pid\":\(process.identifier),\"program\":\(quoted(program)),\"fd\":\(descriptor),"
            + "\"role\":\"\(role.rawValue)\",\"state\":\"\(state)\",\"local\":\(quoted(local.text)),\"peer\":\(peer),"
            + "\"carrier\":\"memory\",\"reason\":null,\"bytes_in\":\(bytesIn),\"bytes_out\":\(bytesOut)}"
    }
}

extension Totals {
    /// Over all tables.
    var json: String {
        "{\"memory_connections\":\(memoryConnections),\"tcp_connections\":\(tcpConnections),"
            + "\"memory_bytes_in\":\(bytesIn),\"memory_bytes_out\":\(bytesOut)}"
    }
}

/// A string of JSON.
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case _ where scalar.value < 32:
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
