import SkeinMedium

/// One run: agents, a disk and time, all from a seed.
struct World {
    /// What happens at a moment.
    enum Event {
        case wake(agent: Int, life: Int)
        /// A write takes effect.
        case effect(unit: UInt64, bytes: [UInt8], request: Int)
        case answer(request: Int)
        case start(agent: Int)
        case talk(agent: Int, life: Int)
        case chaos
    }

    /// What an agent asked of the disk.
    struct Request {
        let agent: Int
        let life: Int
        var action: MediumHost.Action
        var outcome = MediumHost.Outcome.failed
    }

    /// What a write count may be used for once.
    struct CountKey: Hashable {
        var kind = BlockKind.data
        var unit: UInt64 = 0
        let writer: Identifier
        let reader: Identifier?
    }

    let seed: UInt64
    /// Whether agents have payloads for each other.
    let hasStreams: Bool
    let planted: Planted?
    let isTraced: Bool
    var random: Random
    /// Chance of all that payloads do, apart: so without them a seed gives the same run as with another format of rows.
    var payloadRandom: Random
    var disk = Disk()
    var clock: UInt64 = 1_000_000_000
    var queue = EventQueue<Event>()
    var requests: [Int: Request] = [:]
    var nextRequest = 0
    var agents: [Agent] = []
    let superblock: Superblock
    let timing: Timing
    /// Until when things go wrong, and when the run ends.
    let calm: UInt64
    let end: UInt64
    let hasDiskFaults: Bool
    /// When each incarnation that is no more ended; a write of a stalled path lands later.
    var ended: [Identifier: UInt64] = [:]
    var streams: [Stream.Key: Stream] = [:]
    /// The last count under each key.
    var counts: [CountKey: UInt64] = [:]
    /// The first count of each block, for who plants it.
    var firstCounts: [CountKey: UInt64] = [:]
    var failure: String?
    /// What became of reads of one ring that were under way together.
    var overlap = Overlap()

    init(seed: UInt64, hasStreams: Bool, planted: Planted?, isTraced: Bool) {
        self.seed = seed
        self.hasStreams = hasStreams
        self.planted = planted
        self.isTraced = isTraced
        random = Random(seed: seed)
        var payloadRandom = Random(seed: ~seed)
        // Payloads take longer to simulate.
        let isSmall = hasStreams && payloadRandom.below(16) > 0
        self.payloadRandom = payloadRandom
        let count = 2 + random.below(isSmall ? 3 : 7)
        let timeout = UInt32(random.between(100, 1000))
        var timing = Timing(timeoutMilliseconds: timeout)
        let period = timing.timeout
        World.slowDown(&timing, hasStreams)
        planted?.change(&timing)
        self.timing = timing
        guard
            let superblock = try? Superblock(
                identity: Identifier(random.word(), random.word()), group: "group", timeoutMilliseconds: timeout,
                geometry: Geometry(hosts: count + 2, ringUnits: 64, tableUnits: 1), made: 0)
        else { preconditionFailure("a superblock can be made") }
        self.superblock = superblock
        calm = clock + UInt64(40 + random.below(60)) * period
        end = calm + 60 * period
        hasDiskFaults = !random.once(in: 3)
        if hasDiskFaults { disk.faults = World.faults(&random, period) }
        for number in 0..<count { addAgent(number, name: "host\(number)") }
        // Sometimes two machines were given one name.
        if random.once(in: 3) { addAgent(count, name: "host0") }
        queue.push(.chaos, at: clock + 5 * period)
    }

    /// Looks are so rare that a run has not too many of them; without payloads there are none.
    private static func slowDown(_ timing: inout Timing, _ hasStreams: Bool) {
        let period = timing.timeout
        timing.rewriting = period / 2
        timing.bell = period / 8
        timing.active = period / 2
        timing.eager = hasStreams ? period / 100 : 0
        timing.shortestPause = hasStreams ? period / 100 : 1 << 50
        timing.longestPause = hasStreams ? period / 4 : 1 << 50
        timing.expectation = hasStreams ? period / 100 : 1 << 50
        timing.acknowledgement = period / 20
    }

    private static func faults(_ random: inout Random, _ period: UInt64) -> DiskFaults {
        func sometimes(_ random: inout Random, _ rare: Int) -> Int {
            random.once(in: 2) ? 0 : rare + random.below(rare)
        }
        return DiskFaults(
            torn: sometimes(&random, 20), lost: sometimes(&random, 20), late: sometimes(&random, 20),
            stale: sometimes(&random, 20), flipped: sometimes(&random, 20), failed: sometimes(&random, 20),
            slow: sometimes(&random, 10), slowest: 2 * period)
    }

    private mutating func addAgent(_ number: Int, name: String) {
        agents.append(
            Agent(
                number: number, name: name, machine: Identifier(UInt64(number), 1),
                boot: Identifier(random.word(), random.word())))
        queue.push(.start(agent: number), at: clock + random.between(0, 5 * timing.timeout))
    }

