import Glibc
import SkeinConduit
import SkeinGroup

// Programs' sockets: clients here of servers elsewhere, and servers here of clients elsewhere.

extension LocalService {
    /// A program has dialled another host. Its connect waits for what that says.
    func connect(_ connection: SocketConnection, _ client: GroupSockets.Client, _ group: inout GroupHost) {
        guard let number = group.number else { return refuse(connection, ENETDOWN) }
        guard let host = client.host, host != number else { return refuse(connection, EHOSTUNREACH) }
        do throws(FilamentFault) {
            let filament = try group.open(
                to: host, kind: FilamentKind.stream,
                address: FilamentKind.address(port: client.port, client: client.clientPort))
            guard let filament else { return refuse(connection, EHOSTUNREACH) }
            attach(connection, filament)
        } catch {
            refuse(connection, EHOSTUNREACH)
        }
    }

    /// Another host opens a filament to a port on which nobody listens by the control socket: it is brought to the server
    /// under Skein. Like TCP's, its connection is made before the server has accepted it.
    func bring(_ filament: GroupFilament, to port: UInt16, clientPort: UInt16, _ group: inout GroupHost) {
        guard let sockets, let number = group.number else { return refuse(filament, ECONNREFUSED, &group) }
        let connected = sockets.connect(to: port, of: number, from: filament.host, port: clientPort)
        guard connected >= 0 else { return refuse(filament, -connected, &group) }
        let connection = keep { SocketConnection($0, connected, isAnswered: true) }
        let fault = group.perform(filament) { conduit, number throws(FilamentFault) in try conduit.accept(number) }
        if fault != nil { return finish(connection, .reset(UInt32(ECONNRESET))) }
        attach(connection, filament)
    }
}
