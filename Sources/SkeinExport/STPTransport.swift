import CSystem
import Skein

/// Clients that come through memory: STP sockets, past the protocol stacks of the operating system.
enum STPTransport {
    /// Whether a stream socket is the system's own. It is asked past libc: an STP socket says there that it is a stream too.
    static func isForeign(_ descriptor: Int32) -> Bool {
        // SO_TYPE, and SOCK_STREAM.
        let (option, stream): (Int32, Int32) = (3, 1)
        var kind: Int32 = 0
        var length = UInt32(MemoryLayout<Int32>.size)
        return unsafe sk_getsockopt(descriptor, SOL_SOCKET, option, &kind, &length) == 0 && kind == stream
    }

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