    /// Nil, or what went wrong.
    mutating func run() -> String? {
        while failure == nil, let (time, event) = queue.pop(), time <= end {
            clock = time
            if clock >= calm { disk.faults = DiskFaults() }
            switch event {
            case .wake(let agent, let life): wake(agent, life)
            case .effect(let unit, let bytes, let request): take(unit, bytes, request)
            case .answer(let request): answer(request)
            case .start(let agent): start(agent)
            case .talk(let agent, let life): talk(agent, life)
            case .chaos: chaos()
            }
        }
        if failure == nil { checkEnd() }
        if failure == nil { checkAllTaken() }
        return failure
    }

    func trace(_ text: @autoclosure () -> String) {
        if isTraced { print("\(clock / 1000) us  \(text())") }
    }

    // MARK: Agents

    mutating func start(_ number: Int) {
        guard agents[number].host == nil else { return }
        if agents[number].pausedUntil > clock {
            return queue.push(.start(agent: number), at: agents[number].pausedUntil)
        }
        let incarnation = Identifier(random.word(), random.word())
        var gone = agents[number].hasFolder ? agents[number].lastIncarnation : nil
        if planted == .forgedGone {
            gone = agents.compactMap { $0.name == agents[number].name ? $0.lastIncarnation : nil }.last
        }
        let agent = agents[number]
        let host = Membership.Host(
            name: agent.name, boot: agent.boot, machine: agent.machine, incarnation: incarnation, gone: gone)
        trace("\(number) starts as \(incarnation)")
        agents[number].lastIncarnation = incarnation
        agents[number].hasFolder = true
        agents[number].life += 1
        agents[number].slot = nil
        agents[number].wakesAt = nil
        agents[number].supply = Supply(own: incarnation)
        agents[number].host = MediumHost(host, on: superblock, timing: timing, seal: ChecksumSeal(), at: clock)
        step(number) { $0.advance(at: $1) }
    }

    /// Lets a machine take something in, and does what it then asks for.
    mutating func step(_ number: Int, _ input: (inout MediumHost, UInt64) -> Void) {
        guard agents[number].host != nil else { return }
        input(&agents[number].host!, clock)
        heedAll(number)
        if hasStreams {
            var supply = agents[number].supply
            agents[number].host?.send(from: &supply, at: clock)
            agents[number].supply = supply
            noteGiven(number)
            heedAll(number)
        }
        for action in agents[number].host?.takeActions() ?? [] { submit(action, number) }
        if let deadline = agents[number].host?.deadline { wakeUp(number, at: max(deadline, clock + 1)) }
        checkHolders()
        checkNews(of: number)
        if hasStreams { checkFlows(number) }
    }

    private mutating func heedAll(_ number: Int) {
        for event in agents[number].host?.takeEvents() ?? [] { heed(event, number) }
    }

    private mutating func wakeUp(_ number: Int, at time: UInt64) {
        if let standing = agents[number].wakesAt, standing <= time { return }
        agents[number].wakesAt = time
        queue.push(.wake(agent: number, life: agents[number].life), at: time)
    }

    private mutating func wake(_ number: Int, _ life: Int) {
        guard agents[number].life == life else { return }
        if agents[number].wakesAt == clock { agents[number].wakesAt = nil }
        guard let deadline = agents[number].host?.deadline else { return }
        if deadline > clock { return wakeUp(number, at: deadline) }
        if agents[number].pausedUntil > clock { return wakeUp(number, at: agents[number].pausedUntil) }
        step(number) { $0.advance(at: $1) }
    }

    private mutating func heed(_ event: MediumHost.Event, _ number: Int) {
        switch event {
        case .membership(let event): heed(event, number)
        case .received(let host, let payload):
            trace("\(number): \(payload.count) bytes from host \(host)")
            checkTaken(Array(payload), from: host, by: number)
        case .broken(let host, _, let fault): fail("\(number) says of host \(host), which is honest: \(fault)")
        }
    }

    private mutating func heed(_ event: Membership.Event, _ number: Int) {
        trace("\(number): \(event)")
        switch event {
        case .joined(let slot, let generation):
            agents[number].slot = slot
            agents[number].generation = generation
            agents[number].calmSince = max(agents[number].calmSince, clock)
            if hasStreams { queue.push(.talk(agent: number, life: agents[number].life), at: clock) }
        case .peerAlive(let host, let incarnation, _, _):
            agents[number].announced[host] = incarnation
            agents[number].supply.forget(host)
            agents[number].supply.peers[host] = incarnation
        case .peerGone(let host, let incarnation):
            if agents[number].announced[host] == incarnation {
                agents[number].announced[host] = nil
                agents[number].supply.forget(host)
            }
            checkGone(incarnation, by: number)
        case .ended(let end):
            checkEnd(of: number, end)
            retire(number)
            let pause = end == .nameTaken ? 20 * timing.timeout : random.between(0, timing.timeout)
            queue.push(.start(agent: number), at: clock + pause)
        }
    }

