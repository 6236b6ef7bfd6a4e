import SkeinMedium

// What must hold in every run.

extension World {
    mutating func fail(_ what: String) {
        trace("WRONG: \(what)")
        if failure == nil { failure = what }
    }

    // After each step: nothing large is copied here.

    /// Two agents that can act never both hold one slot, nor one name.
    mutating func checkHolders() {
        var holders = [Int](repeating: -1, count: superblock.geometry.hosts)
        for number in agents.indices where agents[number].pausedUntil <= clock {
            guard agents[number].host?.holds(at: clock) ?? false, let slot = agents[number].host?.slot else { continue }
            if holders[slot] >= 0 { return fail("\(holders[slot]) and \(number) both hold slot \(slot)") }
            holders[slot] = number
        }
    }

    /// Nobody is fenced who was left in peace on a disk that works.
    mutating func checkEnd(of number: Int, _ end: Membership.End) {
        let isCalm = !hasDiskFaults && clock > agents[number].calmSince + timing.dead
        switch end {
        case .lost, .judgedDead, .replaced:
            // A twin that was paused in the middle of its claim may take the name: nobody's fault.
            let isTwin = agents.filter { $0.name == agents[number].name }.count > 1 && end == .replaced
            if isCalm && (!isTwin || planted != nil) { fail("\(number), left in peace, ended: \(end)") }
        case .full: fail("\(number) found no slot, though there is one for each name")
        case .stopped, .nameTaken: break
        }
    }

    /// Who is reported gone has ended, or couldn't renew.
    mutating func checkGone(_ incarnation: Identifier, by observer: Int) {
        guard !hasDiskFaults, let agent = agents.first(where: { $0.lastIncarnation == incarnation }),
            let host = agent.host, host.holds(at: clock), clock > agent.calmSince + timing.dead,
            clock > agents[observer].calmSince + timing.dead
        else { return }
        fail("\(observer) took \(agent.number) for gone, which lives")
    }

    /// On a disk that works, who is left in peace knows after the dead time that another has ended. One T more is for
    /// a period that began just before the end.
    mutating func checkNews(of observer: Int) {
        let patience = timing.dead + timing.timeout
        guard !hasDiskFaults, agents[observer].host?.holds(at: clock) ?? false,
            clock > agents[observer].calmSince + patience
        else { return }
        for incarnation in agents[observer].announced.values {
            guard let time = ended[incarnation], clock > time + patience else { continue }
            return fail("\(observer) does not know after the dead time that \(incarnation) ended")
        }
    }

    /// No count is used twice under one key: with a cipher that would give it away.
    mutating func checkCounts(_ bytes: [UInt8], from unit: UInt64, by number: Int) {
        for kind in [BlockKind.row, .data] {
            var offset = 0
            while let header = BlockHeader(bytes, at: offset, kind: kind) {
                let key = CountKey(
                    kind: kind, writer: header.writer, reader: peer(of: unit, for: number)?.incarnation)
                if let last = counts.updateValue(header.count, forKey: key), last >= header.count {
                    return fail("\(number) used a count again for a \(kind) block")
                }
                offset += header.units * unitSize
            }
        }
    }

    /// In the end all that run know each other, and nobody else.
    mutating func checkEnd() {
        let living = agents.filter { $0.host?.holds(at: clock) ?? false }
        let names = Set(agents.map(\.name))
        if Set(living.map(\.name)) != names || living.count != names.count {
            return fail("long after the last fault only \(living.map(\.number)) of \(agents.count) agents are members")
        }
        for agent in living {
            let wanted = Dictionary(
                uniqueKeysWithValues: living.filter { $0.number != agent.number }.map {
                    ($0.slot!, $0.lastIncarnation!)
                })
            if agent.announced != wanted {
                return fail(
                    "\(agent.number) knows others in slots \(agent.announced.keys.sorted()) than live in \(wanted.keys.sorted())"
                )
            }
        }
    }
}
