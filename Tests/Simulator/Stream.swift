import SkeinMedium

/// What one incarnation gave to another, and what that took.
struct Stream {
    struct Key: Hashable {
        let writer: Identifier
        let reader: Identifier
    }

    /// Bytes that each payload begins with: both incarnations' halves, and its number.
    static let headerSize = 24

    /// The size of each payload, and when it was given.
    var given: [(size: Int, time: UInt64)] = []
    var taken = 0
    var unitsMade: UInt64 = 0
    var unitsTaken: UInt64 = 0

    /// A payload says who gave it, to whom, and as which.
    static func payload(_ key: Key, number: Int, size: Int) -> [UInt8] {
        var payload: [UInt8] = []
        payload.reserveCapacity(size)
        payload.append(word: key.writer.low)
        payload.append(word: key.reader.low)
        payload.append(word: UInt64(number))
        return payload + [UInt8](repeating: UInt8(truncatingIfNeeded: number &* 37 &+ size), count: size - headerSize)
    }
}

/// What an agent has to send: small payloads one at a time, large ones as large as there is room.
struct Supply: PayloadSource {
    var own = Identifier.zero
    var peers: [Int: Identifier] = [:]
    /// Sizes of payloads that wait, by host.
    var waiting: [Int: [Int]] = [:]
    /// How many each host was given, and those that were given since the world last looked.
    var numbers: [Int: Int] = [:]
    var made: [(key: Stream.Key, size: Int)] = []

    mutating func fill(_ payload: inout [UInt8], room: Int, for host: Int) {
        guard let peer = peers[host], let wanted = waiting[host]?.first else { return }
        waiting[host]?.removeFirst()
        let size = min(wanted, room)
        let key = Stream.Key(writer: own, reader: peer)
        payload += Stream.payload(key, number: numbers[host, default: 0], size: size)
        numbers[host, default: 0] += 1
        made.append((key, size))
    }

    mutating func forget(_ host: Int) {
        peers[host] = nil
        waiting[host] = nil
        numbers[host] = nil
    }
}

/// How often reads of one ring were under way together when one of them ended.
struct Overlap {
    /// It was not the oldest.
    var overtaking = 0
    /// It had failed.
    var failed = 0

    static func += (left: inout Overlap, right: Overlap) {
        left.overtaking += right.overtaking
        left.failed += right.failed
    }
}

extension World {
    /// A request has ended; it is no longer among the others.
    mutating func noteOverlap(_ number: Int, _ request: Request) {
        let beside = readsBeside(request)
        if beside.isEmpty { return }
        if beside.keys.contains(where: { $0 < number }) { overlap.overtaking += 1 }
        if case .failed = request.outcome { overlap.failed += 1 }
    }

    /// Other reads of the ring that a request reads, by the same agent.
    func readsBeside(_ request: Request) -> [Int: Request] {
        guard hasStreams, let ring = ringRead(request) else { return [:] }
        return requests.filter {
            $0.value.agent == request.agent && $0.value.life == request.life && ringRead($0.value) == ring
        }
    }

    /// The ring that a request reads, counted from the first one on the medium; nil where it is for something else.
    func ringRead(_ request: Request) -> UInt64? {
        let data = superblock.geometry.data.start
        guard case .read(let unit, _) = request.action.operation, unit >= data else { return nil }
        return (unit - data) / superblock.geometry.ringUnits
    }

    func channel(_ kind: BlockKind, _ writer: Identifier, _ reader: Identifier) -> BlockChannel {
        BlockChannel(kind, medium: superblock.identity, writer: writer, reader: reader, seal: ChecksumSeal())
    }

    /// Whom a write to a row or a ring is for.
    func peer(of unit: UInt64, for number: Int) -> (host: Int, incarnation: Identifier)? {
        let geometry = superblock.geometry
        guard let slot = agents[number].slot else { return nil }
        for (host, incarnation) in agents[number].announced {
            if unit == geometry.row(of: host, from: slot) { return (host, incarnation) }
            let ring = geometry.ring(from: slot, to: host, generation: agents[number].generation)
            if (ring..<ring + geometry.ringUnits).contains(unit) { return (host, incarnation) }
        }
        return nil
    }

