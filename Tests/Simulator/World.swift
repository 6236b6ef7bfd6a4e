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
        case chaos
    }

    /// What an agent asked of the disk.
    struct Request {
        let agent: Int
        let life: Int
        let action: Membership.Action
        var isDone = false
        var bytes: [UInt8]?
    }

    let seed: UInt64
    let planted: Planted?
    let isTraced: Bool
    var random: Random
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
    var failure: String?

    init(seed: UInt64, planted: Planted?, isTraced: Bool) {
        self.seed = seed
        self.planted = planted
        self.isTraced = isTraced
        random = Random(seed: seed)
        let count = 2 + random.below(7)
        let timeout = UInt32(random.between(100, 1000))
        var timing = Timing(timeoutMilliseconds: timeout)
        let period = timing.timeout
        if planted == .hastyVerdict { timing.verdict = period }
        if planted == .shortWatch { timing.dead = period }
        if planted == .noFence { timing.fence = 1 << 50 }
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
            case .chaos: chaos()
            }
        }
        if failure == nil { checkEnd() }
        return failure
    }

    func trace(_ text: @autoclosure () -> String) {
        if isTraced { print("\(clock / 1000) us  \(text())") }
    }

    // MARK: Agents

    mutating func start(_ number: Int) {
        guard agents[number].membership == nil else { return }
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
        agents[number].membership = Membership(host, on: superblock, timing: timing, seal: ChecksumSeal(), at: clock)
        step(number) { $0.advance(at: $1) }
    }

    /// Lets a machine take something in, and does what it then asks for.
    mutating func step(_ number: Int, _ input: (inout Membership, UInt64) -> Void) {
        guard var membership = agents[number].membership else { return }
        input(&membership, clock)
        let events = membership.takeEvents()
        if let action = membership.takeAction() { submit(action, number) }
        let deadline = membership.deadline
        agents[number].membership = membership
        for event in events { heed(event, number) }
        if agents[number].membership != nil, let deadline {
            queue.push(.wake(agent: number, life: agents[number].life), at: max(deadline, clock + 1))
        }
        checkHolders()
        checkNews(of: number)
    }

    private mutating func wake(_ number: Int, _ life: Int) {
        guard agents[number].life == life, let deadline = agents[number].membership?.deadline, deadline <= clock else {
            return
        }
        if agents[number].pausedUntil > clock {
            return queue.push(.wake(agent: number, life: life), at: agents[number].pausedUntil)
        }
        step(number) { $0.advance(at: $1) }
    }

    private mutating func heed(_ event: Membership.Event, _ number: Int) {
        trace("\(number): \(event)")
        switch event {
        case .joined(let slot, _):
            agents[number].slot = slot
            agents[number].calmSince = max(agents[number].calmSince, clock)
        case .peerAlive(let host, let incarnation, _, _): agents[number].announced[host] = incarnation
        case .peerGone(let host, let incarnation):
            if agents[number].announced[host] == incarnation { agents[number].announced[host] = nil }
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
        agents[number].membership = nil
        agents[number].announced = [:]
        agents[number].slot = nil
        agents[number].life += 1
    }

    // MARK: The disk

    private mutating func submit(_ action: Membership.Action, _ number: Int) {
        let request = nextRequest
        nextRequest += 1
        requests[request] = Request(agent: number, life: agents[number].life, action: action)
        var (effect, answer) = disk.latency(&random)
        if agents[number].stalledUntil > clock {
            effect += agents[number].stalledUntil - clock
            answer += agents[number].stalledUntil - clock
        }
        if case .write(let unit, let bytes) = action {
            let planted = agents[number].planted(planted, bytes, at: unit, medium: superblock.identity)
            queue.push(.effect(unit: unit, bytes: planted, request: request), at: clock + effect)
            if random.once(in: disk.faults.late) {
                let delay = random.between(0, 8 * timing.timeout)
                queue.push(.effect(unit: unit, bytes: planted, request: -1), at: clock + effect + delay)
            }
        } else {
            queue.push(.effect(unit: 0, bytes: [], request: request), at: clock + effect)
        }
        queue.push(.answer(request: request), at: clock + answer)
    }

    private mutating func take(_ unit: UInt64, _ bytes: [UInt8], _ number: Int) {
        guard let request = requests[number] else { return disk.store(unit, bytes, sectors: bytes.count / 512) }
        switch request.action {
        case .read(let unit, let count): requests[number]?.bytes = disk.read(unit, count, &random)
        case .write: requests[number]?.isDone = disk.write(unit, bytes, &random)
        }
    }

    private mutating func answer(_ number: Int) {
        guard let request = requests[number] else { return }
        if agents[request.agent].pausedUntil > clock {
            return queue.push(.answer(request: number), at: agents[request.agent].pausedUntil)
        }
        requests[number] = nil
        guard agents[request.agent].life == request.life else { return }
        if case .read = request.action {
            step(request.agent) { $0.leasesRead(request.bytes, at: $1) }
        } else {
            step(request.agent) { $0.leaseWritten(request.isDone, at: $1) }
        }
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
            guard agents[number].membership != nil else { return }
            trace("\(number) is killed")
            retire(number)
            agents[number].hasFolder = random.once(in: 2)
            if random.once(in: 4) { agents[number].boot = Identifier(random.word(), random.word()) }
            queue.push(.start(agent: number), at: clock + random.between(0, 20 * timing.timeout))
        }
    }
}
