import Glibc
import SkeinDevice
import Synchronization

/// Where the management channel leaves who is to take the place of this server.
final class HandoverDesk: Sendable {
    private let waiting = Mutex<HandoverLink?>(nil)
    /// Rung when there is somebody.
    let bell = Bell()

    func put(_ link: HandoverLink) {
        waiting.withLock { $0 = link }
        bell.ring()
    }

    func take() -> HandoverLink? {
        bell.take()
        return waiting.withLock { waiting in
            defer { waiting = nil }
            return waiting
        }
    }
}

// The server whose place is taken.

extension ConnectionManager {
    /// Seconds that devices have to answer the requests of the clients that go.
    private static let settleSeconds: UInt64 = 10

    /// Hands over what clients in the clear are about. False where that can't be: then everything goes on as before.
    func handOver(to link: HandoverLink) -> Bool {
        log.step("another server takes over")
        let held = HeldClients()
        for worker in workers { worker.send(.hold(held)) }
        do throws(ExportFault) {
            let report = try settled(held)
            let own = try give(report, to: link)
            try link.expect(.ready)
            try link.send(.done)
            part(own)
            log.step("\(report.clients.count) clients are another server's now")
            return true
        } catch {
            for worker in workers { worker.send(.goOn) }
            channel?.handoverFailed()
            try? link.send(.refused, Array(error.text.utf8))
            log.warn("nothing was handed over: \(error.text)")
            return false
        }
    }

    private func settled(_ held: HeldClients) throws(ExportFault) -> HeldClients.Report {
        guard !transports.contains(where: { if case .stp = $0.address { true } else { false } }) else {
            throw ExportFault("who comes through memory (nbd+stp) can't be handed over: stop the server and start it")
        }
        if let libraries = unsafe getenv("LD_PRELOAD"), unsafe String(cString: libraries).contains("libskein-preload") {
            throw ExportFault("a server under 'skein run' can't hand its clients over: stop it and start it")
        }
        guard let report = held.collect(from: workers.count, seconds: ConnectionManager.settleSeconds) else {
            throw ExportFault(
                "a device doesn't answer within \(ConnectionManager.settleSeconds) s: the server goes on with it")
        }
        return report
    }

    /// Tells everything. Returns the exports that no longer may be used here then.
    private func give(_ report: HeldClients.Report, to link: HandoverLink) throws(ExportFault) -> [Export] {
        for transport in transports { try send(transport, isChannel: false, link) }
        if let channel { try send(channel.transport, isChannel: true, link) }
        var exclusive: [Export] = []
        for export in catalogue.all {
            let parcel: DeviceParcel
            do throws(DeviceFault) {
                parcel = try export.iop.device.parcel()
            } catch {
                throw ExportFault(error.text)
            }
            if !parcel.isShareable {
                let count = report.staying.count { $0 == export.name }
                guard count == 0 else {
                    throw ExportFault(
                        "'\(export.name)' has \(count) clients by TLS, who would stay here, and only one process can have this kind of device: stop the server and start it"
                    )
                }
                exclusive.append(export)
            }
            var writer = ByteWriter()
            writer.put(export.name)
            writer.put(export.text.text)
            writer.put(export.isView)
            for file in parcel.allFiles { try link.send(.file, file: file) }
            writer.put(parcel)
            try link.send(.export, writer.bytes)
        }
        for client in report.clients { try link.send(.client, client.state.encoded, file: client.descriptor) }
        try link.send(.complete)
        return exclusive
    }

    private func send(
        _ transport: RemoteTransport, isChannel: Bool, _ link: HandoverLink
    ) throws(ExportFault) {
        var writer = ByteWriter()
        writer.put(isChannel)
        writer.put(transport.address)
        writer.put(transport.uri)
        writer.put(transport.isGiven)
        try link.send(.listener, writer.bytes, file: transport.descriptor)
    }

    private func part(_ exclusive: [Export]) {
        for export in exclusive { _ = catalogue.remove(export.name) }
        for transport in transports { transport.own(false) }
        channel?.transport.own(false)
        channel?.isHandedOver.store(true, ordering: .releasing)
        for worker in workers { worker.send(.part) }
    }
}
