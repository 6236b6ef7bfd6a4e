import MediumKit
import SkeinConduit

// What no honest peer writes: each kind of it ends the conduit with its reason, and none harms the process.

/// An odd end in the hands of a peer who writes frames by hand: filament 2 is open, 4 offered, 1 asked for by this
/// end, and 3 accepted with 10 bytes on their way. The next frame is the sixth.
struct Victim: ~Copyable {
    var conduit: Conduit
    let open: FilamentNumber
    let offered: FilamentNumber
    let asked: FilamentNumber
    let own: FilamentNumber

    init(_ limits: Conduit.Limits = Conduit.Limits()) {
        conduit = Conduit(.odd, limits: limits)
        _ = conduit.receive(frame(9, 0, 0, little(UInt64(1 << 20))) + frame(1, 2, 1, little(UInt32(7))))
        _ = conduit.receive(frame(1, 4, 2, little(UInt32(7))))
        let opened = conduit.takeEvents().map { event in
            guard case .opened(let filament, _, _) = event else { preconditionFailure("two are offered") }
            return filament
        }
        guard let asked = try? conduit.open(kind: 1, address: []), let own = try? conduit.open(kind: 1, address: [])
        else { preconditionFailure("numbers are free") }
        (open, offered, self.asked, self.own) = (opened[0], opened[1], asked, own)
        try? conduit.accept(open)
        _ = conduit.send(own, noise(10))
        _ = conduit.block()
        _ = conduit.receive(frame(2, 3, 3) + frame(8, 3, 4, little(UInt64(4)) + little(UInt64(20_000))))
        _ = conduit.takeEvents()
    }
}

private let next: UInt64 = 5

func hostileTests() {
    malformedTests()
    stateTests()
    creditFaultTests()
    resetFaultTests()
    floodTests()
    noiseTests()
}

/// The conduit ends by these frames, for this reason, and each of its filaments is told.
private func refuses(_ frames: [UInt8], _ fault: ConduitFault, _ sentence: String) {
    var victim = Victim()
    check(victim.conduit.receive(frames), is: fault, sentence)
    let events = victim.conduit.takeEvents()
    let told = [victim.open, victim.offered, victim.asked, victim.own].filter { filament in
        events.contains { event in
            if case .reset(filament, _) = event { true } else { false }
        }
    }
    if told.count != 4 || !victim.conduit.hasEnded || victim.conduit.receive(frame(6, 2, next)) != fault
        || !victim.conduit.block().isEmpty || victim.conduit.queued != (0, 0)
    {
        check(false, "it has ended then", saw: "\(events)")
    }
}

private func malformedTests() {
    refuses(frame(6, 2, next, version: 2), .version(2), "another version's frames are refused")
    refuses(frame(0, 2, next), .type(0), "type 0 is none")
    refuses(frame(10, 2, next), .type(10), "nor is type 10")
    refuses(frame(4, 2, next, [1], flags: 1), .malformed(.data), "only credits have a flag")
    refuses(frame(8, 3, next, little(UInt64(4)) + little(UInt64(20_000)), flags: 2), .malformed(.credit), "and one")
    refuses(frame(6, 2, next, zero: 1), .malformed(.end), "what is to be zero is zero")
    refuses(frame(4, 2, next), .malformed(.data), "data has a byte")
    refuses(frame(4, 2, next, noise(16_385)), .malformed(.data), "and 16,384 at most")
    refuses(frame(1, 6, next, [1, 2, 3]), .malformed(.open), "an open has its kind")
    refuses(frame(1, 6, next, noise(1025)), .malformed(.open), "and an address that isn't longer than it may be")
    refuses(frame(7, 2, next, [1, 2, 3]), .malformed(.reset), "a reset has four bytes")
    refuses(frame(7, 2, next, little(UInt32(0))), .malformed(.reset), "error 0 is none")
    refuses(frame(7, 2, next, little(UInt32(4096))), .malformed(.reset), "nor is error 4096")
    refuses(frame(3, 1, next, little(UInt32.max)), .malformed(.refused), "in a refusal neither")
    refuses(frame(6, 2, next, length: .max), .malformed(.end), "no length is believed")
    refuses(Array(frame(6, 2, next)[..<23]), .truncated, "a header is wholly there")
    refuses(Array(frame(4, 2, next, [1, 2, 3]).dropLast()), .truncated, "and so is a body")
    refuses(frame(6, 2, next + 1), .sequence(expected: next, seen: next + 1), "no frame is left out")
    refuses(frame(6, 2, next - 1), .sequence(expected: next, seen: next - 1), "none comes twice")
    refuses(
        frame(5, 2, next, little(UInt64(9))) + frame(5, 2, next + 1, little(UInt64(8))), .malformed(.urgent),
        "an urgent mark doesn't go back")
}

