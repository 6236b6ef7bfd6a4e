import CSystem
import Glibc
import SkeinDevice
import SkeinNBD

// A client between two processes: the one takes its state and forgets it, the other goes on with it.

extension Connection {
    /// Whether another process can go on with it. TLS can't be handed over, and who is sent off is soon gone.
    var isMovable: Bool {
        guard tls == nil, fault == nil, !isStopping else { return false }
        switch phase {
        case .negotiating, .transmitting, .finishing: return true
        case .securing, .lingering: return false
        }
    }

    /// Whether its device has answered everything, so that its state can be taken.
    var isSettled: Bool { requestsInFlight == 0 }

    /// Copies what devices have lent and the client has not got yet, as the other process has it elsewhere. False where that
    /// can't be: then the connection ends.
    func ownLoans() -> Bool {
        var next = unsafe outgoing.first
        while let slot = unsafe next {
            if unsafe slot.pointee.isLent, let data = unsafe slot.pointee.data {
                let (sent, count) = unsafe (slot.pointee.sent, slot.pointee.dataCount - slot.pointee.sent)
                let copy = unsafe worker.buffers.take(count)
                guard unsafe Connection.copy(data + sent, to: copy, count) else {
                    unsafe worker.buffers.put(copy, count)
                    fail(
                        errno == EFAULT
                            ? "a device's file was made shorter while it was sent"
                            : "descriptors or memory are short: what a device has lent can't be handed over")
                    return false
                }
                unsafe slot.pointee.data = unsafe copy
                unsafe slot.pointee.dataCapacity = count
                unsafe slot.pointee.dataCount = count
                unsafe slot.pointee.sent = 0
            }
            unsafe next = unsafe slot.pointee.next
        }
        return true
    }

    /// Copies by way of the system, which reports EFAULT where there is no content any more; who looked himself would be ended
    /// by a signal.
    private static func copy(_ content: UnsafeMutableRawPointer, to copy: UnsafeMutableRawPointer, _ count: Int) -> Bool
    {
        let file = Int32(unsafe sk_memfd_create("skein-loan", UInt32(MFD_CLOEXEC)))
        guard file >= 0 else {
            errno = -file
            return false
        }
        defer { _ = sk_close(file) }
        var done = 0
        while done < count {
            let written = unsafe write(file, content + done, count - done)
            guard written > 0 else { return false }
            done += written
        }
        return unsafe pread(file, copy, count, 0) == count
    }

    /// All that another process needs to know of it. It must be movable and settled.
    var state: ConnectionState {
        precondition(isMovable && isSettled, "only a connection at rest is handed over")
        return ConnectionState(
            address: peer.address?.bytes, user: peer.user, stage: stage,
            held: unsafe held.map { unsafe Array(UnsafeRawBufferPointer(start: $0.memory, count: $0.count)) } ?? [],
            holdsWhole: holdsWhole, payload: incoming.map(Connection.payload), outgoing: outgoing.unsent,
            stream: stream, finished: finished.unsent)
    }

    private var stage: ConnectionState.Stage {
        guard let session, let export else {
            return .negotiating(negotiation?.standing ?? Negotiation().standing)
        }
        let service = ConnectionState.Service(
            export: export.name, flags: session.export.flags, style: session.style,
            hasAllocationContext: session.hasAllocationContext)
        return phase == .finishing ? .finishing(service) : .transmitting(service)
    }

    private static func payload(_ incoming: Incoming) -> ConnectionState.Payload {
        let collected = unsafe incoming.slot.map { slot in
            unsafe (
                slot.pointee.message.offset,
                Array(UnsafeRawBufferPointer(start: slot.pointee.data, count: incoming.filled))
            )
        }
        let left = unsafe incoming.slot.map { unsafe $0.pointee.dataCapacity - incoming.filled } ?? incoming.left
        return ConnectionState.Payload(
            request: incoming.request, left: left, offset: incoming.offset, failure: incoming.failure?.code,
            collected: collected)
    }

    /// Takes on what another process has left. Where that makes no sense, the connection ends.
    func resume(_ state: ConnectionState) {
        switch state.stage {
        case .negotiating(let standing):
            negotiation = unsafe Negotiation(tls: worker.admission.tls.policy, standing)
        case .transmitting(let service), .finishing(let service):
            guard let export = unsafe worker.catalogue.export(service.export) else {
                return fail("the export is missing here")
            }
            var description = export.description
            description.flags = service.flags
            begin(
                Session(
                    export: description, style: service.style, hasAllocationContext: service.hasAllocationContext),
                export)
            if case .finishing = state.stage { phase = .finishing }
        }
        send(state.outgoing)
        stream = state.stream
        sendLater(state.finished)
        unsafe state.held.withUnsafeBytes { unsafe hold($0) }
        holdsWhole = state.holdsWhole
        if let payload = state.payload, let iop { resume(payload, iop) }
    }

    private func resume(_ payload: ConnectionState.Payload, _ iop: IOP) {
        var current = unsafe Incoming(
            request: payload.request, left: payload.left, offset: payload.offset,
            failure: payload.failure.map { ($0, "the request failed before the server was replaced") })
        if let (offset, bytes) = payload.collected {
            let total = bytes.count + payload.left
            let options: Message.Options = payload.request.flags.contains(.forceUnitAccess) ? .durable : []
            let message = unsafe Message(.write, options, offset: offset, length: UInt64(total))
            let slot = unsafe slot(payload.request, iop, message, count: total)
            unsafe slot.pointee.data!.copyMemory(from: bytes, byteCount: bytes.count)
            unsafe current.slot = unsafe slot
            current.filled = bytes.count
        }
        incoming = current
    }
}

extension SlotList {
    /// What clients have not got yet of what lies in these slots, in their order.
    fileprivate var unsent: [UInt8] {
        var bytes: [UInt8] = []
        var next = unsafe first
        while let slot = unsafe next {
            let (head, sent) = unsafe (slot.pointee.headCount, slot.pointee.sent)
            unsafe bytes += UnsafeRawBufferPointer(start: slot.pointee.head, count: head).dropFirst(sent)
            if let data = unsafe slot.pointee.data {
                unsafe bytes += UnsafeRawBufferPointer(start: data, count: slot.pointee.dataCount)
                    .dropFirst(max(0, sent - head))
            }
            unsafe next = unsafe slot.pointee.next
        }
        return bytes
    }
}
