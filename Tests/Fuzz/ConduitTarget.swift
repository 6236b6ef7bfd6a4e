import SkeinConduit

// A conduit whose peer writes anything, while programs use its filaments: what it keeps has bounds, and a fault ends it.

private let pool = 40_000

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    var limits = Conduit.Limits()
    limits.backlog = 8
    limits.receivePool = pool
    limits.sendPool = pool
    var conduit = Conduit(.odd, limits: limits)
    var filaments: [FilamentNumber] = []
    var sequence: UInt64 = 0
    while !input.isEmpty {
        let choice = input.byte()
        if choice & 1 == 0 {
            call(&conduit, choice >> 1, filaments, &input)
        } else {
            let frames = choice & 2 == 0 ? input.take(Int(input.byte())) : frame(&input, &sequence)
            do throws(ConduitFault) {
                try conduit.take(frames.span.bytes)
            } catch {
                require(!"\(error)".isEmpty && conduit.fault == error, "a fault has words")
                require(conduit.hasEnded && conduit.count == 0 && conduit.queued == (0, 0), "a fault ends the conduit")
            }
        }
        for event in conduit.takeEvents() {
            if case .opened(let filament, _, let address) = event {
                require(address.count <= Limit.address, "an address is bounded")
                filaments.append(filament)
            }
        }
        if filaments.isEmpty, let own = try? conduit.open(kind: 1, address: [1]) { filaments.append(own) }
        let queued = conduit.queued
        require(queued.incoming <= pool + Limit.minimum * conduit.count, "what is kept has bounds")
        require(queued.outgoing <= pool + Limit.minimum * conduit.count, "what is to be sent has too")
    }
    return 0
}

/// A frame with the right version, length and sequence, and otherwise anything.
private func frame(_ input: inout Input, _ sequence: inout UInt64) -> [UInt8] {
    let (type, number, flags, count) = (input.byte() % 11, input.byte() & 31, input.byte() & 3 / 3, input.byte())
    // Bodies of the sizes that types have, or of data.
    let body =
        type == 4
        ? [UInt8](repeating: 7, count: Int(count) * 66) : input.take([4, 4, 0, 4, 0, 8, 0, 4, 16, 8, 3][Int(type)])
    defer { sequence += 1 }
    return [1, type, flags, 0, number, 0, 0, 0] + little(UInt32(body.count)) + [0, 0, 0, 0] + little(sequence) + body
}

private func little<Word: FixedWidthInteger>(_ word: Word) -> [UInt8] {
    (0..<MemoryLayout<Word>.size).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
}

/// What a program, or the carrier, does.
private func call(_ conduit: inout Conduit, _ choice: UInt8, _ filaments: [FilamentNumber], _ input: inout Input) {
    var memory = [UInt8](repeating: 1, count: Int(input.byte()) * 100)
    if choice % 11 == 0 {
        var span = memory.mutableSpan
        var bytes = span.mutableBytes
        let count = conduit.fill(&bytes)
        require(count <= bytes.byteCount, "frames fit")
        return
    }
    guard !filaments.isEmpty else { return }
    let filament = filaments[Int(input.byte()) % filaments.count]
    do throws(FilamentFault) {
        switch choice % 11 {
        case 1: try conduit.accept(filament)
        case 2: try conduit.refuse(filament, error: 111)
        case 3: try conduit.close(filament)
        case 4: try conduit.reset(filament, error: 104)
        case 5: try conduit.end(filament)
        case 6: try conduit.markUrgent(filament)
        case 7:
            let count = try conduit.write(filament, memory.span.bytes)
            require(count <= memory.count, "no more is written than there is")
        case 8: _ = try conduit.open(kind: 1, address: [])
        case 9:
            let left = try conduit.unacknowledged(filament)
            require(left >= 0, "no more is acknowledged than was written")
        default:
            let there = try conduit.readable(filament)
            var span = memory.mutableSpan
            var bytes = span.mutableBytes
            let count = try conduit.read(filament, into: &bytes)
            require(count == min(there, bytes.byteCount), "what is there is read")
        }
    } catch {
        require(!"\(error)".isEmpty, "a fault has words")
    }
}
