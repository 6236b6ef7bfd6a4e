// What a member does for each of its peers.

extension MediumHost {
    /// Writes of an earlier pair may still change the units of this one.
    func isSettled(_ host: Int) -> Bool { leftover[host] == nil }

    /// Takes in what membership has to say.
    mutating func heed(at now: UInt64) {
        for event in membership.takeEvents() {
            events.append(.membership(event))
            switch event {
            case .joined: rowPoller.found(at: now)
            case .peerAlive(let host, let incarnation, let generation, _):
                open(Pair.Peer(host: host, incarnation: incarnation, generation: generation), at: now)
            case .peerGone(let host, let incarnation):
                if pairs[host]?.peer.incarnation == incarnation { close(host) }
            case .ended:
                for host in pairs.indices { close(host) }
                // What was not yet taken is not to be done any more.
                actions = []
            }
        }
        switch membership.takeAction() {
        case .read(let unit, let count): issue(.read(unit: unit, count: count), .leases)
        case .write(let unit, let bytes): issue(.write(unit: unit, bytes: bytes), .lease)
        case nil: break
        }
    }

    private mutating func open(_ peer: Pair.Peer, at now: UInt64) {
        guard let slot else { preconditionFailure("who has peers has a slot") }
        if pairs[peer.host] != nil { close(peer.host) }
        pairCount += 1
        pairs[peer.host] = Pair(of: peer, number: pairCount, for: slot, in: membership, at: now)
        rowPoller.found(at: now)
    }

    /// Drops all that is for that peer.
    mutating func close(_ host: Int) {
        guard let pair = pairs[host] else { return }
        pairs[host] = nil
        let writes = pair.writer.writesUnderWay + (pair.row.isWriting ? 1 : 0)
        if writes > 0 { leftover[host, default: 0] += writes }
    }

    private mutating func leftoverEnded(_ host: Int) {
        guard let writes = leftover[host] else { preconditionFailure("a write is of the pair or left over") }
        leftover[host] = writes > 1 ? writes - 1 : nil
    }

    /// Runs `body` on the pair; where the peer broke the rules, all ends with it.
    private mutating func with<Result>(
        _ host: Int, _ body: (inout Pair) throws(PeerFault) -> Result
    ) -> Result? {
        guard let incarnation = pairs[host]?.peer.incarnation else { return nil }
        do {
            return try body(&pairs[host]!)
        } catch {
            close(host)
            events.append(.broken(host: host, incarnation: incarnation, fault: error))
            return nil
        }
    }

    // MARK: What has ended

    mutating func rowsRead(_ bytes: [UInt8]?, at now: UInt64) {
        isReadingRow = false
        guard let bytes else { return rowPoller.failed(at: now) }
        var hasNews = false
        for host in pairs.indices {
            let isNews = with(host) { pair throws(PeerFault) in
                try pair.rowRead(bytes, at: host * unitSize, at: now)
            }
            if isNews ?? false { hasNews = true }
        }
        if hasNews { rowPoller.found(at: now) } else { rowPoller.missed(at: now) }
    }

    mutating func rowWritten(_ host: Int, _ number: UInt64, _ isDone: Bool, at now: UInt64) {
        guard pairs[host]?.number == number else { return leftoverEnded(host) }
        pairs[host]?.row.written(isDone, at: now)
    }

    mutating func ringRead(_ host: Int, _ number: UInt64, _ read: UInt64, _ bytes: [UInt8]?, at now: UInt64) {
        guard pairs[host]?.number == number else { return }
        let payloads = with(host) { pair throws(PeerFault) in try pair.ringRead(read, bytes, at: now) }
        for payload in payloads ?? [] { events.append(.received(host: host, payload: payload)) }
    }

    mutating func ringWritten(
        _ host: Int, _ number: UInt64, _ positions: Range<UInt64>, _ isDone: Bool, at now: UInt64
    ) {
        guard pairs[host]?.number == number else { return leftoverEnded(host) }
        pairs[host]?.writer.written(positions, isDone, at: now)
    }

    // MARK: What is due

    mutating func work(at now: UInt64) {
        guard holds(at: now), let slot else { return }
        for host in pairs.indices where isSettled(host) {
            guard let number = pairs[host]?.number else { continue }
            if let write = pairs[host]?.rewrite(at: now) { issue(write, to: host) }
            if let row = pairs[host]?.writeRow(at: now) {
                let unit = membership.geometry.row(of: host, from: slot)
                issue(.write(unit: unit, bytes: row), .row(host: host, pair: number))
            }
            while let (read, units) = pairs[host]?.reader.read(at: now) {
                issue(
                    .read(unit: units.lowerBound, count: units.count),
                    .ringRead(host: host, pair: number, number: read))
            }
        }
        guard !isReadingRow, now >= rowPoller.next, pairs.contains(where: { $0 != nil }) else { return }
        isReadingRow = true
        issue(.read(unit: membership.geometry.row(of: slot, from: 0), count: membership.geometry.hosts), .rows)
    }

    mutating func issue(_ write: RingWrite, to host: Int) {
        guard let number = pairs[host]?.number else { preconditionFailure("blocks are written to who lives") }
        issue(
            .write(unit: write.unit, bytes: write.bytes),
            .ringWrite(host: host, pair: number, positions: write.positions))
    }
}
