import SkeinConduit
import SkeinMedium

/// One host of a group: an incarnation on the medium, and a conduit to every other host that lives.
///
/// A state machine without I/O, driven as `MediumHost` is: its owner calls `advance` when `deadline` comes, performs what
/// `takeActions` says, reports how each ended, and looks at `takeEvents` after each call. Programs' calls go to a
/// filament by `with`; `send` then makes blocks of what they left. Times are CLOCK_BOOTTIME in nanoseconds. Once it has
/// ended it is never used again: its owner makes another one, of a new incarnation.
package struct GroupHost: ~Copyable {
    package enum Event {
        /// This host is a member, with that number.
        case joined(number: Int, generation: UInt64)
        case peerCame(host: Int, name: String)
        /// It lives, and has written what no honest host writes: nothing goes to it or comes from it any more.
        case peerBroken(host: Int, name: String, reason: String)
        /// It doesn't live any more. Its filaments have had their last events.
        case peerGone(host: Int, name: String)
        case filament(link: UInt64, host: Int, FilamentEvent)
        /// All filaments have had their last events.
        case ended(Membership.End)
    }

    private var medium: MediumHost
    private var links: Links
    private var linkCount: UInt64 = 0
    private var events: [Event] = []

    /// A host that begins to look for its slot.
    package init(
        _ host: Membership.Host, on superblock: Superblock, timing: Timing, seal: any Seal,
        limits: Conduit.Limits = Conduit.Limits(), at now: UInt64
    ) {
        medium = MediumHost(host, on: superblock, timing: timing, seal: seal, at: now)
        links = Links(hosts: superblock.geometry.hosts, limits: limits)
    }

    /// Whether the host has its place among the others, as far as is known.
    package private(set) var isMember = false
    /// The host's own number, while it is a member.
    package var number: Int? { isMember ? medium.slot : nil }

    /// When `advance` has something to do, if nothing else happens before.
    package var deadline: UInt64? {
        guard let credit = links.creditDue else { return medium.deadline }
        return min(credit, medium.deadline ?? .max)
    }

    /// What is to be done now, each once.
    package mutating func takeActions() -> [MediumHost.Action] { medium.takeActions() }

    /// What happened since the last call.
    package mutating func takeEvents() -> [Event] {
        defer { events = [] }
        return events
    }

    // MARK: - What happens

    /// Does what is due.
    package mutating func advance(at now: UInt64) {
        medium.advance(at: now)
        heed()
        send(at: now)
    }

    /// An action has ended.
    package mutating func ended(_ tag: UInt64, _ outcome: MediumHost.Outcome, at now: UInt64) {
        medium.ended(tag, outcome, at: now)
        heed()
    }

    /// Makes blocks of what there is for other hosts.
    package mutating func send(at now: UInt64) {
        links.beginSending(at: now)
        medium.send(from: &links, at: now)
        heed()
        links.endSending(at: now)
        collect()
    }

    /// Gives the slot back: a later incarnation takes it without waiting. All filaments are reset.
    package mutating func stop(at now: UInt64) {
        medium.stop(at: now)
        isMember = false
        heed()
        for host in links.all.indices { part(host) }
    }

    // MARK: - Filaments

    /// Opens a filament to a host that lives. Nil where none of that name does.
    package mutating func open(
        to name: String, kind: UInt32, address: [UInt8]
    ) throws(FilamentFault) -> GroupFilament? {
        guard let host = links.all.firstIndex(where: { $0?.name == name }) else { return nil }
        return try open(to: host, kind: kind, address: address)
    }

    /// The same by the host's number.
    package mutating func open(
        to host: Int, kind: UInt32, address: [UInt8]
    ) throws(FilamentFault) -> GroupFilament? {
        guard links.all.indices.contains(host), let link = links.all[host] else { return nil }
        let number = try link.conduit.open(kind: kind, address: address)
        return GroupFilament(link: link.number, host: host, number: number)
    }

    /// Has the conduit of a filament do something with it. `gone` where that conduit is no more.
    package func with<Result>(
        _ filament: GroupFilament, _ body: (inout Conduit, FilamentNumber) throws(FilamentFault) -> Result
    ) throws(FilamentFault) -> Result {
        guard let link = links.all[filament.host], link.number == filament.link else { throw .gone }
        return try body(&link.conduit, filament.number)
    }

    /// The same for what has no result. Returns why the filament can't do it; nil where it did.
    @discardableResult
    package func perform(
        _ filament: GroupFilament, _ body: (inout Conduit, FilamentNumber) throws(FilamentFault) -> Void
    ) -> FilamentFault? {
        do throws(FilamentFault) {
            try with(filament, body)
            return nil
        } catch {
            return error
        }
    }

    /// The name of the host at the other end of a filament.
    package func peer(of filament: GroupFilament) -> String? {
        guard let link = links.all[filament.host], link.number == filament.link else { return nil }
        return link.name
    }

    // MARK: - What the medium says

    private mutating func heed() {
        for event in medium.takeEvents() {
            switch event {
            case .membership(.joined(let slot, let generation)):
                isMember = true
                events.append(.joined(number: slot, generation: generation))
            case .membership(.peerAlive(let host, _, _, let name)): meet(host, name)
            case .membership(.peerGone(let host, _)): part(host)
            case .membership(.ended(let end)):
                isMember = false
                for host in links.all.indices { part(host) }
                events.append(.ended(end))
            case .received(let host, let payload): take(payload, from: host)
            case .broken(let host, _, let fault): sever(host, "\(fault)")
            }
        }
    }

    private mutating func meet(_ host: Int, _ name: String) {
        guard let number = medium.slot else { preconditionFailure("who has peers has a number") }
        linkCount += 1
        links.all[host] = Link(
            linkCount, name: name, conduit: Conduit(number < host ? .even : .odd, limits: links.limits))
        events.append(.peerCame(host: host, name: name))
    }

    private mutating func take(_ payload: ArraySlice<UInt8>, from host: Int) {
        guard let link = links.all[host] else { preconditionFailure("payloads come from who lives") }
        if link.conduit.hasEnded { return }
        do throws(ConduitFault) {
            try unsafe link.conduit.take(payload.span.bytes)
            collect(host)
        } catch {
            sever(host, "\(error)")
        }
    }

    /// Nothing goes to that incarnation any more, though it lives.
    private mutating func sever(_ host: Int, _ reason: String) {
        guard let link = links.all[host] else { return }
        if !link.conduit.hasEnded { link.conduit.end(error: Conduit.ErrorNumber.connectionReset) }
        collect(host)
        events.append(.peerBroken(host: host, name: link.name, reason: reason))
    }

    private mutating func part(_ host: Int) {
        guard let link = links.all[host] else { return }
        if !link.conduit.hasEnded { link.conduit.end(error: Conduit.ErrorNumber.connectionReset) }
        collect(host)
        links.all[host] = nil
        events.append(.peerGone(host: host, name: link.name))
    }

    private mutating func collect() {
        for host in links.all.indices { collect(host) }
    }

    /// Takes over what happened to the filaments of one conduit.
    private mutating func collect(_ host: Int) {
        guard let link = links.all[host] else { return }
        for event in link.conduit.takeEvents() {
            events.append(.filament(link: link.number, host: host, event))
        }
    }
}
