import SkeinCore

/// Finds for each socket of one process the sentence that says how it stands and what to do.
struct Explainer {
    private let observed: Observed
    private let kernel: KernelSockets
    /// Sockets on shared memory: by the kernel's number, since a duplicate has no record of its own.
    private let records: [UInt64: SocketRecord]
    private let allRecords: [SocketRecord]
    private let holders: [UInt64: Process]

    init(_ process: Process, _ descriptors: [SocketDescriptor], _ allRecords: [SocketRecord]) {
        observed = Observed(process)
        kernel = KernelSockets(around: process)
        holders = SocketDescriptor.holders()
        self.allRecords = allRecords
        var records: [UInt64: SocketRecord] = [:]
        for record in allRecords where record.process.identifier == process.identifier {
            if let descriptor = descriptors.first(where: { $0.number == record.descriptor }) {
                records[descriptor.inode] = record
            }
        }
        self.records = records
    }

    /// Nil for what is neither TCP's nor ours.
    func sentence(_ descriptor: SocketDescriptor) -> String? {
        if let record = records[descriptor.inode], agrees(record, descriptor) {
            return "\(descriptor.number): \(onMemory(record))"
        }
        guard descriptor.isTCP else { return nil }
        guard let socket = kernel.sockets[descriptor.inode] else {
            let outlook = observed.whyWithoutHeader.map { "it will be on TCP, because \($0)" }
            return "\(descriptor.number): is not connected; "
                + (outlook ?? "how its bytes travel is decided when it connects or listens")
        }
        if socket.isListening { return "\(descriptor.number): \(socket.local.text) \(listening(socket))" }
        let reason = whyTCP(socket)
        return "\(descriptor.number): \(socket.local.text) to \(socket.peer.text) is on TCP, because \(reason)"
    }

    /// A connection on shared memory is a Unix socket to the kernel, a TCP listener stays one: a record that
    /// says otherwise was left behind by a number's earlier use.
    private func agrees(_ record: SocketRecord, _ descriptor: SocketDescriptor) -> Bool {
        (record.role == .listener && !record.local.isSTP) == descriptor.isTCP
    }

    private func onMemory(_ record: SocketRecord) -> String {
        if record.role == .unconnected { return "is an STP socket that is not connected yet" }
        guard let peer = record.peer else {
            if record.local.isSTP { return "\(record.local.text) listens for STP over shared memory" }
            return "\(record.local.text) listens: "
                + "clients of this host that run under skein come over shared memory, others over TCP"
        }
        let other = allRecords.first { $0.peer?.text == record.local.text && $0.local.text == peer.text }
        let process = other.map { ", process \($0.process.identifier) (\(printable($0.program)))" } ?? ""
        return "\(record.local.text) is on shared memory, peer \(peer.text)\(process)"
    }

    private func listening(_ socket: KernelSockets.TCPSocket) -> String {
        switch kernel.hiddenListener(at: socket.local) {
        case .present:
            return "listens, and a hidden listener beside it takes clients under skein over shared memory"
        case .otherVersion:
            return "listens under another version of Skein, which alone reaches it over shared memory"
        case .absent, .unknown: break
        }
        let reason = observed.whyExcluded(socket.local) ?? observed.whyWithoutHeader
        if let reason { return "listens for TCP alone, because \(reason)" }
        return "listens for TCP alone: it has no hidden listener; restart it with 'skein run --log FILE' to see why"
    }

    private func whyTCP(_ socket: KernelSockets.TCPSocket) -> String {
        guard kernel.isOnThisHost(socket) else { return "the peer is on another host; nothing to do" }
        if let reason = observed.whyWithoutHeader { return reason }
        let isServer = kernel.listener(at: socket.local) != nil
        // The client's rules are about what it dialled, the server's about what its listener is bound to.
        let dialled = isServer ? socket.local : socket.peer
        let bound = kernel.listener(at: dialled) ?? dialled
        if let reason = observed.whyExcluded(isServer ? bound : dialled) { return reason }
        if let other = kernel.otherEnd(of: socket).flatMap({ holders[$0] }).map(Observed.init) {
            let reason = other.whyWithoutHeader ?? other.whyExcluded(isServer ? dialled : bound)
            if let reason { return "of the peer, \(other.description): \(reason)" }
        }
        let hidden = kernel.hiddenListener(at: dialled)
        if !isServer && hidden == .absent {
            return "the listener there does not run under skein; start it with 'skein run'"
        }
        if hidden == .otherVersion { return "the other end has another version of Skein; start both with the same" }
        return "it was connected before both ends ran under skein, or its set-up met a limit; "
            + "connect again, with 'skein run --log FILE' to see the reason"
    }
}
