import CSystem

// Connecting to hosts of a group. An address of this host leads to its own listeners, one of another host to the agent.

/// Where a connect goes.
struct Route {
    // With numbers: an enumeration without them brings hashing, and that a newer C library.
    enum Way: UInt8 {
        /// To a listener of this host, which TCP would reach too.
        case here
        /// To one by this host's address in its group, which memory alone reaches.
        case hereInGroup
        /// To another host, by the agent.
        case agent
    }

    let way: Way
    /// The address that the other end sees; its port is still to be chosen.
    var client: Address
}

/// The route to `target`, or why there is none through memory.
func route(to target: Address) -> (route: Route?, reason: Reason) {
    if target.isOfGroup, let group = GroupFile() {
        var own = Address.ofGroup(host: group.host, six: !target.unmapped().isIPv4, port: 0)
        if target.isMapped { own = own.mapped() }
        return (Route(way: target.groupHost == group.host ? .hereInGroup : .agent, client: own), .none)
    }
    guard let isHere = isLocal(target) else { return (nil, .noDescriptor) }
    guard isHere else { return (nil, target.isOfGroup ? .noAgent : .notLocal) }
    return (Route(way: .here, client: target.source()), .none)
}

extension Route {
    /// What connect returns where memory couldn't do it, for that reason: minus an errno where there is no other way, 0
    /// where there is TCP.
    func result(of reason: Reason) -> Int {
        if case .here = way { return 0 }
        switch reason {
        case .noMemory: return -Int(ENOMEM)
        case .noDescriptor: return -Int(EMFILE)
        case .backlogFull: return -Int(EAGAIN)
        default:
            if case .agent = way { return -Int(ENETUNREACH) }
            return -Int(ECONNREFUSED)
        }
    }
}
