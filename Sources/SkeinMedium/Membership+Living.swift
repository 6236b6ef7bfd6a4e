// How an incarnation keeps its slot, and learns who else lives.

extension Membership {
    /// What is known of another host.
    struct Peer {
        var incarnation: Identifier
        var generation: UInt64
        var state: Lease.State
        var count: UInt64
        var name: String
        /// The end of the first of our readings that showed this count.
        var seen: UInt64
        var isDead = false
        var isAnnounced = false
    }

    /// One period: what was read is taken in, and our own lease is written anew. It is read back in the next
    /// period, after it stood for that long: two that write to one slot so see each other.
    mutating func renew(_ slots: [Slot], at now: UInt64) {
        guard let slot else { preconditionFailure("who lives has a slot") }
        var isGood = false
        if case .lease(let header, _) = slots[slot] {
            if header.writer == host.incarnation {
                isGood = header.count == renewal.count
            } else if header.writer != predecessor {
                return end(.replaced)
            }
        }
        let judges = meet(slots, at: now)
        if let judge = judges { return end(.judgedDead(by: judge)) }
        if isGood {
            readBack = renewal.issued
            if !isJoined {
                isJoined = true
                events.append(.joined(slot: slot, generation: generation))
            }
            actOnVerdicts()
            judge(at: now)
        }
        if isJoined { announce() }
        verdicts = verdicts.filter { peers[$0.key.host]?.incarnation == $0.key.incarnation }
        writeLease(.alive, at: now)
    }

    /// Takes in the leases of the others. Returns a host that judged this incarnation dead.
    private mutating func meet(_ slots: [Slot], at now: UInt64) -> Int? {
        for (number, content) in slots.enumerated() where number != slot {
            if case .lease(let header, let lease) = content { meet(number, header, lease, at: now) }
        }
        for (number, content) in slots.enumerated() where number != slot {
            guard case .lease(let header, let lease) = content, let author = peers[number],
                header.writer == author.incarnation, !author.isDead, lease.state == .alive
            else { continue }
            for verdict in lease.verdicts {
                if verdict.host == slot {
                    if verdict.incarnation == host.incarnation { return number }
                } else if peers[verdict.host]?.incarnation == verdict.incarnation {
                    bury(verdict.host)
                }
            }
        }
        return nil
    }

    private mutating func meet(_ number: Int, _ header: BlockHeader, _ lease: Lease, at now: UInt64) {
        if var peer = peers[number] {
            if peer.incarnation == header.writer {
                guard header.count > peer.count else { return }
                peer.count = header.count
                peer.state = lease.state
                peer.seen = now
                peers[number] = peer
                if lease.state == .stopped { bury(number) }
                return
            }
            // Who was reported gone stays so, or what was exchanged with it would be taken for new. A late write of
            // an older incarnation is none of the slot's news.
            guard !reportedGone.contains(header.writer) else { return }
            guard lease.generation > peer.generation || peer.isDead || peer.state != .alive else { return }
            bury(number)
        }
        peers[number] = Peer(
            incarnation: header.writer, generation: lease.generation, state: lease.state, count: header.count,
            name: lease.name, seen: now, isDead: lease.state == .stopped)
    }

    /// The incarnation that we know of that host doesn't live any more.
    private mutating func bury(_ number: Int) {
        guard let peer = peers[number] else { return }
        if peer.isAnnounced {
            reportedGone.insert(peer.incarnation)
            events.append(.peerGone(host: number, incarnation: peer.incarnation))
        }
        peers[number]?.isAnnounced = false
        peers[number]?.isDead = true
    }

    private mutating func announce() {
        for (number, peer) in peers.sorted(by: { $0.key < $1.key })
        where peer.state == .alive && !peer.isDead && !peer.isAnnounced {
            peers[number]?.isAnnounced = true
            events.append(
                .peerAlive(
                    host: number, incarnation: peer.incarnation, generation: peer.generation, name: peer.name))
        }
    }

    /// Verdicts of ours that were read back are final: whoever they are about sees them before it can renew.
    private mutating func actOnVerdicts() {
        for (verdict, count) in verdicts.sorted(by: { $0.key.host < $1.key.host }) where count <= renewal.count {
            if peers[verdict.host]?.incarnation == verdict.incarnation { bury(verdict.host) }
        }
    }

    /// Looks for leases that didn't change between two of our readings, in a time in which ours was read back.
    private mutating func judge(at now: UInt64) {
        defer { lastGoodReading = now }
        if readIssued > lastGoodReading + timing.readingGap {
            for number in peers.keys { peers[number]?.seen = now }
            return
        }
        for (number, peer) in peers
        where peer.state == .alive && !peer.isDead && readIssued >= peer.seen + timing.verdict {
            let verdict = Lease.Verdict(host: number, incarnation: peer.incarnation)
            if verdicts[verdict] == nil { verdicts[verdict] = renewal.count + 1 }
        }
    }
}