private func stateTests() {
    let kind = little(UInt32(7))
    for number: UInt32 in [0, 1, 5, 8, 65_536, 0xFFFF_FFFE] {
        refuses(frame(1, number, next, kind), .number(number), "the even end can't open filament \(number) now")
    }
    refuses(frame(1, 2, next, kind), .state(.open, filament: 2), "what is open isn't opened")
    for number: UInt32 in [2, 3, 4, 5, 6, .max] {
        refuses(frame(2, number, next), .state(.accepted, filament: number), "filament \(number) isn't to be accepted")
        refuses(
            frame(3, number, next, little(UInt32(1))), .state(.refused, filament: number), "nor to be refused")
    }
    for number: UInt32 in [0, 1, 5, 6, .max] {
        refuses(frame(4, number, next, [1]), .state(.data, filament: number), "no data comes on filament \(number)")
        refuses(frame(6, number, next), .state(.end, filament: number), "and no end")
        refuses(frame(5, number, next, little(UInt64(1))), .state(.urgent, filament: number), "and no mark")
    }
    let end = frame(6, 2, next)
    refuses(end + frame(4, 2, next + 1, [1]), .state(.data, filament: 2), "no data follows the end")
    refuses(end + frame(6, 2, next + 1), .state(.end, filament: 2), "no second end does")
    refuses(end + frame(5, 2, next + 1, little(UInt64(1))), .state(.urgent, filament: 2), "no mark does")
}

private func creditFaultTests() {
    func credit(
        _ number: UInt32, _ consumed: UInt64, _ limit: UInt64, flags: UInt16 = 0, at sequence: UInt64 = next
    )
        -> [UInt8]
    {
        frame(8, number, sequence, little(consumed) + little(limit), flags: flags)
    }
    for number: UInt32 in [0, 1, 4, 5, 6] {
        refuses(credit(number, 0, 20_000), .state(.credit, filament: number), "no credit comes for filament \(number)")
    }
    refuses(credit(3, 11, 20_000), .falseCredit(filament: 3), "nobody has read what wasn't sent")
    refuses(credit(3, .max, .max), .falseCredit(filament: 3), "whatever the numbers are")
    refuses(credit(3, 3, 20_000), .falseCredit(filament: 3), "what was read stays read")
    refuses(credit(3, 4, 19_999), .falseCredit(filament: 3), "what was granted stays granted")
    refuses(credit(3, 10, 20_000, flags: 1), .falseCredit(filament: 3), "no last credit comes before the end")
    refuses(frame(9, 0, next, little(UInt64(1000))), .malformed(.conduitCredit), "the conduit's stays granted as well")
    refuses(frame(9, 2, next, little(UInt64.max)), .malformed(.conduitCredit), "and isn't a filament's")
    refuses(
        frame(4, 2, next, noise(16_384)) + frame(4, 2, next + 1, [1]), .beyondCredit(filament: 2),
        "nobody sends beyond his credit")
    refuses(
        frame(4, 4, next, noise(16_384)) + frame(4, 4, next + 1, [1]), .beyondCredit(filament: 4),
        "before he is accepted neither")

    var generous = Victim()
    check(
        generous.conduit.receive(credit(3, 10, .max) + frame(9, 0, next + 1, little(UInt64.max))), is: nil,
        "a credit without bounds is one")
    check(generous.conduit.send(generous.own, noise(1_100_000)), is: 1_048_576, "and the writer's queue has its bound")
    var count = 0
    while !generous.conduit.block().isEmpty { count += 1 }
    check(generous.conduit.queued.outgoing == 0 && count > 0, "all of it is sent")

    var limits = Conduit.Limits()
    limits.receivePool = 1000
    var victim = Victim(limits)
    _ = victim.conduit.receive(frame(4, 2, next, noise(16_384)))
    check(victim.conduit.received(victim.open).count, is: 16_384, "who reads a window")
    _ = victim.conduit.block()
    let more = frame(4, 2, next + 1, noise(16_384)) + frame(4, 2, next + 2, noise(1000))
    check(victim.conduit.receive(more), is: nil, "is sent more than that, out of the pool")
    check(
        victim.conduit.receive(frame(4, 2, next + 3, [1])), is: .beyondConduitCredit(filament: 2), "and not beyond it")
}

