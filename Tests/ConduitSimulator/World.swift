import SkeinConduit

/// One run: two conduits, a link, and programs at both ends, all from a seed. Time is counted in rounds.
struct World: ~Copyable {
    let seed: UInt64
    let planted: Planted?
    let isTraced: Bool
    var random: Random
    var even: Conduit
    var odd: Conduit
    var links: [Link]
    var saboteurs: [Saboteur?]
    let limits: [Conduit.Limits]
    /// At each end, by filament, those that are over as well.
    var programs: [[FilamentNumber: Program]] = [[:], [:]]
    /// The same ones in the order of their beginning.
    var order: [[FilamentNumber]] = [[], []]
    var round = 0
    /// Until when things go wrong, and filaments are opened.
    let calm: Int
    /// When the conduit is ended, if it is.
    let cut: Int?
    var failure: String?

    /// Rounds after the last disturbance within which all is over.
    static let patience = 5000

    init(seed: UInt64, planted: Planted?, isTraced: Bool) {
        self.seed = seed
        self.planted = planted
        self.isTraced = isTraced
        random = Random(seed: seed)
        limits = [World.limits(&random), World.limits(&random)]
        even = Conduit(.even, limits: limits[0])
        odd = Conduit(.odd, limits: limits[1])
        links = [Link(&random), Link(&random)]
        saboteurs = [planted.map { Saboteur($0) }, nil]
        calm = 100 + random.below(400)
        cut = random.once(in: 12) ? random.below(calm) : nil
    }

    private static func limits(_ random: inout Random) -> Conduit.Limits {
        var limits = Conduit.Limits()
        limits.backlog = random.once(in: 4) ? 1 + random.below(4) : 1024
        limits.receivePool = random.below(1 << (1 + random.below(21)))
        limits.sendPool = random.below(1 << (1 + random.below(21)))
        limits.sendQueue = 1024 + random.below(1024 * 1024)
        return limits
    }

    /// Calls `body` with the conduit of one end.
    mutating func with<Result>(_ end: Int, _ body: (inout Conduit) -> Result) -> Result {
        end == 0 ? body(&even) : body(&odd)
    }

    func trace(_ text: @autoclosure () -> String) {
        if isTraced { print("\(round)  \(text())") }
    }

    mutating func fail(_ what: String) {
        trace("WRONG: \(what)")
        if failure == nil { failure = "\(what) (round \(round))" }
    }

    /// Nil, or what went wrong.
    mutating func run() -> String? {
        while failure == nil {
            round += 1
            if round == cut {
                endConduit()
                break
            }
            if round < calm { disturb() }
            if round == calm { for end in 0...1 { links[end].calm() } }
            let first = random.below(2)
            for end in [first, 1 - first] {
                act(end)
                send(end)
                receive(end)
                checkMemory(end)
            }
            if round > calm && even.count + odd.count == 0 && links.allSatisfy({ $0.isEmpty }) { break }
            if round > calm + World.patience { fail("not all is over: \(unfinished())") }
        }
        if failure == nil { checkEnd() }
        return failure
    }

    private mutating func disturb() {
        if random.once(in: 40) { links[random.below(2)].stoppedUntil = round + random.below(60) }
        if random.once(in: 6) { open(random.below(2)) }
    }

    private mutating func open(_ end: Int) {
        guard let filament = with(end, { try? $0.open(kind: UInt32(end), address: [1, 2, 3]) }) else {
            return fail("no filament can be opened")
        }
        add(Program(filament, end: end, phase: .opening, isPing: random.once(in: 4), &random))
    }

    mutating func add(_ program: Program) {
        trace("end \(program.end) \(program.phase) \(program.filament): \(program.total) bytes")
        if programs[program.end].updateValue(program, forKey: program.filament) != nil {
            fail("\(program.filament) comes twice")
        }
        order[program.end].append(program.filament)
    }

    private mutating func send(_ end: Int) {
        guard links[end].hasRoom(at: round) else { return }
        let demand = with(end) { $0.demand }
        guard demand == .now || demand == .later && random.once(in: 4) else { return }
        let room = links[end].room
        var block = [UInt8](repeating: 0, count: room)
        let count = with(end) { conduit in
            var span = block.mutableSpan
            var bytes = unsafe span.mutableBytes
            return conduit.fill(&bytes)
        }
        handleEvents(end)
        if count == 0 { return }
        block.removeLast(room - count)
        if saboteurs[end] != nil { block = saboteurs[end]!.spoil(block, &random) }
        links[end].send(block, at: round, &random)
    }

    private mutating func receive(_ end: Int) {
        while let (block, filled) = links[1 - end].receive(at: round), failure == nil {
            saboteurs[end]?.watch(block)
            let fault = with(end) { (conduit: inout Conduit) -> ConduitFault? in
                do throws(ConduitFault) {
                    try unsafe conduit.take(block.span.bytes)
                    return nil
                } catch {
                    return error
                }
            }
            if let fault { return fail("end \(end) found a fault in honest frames: \(fault)") }
            handleEvents(end)
            checkMessages(from: 1 - end, filled)
        }
    }

    private mutating func endConduit() {
        for end in 0...1 {
            with(end) { $0.end(error: 110) }
            handleEvents(end)
        }
    }
}
