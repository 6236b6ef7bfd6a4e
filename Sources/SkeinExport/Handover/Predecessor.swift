import Glibc
import SkeinDevice

/// The server whose place this one takes: what it has left, and its clients.
///
/// It holds its clients meanwhile. Unless `takeOver` is called, it goes on with them as if nothing had been.
public final class Predecessor {
    /// A client that is waiting to be served.
    public struct Client: Sendable {
        let descriptor: Int32
        let state: ConnectionState
    }

    private let link: HandoverLink
    private var listeners: [RemoteTransport] = []
    private var used: [RemoteTransport] = []
    private var channel: RemoteTransport?
    public private(set) var exports: [Export] = []
    public private(set) var clients: [Client] = []

    /// Asks the server at the other end of a socket of its management channel, which must be connected, and be a server of this
    /// user or of root.
    public init(_ descriptor: Int32) throws(ExportFault) {
        link = HandoverLink(descriptor)
        guard let user = Peer.ofUnix(descriptor).user, user == geteuid() || user == 0 else {
            throw ExportFault("the server that runs is another user's")
        }
        let request = "\(HandoverLink.request)\0\(HandoverLink.version)\0"
        guard unsafe Glibc.send(descriptor, request, request.utf8.count, Int32(MSG_NOSIGNAL)) == request.utf8.count
        else { throw ExportFault("the server that runs doesn't answer") }
        var files: [Int32] = []
        while true {
            let record = try link.receive()
            var reader = ByteReader(record.body)
            switch record.kind {
            case .file: if let file = record.file { files.append(file) }
            case .listener: try take(listener: &reader, record.file)
            case .export: try take(export: &reader, &files)
            case .client:
                guard let file = record.file else { continue }
                clients.append(Client(descriptor: file, state: try ConnectionState(record.body)))
            case .complete: return
            case .refused, .ready, .done: throw ExportFault(String(decoding: record.body, as: UTF8.self))
            }
        }
    }

    private func take(listener reader: inout ByteReader, _ file: Int32?) throws(ExportFault) {
        guard let file else { return }
        let isChannel = try reader.flag()
        let transport = RemoteTransport(
            inherited: file, try reader.address(), uri: try reader.text(), isGiven: try reader.flag())
        if isChannel { channel = transport } else { listeners.append(transport) }
    }

    private func take(export reader: inout ByteReader, _ files: inout [Int32]) throws(ExportFault) {
        let name = try reader.text()
        let text = DeviceText(try reader.text())
        let isView = try reader.flag()
        let parcel = try reader.parcel(&files)
        do throws(DeviceFault) {
            exports.append(Export(name: name, text, try parcel.open(), readOnly: isView))
        } catch {
            throw ExportFault(error.text)
        }
    }

    /// Its sockets that a service manager has made.
    public func givenListeners() -> [RemoteTransport] {
        let given = listeners.filter(\.isGiven)
        listeners.removeAll(where: \.isGiven)
        return given
    }

    /// Its socket for an address, if it listens there.
    public func listener(for address: NBDAddress) -> RemoteTransport? {
        guard let index = listeners.firstIndex(where: { $0.address == address }) else { return nil }
        used.append(listeners[index])
        return listeners.remove(at: index)
    }

    /// Whether it serves this device under this name. Throws where the name is another device's.
    public func serves(_ specification: DeviceSpecification, readOnly: Bool) throws(ExportFault) -> Bool {
        guard let export = exports.first(where: { $0.name == specification.name }) else { return false }
        guard export.text == specification.device, export.isView == readOnly else {
            throw ExportFault(
                "the server that runs has another device as '\(export.name)': 'skein export remove \(export.name)' first"
            )
        }
        return true
    }

    /// Takes its place, for good: from now on its clients are this process's. Returns its management channel.
    public func takeOver() throws(ExportFault) -> RemoteTransport? {
        try link.send(.ready)
        try link.expect(.done)
        // What nobody listens on any more goes, with its name.
        for transport in used + listeners + [channel].compactMap({ $0 }) { transport.own(true) }
        listeners = []
        used = []
        return channel
    }
}