private func resetFaultTests() {
    let reset = frame(7, 2, next, little(UInt32(104)))
    for number: UInt32 in [0, 5, 6] {
        refuses(
            frame(7, number, next, little(UInt32(104))), .state(.reset, filament: number),
            "there is no filament \(number) to be reset")
    }
    var victim = Victim()
    check(victim.conduit.receive(reset), is: nil, "a filament is reset")
    check(
        victim.conduit.receive(frame(4, 2, next + 1, [1])), is: .state(.data, filament: 2), "and nothing follows that")

    var over = Victim()
    try? over.conduit.end(over.own)
    _ = over.conduit.block()
    let last = frame(8, 3, next, little(UInt64(10)) + little(UInt64(20_000)), flags: 1)
    check(
        over.conduit.receive(last + frame(4, 3, next + 1, [1]) + frame(6, 3, next + 2)), is: nil,
        "who has said everything")
    check(
        over.conduit.receive(frame(7, 3, next + 3, little(UInt32(1)))), is: .state(.reset, filament: 3),
        "says no reset after that")

    var patient = Victim()
    try? patient.conduit.reset(patient.open, error: 104)
    _ = patient.conduit.block()
    var sequence = next
    for _ in 0..<1000 {
        _ = patient.conduit.receive(frame(4, 2, sequence, noise(16_384)))
        sequence += 1
    }
    check(patient.conduit.queued.incoming == 0 && patient.conduit.fault == nil, "what comes after a reset is dropped")
    let count = patient.conduit.count
    check(patient.conduit.receive(frame(7, 2, sequence, little(UInt32(1)))), is: nil, "until it is answered")
    check(patient.conduit.count, is: count - 1, "and then the filament is forgotten")
    check(patient.conduit.block(), is: [], "an answer isn't answered")
    check(
        patient.conduit.receive(frame(7, 2, sequence + 1, little(UInt32(1)))), is: .state(.reset, filament: 2),
        "nor given twice")
}

private func floodTests() {
    var conduit = Conduit(.odd)
    var sequence: UInt64 = 0
    var fault: ConduitFault?
    for number in stride(from: UInt32(2), to: 70_000, by: 2) where fault == nil {
        fault = conduit.receive(frame(1, number, sequence, little(UInt32(1)) + noise(1020)))
        sequence += 1
    }
    check(fault, is: .number(65_536), "filaments beyond all numbers can't be opened")
    conduit = Conduit(.odd)
    sequence = 0
    var opened = 0
    var refused = 0
    for round in 0..<50 {
        for number in stride(from: UInt32(2), to: 20_000, by: 2) {
            if round == 0 || number > 2 * 1024 {
                if let fault = conduit.receive(frame(1, number, sequence, little(UInt32(1)))) {
                    return check(false, "a flood of opens is no fault", saw: "\(fault)")
                }
                sequence += 1
            }
        }
        opened += conduit.takeEvents().count
        var answers = conduit.block(4 * 1024 * 1024)
        if round == 0 { answers.removeFirst(32) }
        refused += answers.count / 28
        for number in stride(from: UInt32(2050), to: 20_000, by: 2) {
            _ = conduit.receive(frame(7, number, sequence, little(UInt32(1))))
            sequence += 1
        }
    }
    check(opened, is: 1024, "of half a million offers 1,024 are told of")
    check(refused, is: 50 * (9999 - 1024), "the others refused, each once")
    check(conduit.count, is: 1024, "and forgotten")
}

/// Honest conversations with a few bytes changed: whatever comes of it, nothing traps, and what is kept is bounded.
private func noiseTests() {
    var faults = 0
    for seed in UInt64(1)...400 {
        var pair = Pair()
        let filaments = (0..<4).map { _ in pair.filament() }
        let noise = noise(400, seed: seed)
        for round in 0..<20 {
            for filament in filaments {
                _ = pair.near.send(filament, [UInt8](repeating: 1, count: Int(noise[round]) * 40))
            }
            var block = pair.near.block()
            for change in 0..<2 where !block.isEmpty {
                let place = Int(noise[40 + 4 * round + change]) % min(block.count, 200)
                block[place] = noise[200 + 4 * round + change]
            }
            if pair.far.receive(block) != nil {
                faults += 1
                break
            }
            for filament in filaments where noise[round] & 1 == 0 { _ = pair.far.received(filament, 5000) }
            if pair.near.receive(pair.far.block()) != nil { break }
        }
    }
    check(faults > 100, "noise between honest frames is taken for what it is", saw: "\(faults) of 400")
}
