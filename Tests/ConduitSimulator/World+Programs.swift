import SkeinConduit

// What the programs do.

extension World {
    /// Each program of an end does what it means to do.
    mutating func act(_ end: Int) {
        for filament in order[end] {
            guard var program = programs[end][filament], program.phase != .over, program.phase != .closed else {
                continue
            }
            act(&program)
            programs[end][filament] = program
            if failure != nil { return }
        }
        order[end].removeAll { programs[end][$0]?.phase == .over }
    }

    private mutating func act(_ program: inout Program) {
        let filament = program.filament
        if program.phase == .offered { return answer(&program) }
        if round < calm && random.once(in: program.resetEvery) {
            trace("end \(program.end) resets \(filament)")
            program.phase = .over
            program.hasReset = true
            if with(program.end, { try? $0.reset(filament, error: 32) }) == nil { fail("\(filament) can't be reset") }
            return
        }
        read(&program)
        write(&program)
        guard program.written == program.total, program.phase == .open || program.isHasty else { return }
        if program.isHasty || program.hasEnded && isAtEnd(program) {
            trace("end \(program.end) closes \(filament)")
            program.phase = .closed
            program.hasEnded = true
            if with(program.end, { try? $0.close(filament) }) == nil { fail("\(filament) can't be closed") }
        } else if !program.hasEnded {
            program.hasEnded = true
            if with(program.end, { try? $0.end(filament) }) == nil { fail("\(filament) can't be ended") }
        }
    }

    private mutating func answer(_ program: inout Program) {
        let filament = program.filament
        guard round >= calm || random.once(in: 5) else { return }
        if round < calm && random.once(in: 8) {
            program.phase = .over
            program.hasReset = true
            if with(program.end, { try? $0.refuse(filament, error: 111) }) == nil {
                fail("\(filament) can't be refused")
            }
        } else {
            program.phase = .open
            if with(program.end, { try? $0.accept(filament) }) == nil { fail("\(filament) can't be accepted") }
            // Its events come before it reads.
            programs[program.end][filament] = program
            handleEvents(program.end)
            program = programs[program.end][filament] ?? program
        }
    }

    private mutating func read(_ program: inout Program) {
        guard program.canRead, round >= calm || random.once(in: program.readEvery) else { return }
        let filament = program.filament
        let readable = with(program.end) { try? $0.readable(filament) } ?? 0
        // Room for a byte more than there is shows that nothing is left.
        let wanted = round < calm ? program.readChunk : readable + 1
        var buffer = [UInt8](repeating: 0, count: min(readable + 1, wanted))
        let size = with(program.end) { conduit in
            var span = buffer.mutableSpan
            var bytes = unsafe span.mutableBytes
            return try? conduit.read(filament, into: &bytes)
        }
        guard let size else { return fail("\(filament) can't be read") }
        let limit = programs[1 - program.end][filament]?.written ?? 0
        if program.read + size > limit { return fail("\(filament) has bytes that nobody wrote") }
        for index in 0..<size
        where buffer[index] != Program.byte(filament, 1 - program.end, program.read + index) {
            return fail("\(filament) has a wrong byte at \(program.read + index)")
        }
        program.read += size
        program.canRead = size == buffer.count
    }

    private mutating func write(_ program: inout Program) {
        let filament = program.filament
        guard !program.hasEnded, program.written < program.total, program.canWrite,
            round >= calm || random.once(in: program.writeEvery)
        else { return }
        let isMessage = program.isPing && round < calm
        var count = min(program.total - program.written, round < calm ? program.chunk : .max)
        if isMessage {
            guard with(program.end, { try? $0.unacknowledged(filament) }) == 0 else { return }
            count = min(program.total - program.written, planted == .noPriority ? 1100 : 100)
        }
        let content = program.content(count)
        guard let taken = with(program.end, { try? unsafe $0.write(filament, content.span.bytes) }) else {
            return fail("\(filament) can't be written to")
        }
        program.written += taken
        program.canWrite = taken == count
        // What is written behind a message is no small message with it.
        program.message = isMessage && program.phase == .open ? (program.written, links[program.end].filled) : nil
        if random.once(in: 50) && taken > 0 {
            program.marks.insert(program.written)
            if with(program.end, { try? $0.markUrgent(filament) }) == nil { fail("\(filament) can't be marked") }
        }
    }

    private mutating func isAtEnd(_ program: Program) -> Bool {
        with(program.end) { try? $0.isAtEnd(program.filament) } ?? false
    }
}
