import Skein

/// Clients that come through memory: STP sockets, past the protocol stacks of the operating system.
enum STPTransport {
    /// A socket that listens there and never waits, and its address.
    static func listen(_ text: String) throws(ExportFault) -> (descriptor: Int32, uri: String) {
        guard let given = Address(text) else {
            throw ExportFault("'\(text)' is no STP address; write it as nbd+stp://:7000 or nbd+stp://HOST:7000")
        }
        let address =
            given.host == "localhost" ? Address(group: given.group, host: "", port: given.port) ?? given : given
        do throws(SocketError) {
            let socket = try Socket(nonBlocking: true)
            try socket.bind(to: address)
            try socket.listen(backlog: 1024)
            let uri = "nbd+stp://\(try socket.localAddress)"
            return (socket.release(), uri)
        } catch {
            let reason = error.advice.isEmpty ? "the port is taken, or the address isn't this host's" : error.advice
            throw ExportFault("can't listen on STP address \(address): \(reason)", isAddress: true)
        }
    }
}
