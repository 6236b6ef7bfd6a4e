// How an incarnation comes to its slot.

extension Membership {
    /// What was found out while looking for a slot.
    struct Search {
        let began: UInt64
        /// The leases of our name that are being watched, by slot, and since when each has not changed. One
        /// incarnation's can lie in two slots: a claim of it may have landed late.
        var watched: [Int: (incarnation: Identifier, count: UInt64, since: UInt64)] = [:]
        /// Incarnations of our name that are gone.
        var gone: Set<Identifier> = []
    }

    mutating func survey(_ slots: [Slot], at now: UInt64) {
        let isOverdue = now >= search.began + timing.dead
        // A lease that is just being written may be the one of our name: a slot is broken once it stays so.
        let hasBroken = slots.contains { if case .broken = $0 { true } else { false } }
        if hasBroken && !isOverdue { return again(at: now) }

        // A late write can leave a name in two slots. All of its leases must be gone, and the first is taken.
        var named: [(slot: Int, header: BlockHeader, lease: Lease)] = []
        for (slot, content) in slots.enumerated() {
            guard case .lease(let header, let lease) = content, lease.name == host.name else { continue }
            named.append((slot, header, lease))
            guard watch(slot, header, lease, at: now) else { return }
        }
        if let first = named.first {
            let areGone = named.allSatisfy { search.gone.contains($0.header.writer) }
            return areGone ? reclaim(first.slot, first.header, first.lease, at: now) : again(at: now)
        }
        let free = slots.firstIndex { if case .empty = $0 { true } else { false } }
        let broken = slots.firstIndex { if case .broken = $0 { true } else { false } }
        if let slot = free ?? broken { return claim(slot, generation: 1, after: nil, at: now) }
        end(
            .full(
                stopped: slots.compactMap {
                    if case .lease(_, let lease) = $0, lease.state == .stopped { lease.name } else { nil }
                }))
    }

    /// Notes whether a lease of our name is gone, or since when it has not changed. False once that host lives.
    private mutating func watch(_ slot: Int, _ header: BlockHeader, _ lease: Lease, at now: UInt64) -> Bool {
        let writer = header.writer
        // One of our own is a claim whose write was said to have failed.
        if lease.state == .stopped || writer == host.gone || writer == host.incarnation {
            search.gone.insert(writer)
        } else if let watched = search.watched[slot], watched.incarnation == writer {
            if header.count > watched.count {
                end(.nameTaken)
                return false
            }
            if readIssued >= watched.since + timing.dead { search.gone.insert(writer) }
        } else {
            search.watched[slot] = (writer, header.count, now)
        }
        return true
    }

    /// The slot has our name, and its last incarnation is gone.
    private mutating func reclaim(_ slot: Int, _ header: BlockHeader, _ lease: Lease, at now: UInt64) {
        if header.writer == host.incarnation {
            return claim(slot, generation: lease.generation, after: predecessor, at: now)
        }
        // Our half of the data units was that of the incarnation before the last, whose writes may still be
        // under way for a dead time after its end: it ended before the last one claimed.
        let quarantined =
            lease.boot == host.boot && lease.start <= now ? lease.start + timing.dead : search.began + timing.dead
        if lease.generation > 1 && now < quarantined {
            next = quarantined
            return
        }
        claim(slot, generation: lease.generation &+ 1, after: header.writer, at: now)
    }

    private mutating func claim(_ slot: Int, generation: UInt64, after predecessor: Identifier?, at now: UInt64) {
        // What was read long ago may no longer be so.
        guard now <= readIssued + timing.timeout else {
            next = now
            return
        }
        self.slot = slot
        self.generation = generation
        self.predecessor = predecessor
        claimed = now
        phase = .claiming
        writeLease(.claiming, at: now)
    }

    private mutating func again(at now: UInt64) { next = now + timing.renewal / 2 }

    mutating func confirm(_ slots: [Slot], at now: UInt64) {
        // After a pause the slot may be another's by now, and must not be written to.
        guard now <= readIssued + timing.timeout else {
            next = now
            return
        }
        guard let slot, case .lease(let header, _) = slots[slot], header.writer == host.incarnation else {
            // Another one was faster, or the write was lost: whoever has the slot now is found by looking again.
            return lookAgain(at: now)
        }
        for (other, content) in slots.enumerated() where other != slot {
            // Two of one name took two empty slots: who lives stays, else the lower.
            guard case .lease(let header, let lease) = content, lease.name == host.name,
                !search.gone.contains(header.writer)
            else { continue }
            if lease.state == .alive || other < slot { return end(.nameTaken) }
        }
        phase = .alive
        readBack = readIssued
        lastGoodReading = now
        writeLease(.alive, at: now)
    }

    private mutating func lookAgain(at now: UInt64) {
        phase = .surveying
        search = Search(began: now)
        predecessor = nil
        next = now
    }
}
