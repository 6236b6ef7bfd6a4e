import SkeinMedium

/// What `skein medium show` tells: who is on a medium, and how much of it is used.
package struct MediumReport {
    package struct Host {
        package enum State: String {
            /// Its lease was renewed while we looked.
            case alive
            /// It said so when it stopped.
            case stopped
            /// It is about to take the slot.
            case claiming
            /// Its lease says alive, and was not renewed while we looked: it hangs, or ended without a word.
            case silent
        }

        package let slot: Int
        package let name: String
        package let state: State
        package let generation: UInt64
        package let incarnation: Identifier
        /// Sockets in the group's table.
        package let sockets: Int
        /// Hosts that it says are dead.
        package let verdicts: [Int]
    }

    package let superblock: Superblock
    package let isWhole: Bool
    /// Nil without the group's key.
    package let hosts: [Host]?

    /// Looks at the leases twice, `pause` being what happens in between: a period of renewals and a little more.
    package init(_ medium: Medium, pause: () -> Void) throws(AgentFault) {
        superblock = medium.superblock
        isWhole = medium.isWhole
        guard medium.seal != nil else {
            hosts = nil
            return
        }
        let before = try medium.leases()
        if before.contains(where: { $0?.lease.state == .alive }) { pause() }
        let after = try medium.leases()
        var hosts: [Host] = []
        for (slot, found) in after.enumerated() {
            guard let found else { continue }
            let isRenewed = before[slot]?.incarnation != found.incarnation || before[slot]?.count != found.count
            let state: Host.State =
                switch found.lease.state {
                case .claiming: .claiming
                case .stopped: .stopped
                case .alive: isRenewed ? .alive : .silent
                }
            hosts.append(
                Host(
                    slot: slot, name: found.lease.name, state: state, generation: found.lease.generation,
                    incarnation: found.incarnation,
                    sockets: state == .stopped ? 0 : try medium.sockets(of: slot, incarnation: found.incarnation).count,
                    verdicts: found.lease.verdicts.map(\.host)))
        }
        self.hosts = hosts
    }
}