    /// Somebody has something to say: a small thing, some of them, or a lot.
    mutating func talk(_ number: Int, _ life: Int) {
        guard agents[number].life == life, clock < calm + 30 * timing.timeout else { return }
        queue.push(.talk(agent: number, life: life), at: clock + payloadRandom.between(1, 3 * timing.timeout))
        guard agents[number].pausedUntil <= clock,
            let peer = agents[number].announced.keys.sorted().randomElement(using: &payloadRandom)
        else { return }
        let sizes: [Int]
        switch payloadRandom.below(4) {
        case 0: sizes = (0..<1 + payloadRandom.below(12)).map { _ in 24 + payloadRandom.below(100) }
        case 1: sizes = (0..<1 + payloadRandom.below(24)).map { _ in 24 + payloadRandom.below(60_000) }
        default: sizes = [24 + payloadRandom.below(5000)]
        }
        agents[number].supply.waiting[peer, default: []] += sizes
        step(number) { $0.advance(at: $1) }
    }

    /// What was given to the machine in this step.
    mutating func noteGiven(_ number: Int) {
        for (key, size) in agents[number].supply.made {
            streams[key, default: Stream()].given.append((size, clock))
            streams[key]?.unitsMade += UInt64(DataBlock.units(payload: size))
        }
        agents[number].supply.made = []
    }

    /// The payloads of a stream come in order, once, unchanged, from who is known to live, and soon.
    mutating func checkTaken(_ payload: [UInt8], from host: Int, by number: Int) {
        guard let writer = agents[number].announced[host], let reader = agents[number].lastIncarnation else {
            return fail("\(number) took a payload of host \(host), which is gone")
        }
        let key = Stream.Key(writer: writer, reader: reader)
        guard let stream = streams[key], stream.taken < stream.given.count else {
            return fail("\(number) took a payload that \(writer) did not give it")
        }
        let given = stream.given[stream.taken]
        guard payload == Stream.payload(key, number: stream.taken, size: given.size) else {
            return fail("\(number) took something else from host \(host) than payload \(stream.taken)")
        }
        streams[key]?.taken += 1
        streams[key]?.unitsTaken += UInt64(DataBlock.units(payload: payload.count))
        let author = agents.indices.first { agents[$0].lastIncarnation == writer }
        // Late writes land for eight T.
        let calmSince = max(
            calm + 8 * timing.timeout, agents[number].calmSince, author.map { agents[$0].calmSince } ?? 0)
        let patience = 3 * timing.timeout
        if let author, agents[author].host != nil, given.time > calmSince + patience, clock > given.time + patience {
            fail("\(number) took a payload \((clock - given.time) / 1000) us after host \(host) had it")
        }
    }

    /// What is reported as taken was taken, and no more is kept than a ring holds.
    mutating func checkFlows(_ number: Int) {
        guard let own = agents[number].lastIncarnation else { return }
        for (peer, incarnation) in agents[number].announced {
            guard let flow = agents[number].host?.flow(to: peer) else { continue }
            let stream = streams[Stream.Key(writer: own, reader: incarnation)] ?? Stream()
            if flow.consumed > stream.taken { fail("\(number) was told that host \(peer) took what it didn't") }
            if flow.made != stream.given.count { fail("\(number) lost count of what it gave host \(peer)") }
            if flow.made - flow.consumed > superblock.geometry.ringUnits { fail("\(number) keeps more than a ring") }
        }
    }

    /// In the end all that was given between those that live was taken, and who gave it knows.
    mutating func checkAllTaken() {
        for agent in agents {
            guard let own = agent.lastIncarnation, let host = agent.host else { continue }
            for (peer, incarnation) in agent.announced.sorted(by: { $0.key < $1.key }) {
                guard let stream = streams[Stream.Key(writer: own, reader: incarnation)] else { continue }
                if stream.taken < stream.given.count {
                    return fail(
                        "host \(peer) took \(stream.taken) of \(stream.given.count) payloads of \(agent.number)")
                }
                if host.flow(to: peer)?.consumed != UInt64(stream.taken) {
                    return fail("\(agent.number) doesn't know that host \(peer) took all")
                }
            }
        }
    }
}