    /// The machine is no more.
    mutating func retire(_ number: Int) {
        if let incarnation = agents[number].lastIncarnation {
            ended[incarnation] = max(clock, agents[number].stalledUntil)
        }
        agents[number].host = nil
        agents[number].announced = [:]
        agents[number].slot = nil
        agents[number].life += 1
    }

    // MARK: The disk

    private mutating func submit(_ action: MediumHost.Action, _ number: Int) {
        let request = nextRequest
        nextRequest += 1
        requests[request] = Request(agent: number, life: agents[number].life, action: action)
        let unit: UInt64
        var bytes: [UInt8] = []
        switch action.operation {
        case .read(let start, _): unit = start
        case .write(let start, let content):
            (unit, bytes) = planted((start, content), by: number)
            checkCounts(bytes, from: start, by: number)
        }
        chance(of: unit) { world, random in
            var (effect, answer) = world.disk.latency(&random)
            let stall = max(world.agents[number].stalledUntil, world.clock) - world.clock
            effect += stall
            answer += stall
            world.queue.push(.effect(unit: unit, bytes: bytes, request: request), at: world.clock + effect)
            if !bytes.isEmpty && random.once(in: world.disk.faults.late) {
                let delay = random.between(0, 8 * world.timing.timeout)
                world.queue.push(.effect(unit: unit, bytes: bytes, request: -1), at: world.clock + effect + delay)
            }
            world.queue.push(.answer(request: request), at: world.clock + answer)
        }
    }

    /// Chance for what is done with leases, or for what is done with rows and rings.
    private mutating func chance(of unit: UInt64, _ body: (inout World, inout Random) -> Void) {
        let isOfLeases = unit < superblock.geometry.rows.start
        var random = isOfLeases ? self.random : payloadRandom
        body(&self, &random)
        if isOfLeases { self.random = random } else { payloadRandom = random }
    }

    private mutating func take(_ unit: UInt64, _ bytes: [UInt8], _ number: Int) {
        guard let request = requests[number] else { return disk.store(unit, bytes, sectors: bytes.count / 512) }
        let isOrphan = agents[request.agent].life != request.life
        chance(of: unit) { world, random in
            switch request.action.operation {
            case .read(let unit, let count):
                if let bytes = world.disk.read(unit, count, &random) { world.requests[number]?.outcome = .read(bytes) }
            case .write where isOrphan && unit >= world.superblock.geometry.rows.start:
                // A crash cuts a write anywhere, whatever the disk is like.
                world.disk.store(unit, bytes, sectors: random.below(bytes.count / 512 + 1))
            case .write:
                if world.disk.write(unit, bytes, &random) { world.requests[number]?.outcome = .written }
            }
        }
    }

    private mutating func answer(_ number: Int) {
        guard var request = requests[number] else { return }
        if agents[request.agent].pausedUntil > clock {
            return queue.push(.answer(request: number), at: agents[request.agent].pausedUntil)
        }
        requests[number] = nil
        guard agents[request.agent].life == request.life else { return }
        noteOverlap(number, request)
        request = mistaken(number, request)
        var outcome = request.outcome
        if case .read(let unit, _) = request.action.operation, case .read(let bytes) = outcome {
            outcome = .read(planted(bytes, from: unit, to: request.agent))
        }
        step(request.agent) { $0.ended(request.action.tag, outcome, at: $1) }
    }

    // MARK: What is done to agents

    private mutating func chaos() {
        guard clock < calm else { return }
        queue.push(.chaos, at: clock + random.between(0, 8 * timing.timeout))
        let number = random.below(agents.count)
        defer {
            agents[number].calmSince = max(
                agents[number].calmSince, agents[number].pausedUntil, agents[number].stalledUntil, clock)
        }
        var disturbed = clock
        switch random.below(5) {
        case 0:
            disturbed += random.between(0, 25 * timing.timeout)
            agents[number].pausedUntil = max(agents[number].pausedUntil, disturbed)
            trace("\(number) is paused until \(agents[number].pausedUntil / 1000) us")
        case 1:
            disturbed += random.between(0, 15 * timing.timeout)
            agents[number].stalledUntil = max(agents[number].stalledUntil, disturbed)
            trace("\(number)'s path is stalled until \(agents[number].stalledUntil / 1000) us")
        case 2 where agents[number].pausedUntil <= clock: step(number) { $0.stop(at: $1) }
        default:
            guard agents[number].host != nil else { return }
            trace("\(number) is killed")
            retire(number)
            agents[number].hasFolder = random.once(in: 2)
            if random.once(in: 4) { agents[number].boot = Identifier(random.word(), random.word()) }
            queue.push(.start(agent: number), at: clock + random.between(0, 20 * timing.timeout))
        }
    }
}
