import SkeinCore

/// Finds for each socket of one process the sentence that says how it stands and what to do.
struct Explainer {
    private let observed: Observed
    private let kernel: KernelSockets
    /// Sockets with a control block, by the kernel's number: a duplicate has no block of its own. Of this
    /// process, and of all others.
    private let own: [UInt64: ListedSocket]
    private let others: [UInt64: ListedSocket]
    private let holders: [UInt64: Process]
    /// Unix sockets that lead to a relay.
    private let relayed = KernelCounters().relayed

    init(_ process: Process, _ sockets: [ListedSocket]) {
        observed = Observed(process)
        kernel = KernelSockets(around: process)
        holders = SocketDescriptor.holders()
        func byNumber(_ sockets: [ListedSocket]) -> [UInt64: ListedSocket] {
            Dictionary(sockets.map { ($0.inode, $0) }) { first, _ in first }
        }
        own = byNumber(sockets.filter { $0.process.identifier == process.identifier })
        others = byNumber(sockets.filter { $0.process.identifier != process.identifier })
    }

    /// Nil for what is neither TCP's nor ours.
    func explanation(_ descriptor: SocketDescriptor) -> Explanation? {
        func explain(_ carrier: Explanation.Carrier?, _ sentence: String) -> Explanation {
            Explanation(descriptor: descriptor.number, carrier: carrier, sentence: sentence)
        }
        if let socket = own[descriptor.inode], agrees(socket, descriptor) {
            let isDecided = socket.record.state != .unconnected
            return explain(isDecided ? socket.record.isOnMemory ? .memory : .tcp : nil, recorded(socket))
        }
        if relayed.contains(descriptor.inode) {
            return explain(
                .relay,
                "leads to a relay, which carries a connection on shared memory for it: "
                    + "it was handed over by exec, posix_spawn or SCM_RIGHTS; nothing to do")
        }
        guard descriptor.isTCP else { return nil }
        guard let socket = kernel.sockets[descriptor.inode] else {
            let outlook = observed.whyWithoutHeader.map { "it will be on TCP, because \($0)" }
            return explain(
                nil, "is not connected; \(outlook ?? "how its bytes travel is decided when it connects or listens")")
        }
        if socket.isListening {
            let hidden = kernel.hiddenListener(at: socket.local)
            let isOnMemory = hidden == .present || hidden == .otherVersion
            return explain(isOnMemory ? .memory : .tcp, "\(socket.local.text) \(listening(socket))")
        }
        return explain(.tcp, "\(socket.local.text) to \(socket.peer.text) is on TCP, because \(whyTCP(socket))")
    }

    /// A connection on shared memory is a Unix socket to the kernel, all others but STP's stay TCP: a record
    /// that says otherwise was left behind by a number's earlier use.
    private func agrees(_ socket: ListedSocket, _ descriptor: SocketDescriptor) -> Bool {
        let record = socket.record
        return (!record.isOnMemory || (record.state == .listening && !record.local.isSTP)) == descriptor.isTCP
    }

    // MARK: What the control block says

    private func recorded(_ socket: ListedSocket) -> String {
        let record = socket.record
        if record.state == .unconnected { return "is an STP socket that is not connected yet" }
        if record.state == .listening {
            if let reason = recordedReason(socket, observed) {
                return "\(socket.local.text) listens for TCP alone, because \(reason)"
            }
            if record.local.isSTP { return "\(socket.local.text) listens for STP over shared memory" }
            return "\(socket.local.text) listens: "
                + "clients of this host that run under skein come over shared memory, others over TCP"
        }
        let peer = socket.peer?.text ?? "nobody"
        if let reason = recordedReason(socket, observed) {
            // TCP goes nowhere either then.
            let standing = socket.record.reason == Reason.noAgent.rawValue ? "is not connected" : "is on TCP"
            return "\(socket.local.text) to \(peer) \(standing), because \(reason)"
        }
        let other = (Array(others.values) + own.values).first {
            $0.record.place == record.place && $0.record.role != record.role
        }
        let process = other.map { ", process \($0.process.identifier) (\(printable($0.record.program)))" } ?? ""
        return "\(socket.local.text) is on shared memory, peer \(peer)\(process)"
    }

    /// Why a socket is not on memory, as it was recorded when it was connected, with what can be told of it
    /// now. Nil for one that is.
    private func recordedReason(_ socket: ListedSocket, _ observed: Observed) -> String? {
        guard let recorded = socket.reason else { return nil }
        let reason = Reason(rawValue: socket.record.reason)
        if reason == .refusedByRule {
            // A client's rules are about what it dialled, a server's about what its listener is bound to.
            let bound = kernel.listener(at: socket.local) ?? socket.local
            return observed.whyExcluded(socket.record.role == .client ? socket.peer ?? bound : bound) ?? recorded
        }
        guard reason == .notUnderSkein || reason == .clientOverTCP else { return recorded }
        let number = kernel.otherEnd(ofNumber: socket.inode)
        let theirs = number.flatMap { others[$0] }
        if let theirs, theirs.layout != socket.layout { return Explainer.versions }
        if reason == .notUnderSkein, let peer = socket.peer, kernel.hiddenListener(at: peer) == .otherVersion {
            return Explainer.versions
        }
        guard let other = number.flatMap({ holders[$0] }).map(Observed.init) else { return recorded }
        let why =
            other.whyWithoutHeader ?? (reason == .clientOverTCP ? theirs : nil).flatMap { recordedReason($0, other) }
        return ofPeer(other, why) ?? recorded
    }

    private static let versions = "the other end has another version of Skein; start both with the same"

    private func ofPeer(_ other: Observed, _ reason: String?) -> String? {
        reason.map { "of the peer, \(other.description): \($0)" }
    }

    // MARK: What can only be told from outside

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
        if let other = kernel.otherEnd(of: socket).flatMap({ holders[$0] }).map(Observed.init),
            let reason = ofPeer(other, other.whyWithoutHeader ?? other.whyExcluded(isServer ? dialled : bound))
        {
            return reason
        }
        let hidden = kernel.hiddenListener(at: dialled)
        if !isServer && hidden == .absent {
            return "the listener there does not run under skein; start it with 'skein run'"
        }
        if hidden == .otherVersion { return Explainer.versions }
        return "it was connected before both ends ran under skein, or its set-up met a limit; "
            + "connect again, with 'skein run --log FILE' to see the reason"
    }
}
