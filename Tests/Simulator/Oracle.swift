import SkeinMedium

// What must hold in every run.

extension World {
    mutating func fail(_ what: String) {
        trace("WRONG: \(what)")
        if failure == nil { failure = what }
    }

    /// Two agents that can act never both hold one slot, nor one name.
    mutating func checkHolders() {
        var slots: [Int: Int] = [:]
        for agent in agents where agent.pausedUntil <= clock {
            guard let membership = agent.membership, membership.holds(at: clock), let slot = membership.slot else {
                continue
            }
            if let other = slots.updateValue(agent.number, forKey: slot) {
                return fail("\(other) and \(agent.number) both hold slot \(slot)")
            }
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
            let membership = agent.membership, membership.holds(at: clock), clock > agent.calmSince + timing.dead,
            clock > agents[observer].calmSince + timing.dead
        else { return }
        fail("\(observer) took \(agent.number) for gone, which lives")
    }

    /// On a disk that works, who is left in peace knows after the dead time that another has ended. One T more is for
    /// a period that began just before the end.
    mutating func checkNews(of observer: Int) {
        let agent = agents[observer]
        let patience = timing.dead + timing.timeout
        guard !hasDiskFaults, agent.membership?.holds(at: clock) ?? false, clock > agent.calmSince + patience else {
            return
        }
        for incarnation in agent.announced.values {
            guard let time = ended[incarnation], clock > time + patience else { continue }
            return fail("\(observer) does not know after the dead time that \(incarnation) ended")
        }
    }

    /// In the end all that run know each other, and nobody else.
    mutating func checkEnd() {
        let living = agents.filter { $0.membership?.holds(at: clock) ?? false }
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
