import SkeinConduit

// What must hold in every run.

extension World {
    /// Events reach the programs, if they are true.
    mutating func handleEvents(_ end: Int) {
        for event in with(end, { $0.takeEvents() }) {
            trace("end \(end): \(event)")
            if case .opened(let filament, let kind, let address) = event {
                if kind != UInt32(1 - end) || address != [1, 2, 3] { fail("\(filament) was opened otherwise") }
                add(Program(filament, end: end, phase: .offered, isPing: random.once(in: 4), &random))
                continue
            }
            guard var program = programs[end][name(event)] else { return fail("\(event) is for nobody") }
            if program.phase == .over { return fail("\(event) comes after the last event") }
            handle(event, &program, peer: programs[1 - end][program.filament])
            programs[end][program.filament] = program
        }
    }

    private mutating func handle(_ event: FilamentEvent, _ program: inout Program, peer: Program?) {
        switch event {
        case .opened: break
        case .accepted:
            if program.phase == .opening { program.phase = .open }
            if peer == nil || peer?.phase == .offered { fail("\(program.filament) was never accepted") }
        case .refused(_, let error):
            if error == 111 ? peer?.hasReset != true : error != 11 || peer != nil {
                fail("\(program.filament) was refused by nobody")
            }
            program.phase = .over
        case .readable: program.canRead = true
        case .writable: program.canWrite = true
        case .urgent: checkMark(program, peer)
        case .ended:
            program.isPeerEnded = true
            if peer?.hasEnded != true { fail("\(program.filament) was never ended") }
        case .delivered:
            if peer?.read != program.written { fail("\(program.filament) was never read to its end") }
        case .reset:
            let isMeant = peer?.hasReset == true || peer?.phase == .closed || peer?.phase == .over
            if !isMeant && program.phase != .closed && cut != round { fail("\(program.filament) was reset by nobody") }
            program.phase = .over
        case .closed:
            if peer?.read != program.written || peer?.written != program.read || !program.hasEnded
                || peer?.hasEnded != true
            {
                fail("\(program.filament) closed before all was read")
            }
            program.phase = .over
        }
    }

    private func name(_ event: FilamentEvent) -> FilamentNumber {
        switch event {
        case .opened(let filament, _, _), .accepted(let filament), .refused(let filament, _), .readable(let filament),
            .writable(let filament), .urgent(let filament), .ended(let filament), .delivered(let filament),
            .reset(let filament, _), .closed(let filament):
            filament
        }
    }

    private mutating func checkMark(_ program: Program, _ peer: Program?) {
        let filament = program.filament
        guard let left = with(program.end, { try? $0.bytesToMark(filament) }) else { return }
        if peer?.marks.contains(program.read + Int(left)) != true {
            fail("\(filament) has a mark where none was made")
        }
    }

    /// What is kept has bounds, and only what a program has read is acknowledged.
    mutating func checkMemory(_ end: Int) {
        let (queued, count) = with(end) { ($0.queued, $0.count) }
        if queued.incoming > limits[end].receivePool + 16_384 * count {
            fail("end \(end) keeps \(queued.incoming) bytes that it has received")
        }
        if queued.outgoing > limits[end].sendPool + 16_384 * count {
            fail("end \(end) keeps \(queued.outgoing) bytes to be sent")
        }
        for filament in order[end] {
            guard let program = programs[end][filament], program.phase == .open || program.phase == .opening,
                let left = with(end, { try? $0.unacknowledged(filament) })
            else { continue }
            if program.written - left > programs[1 - end][filament]?.read ?? 0 {
                return fail("\(filament): more is acknowledged than was read")
            }
        }
    }

    /// A small message, alone on its filament, goes out before much else: at most with the block in hand, what goes
    /// first between two turns, a turn, and the small messages of all others.
    mutating func checkMessages(from end: Int, _ filled: Int) {
        for filament in order[end] {
            guard let message = programs[end][filament]?.message,
                let readable = with(1 - end, { try? $0.readable(filament) }),
                let read = programs[1 - end][filament]?.read, read + readable >= message.position
            else { continue }
            programs[end][filament]?.message = nil
            let others = order[end].count + order[1 - end].count
            let bound = links[end].room + 5 * 16_384 + others * 1200
            if filled - message.filled > bound {
                return fail("\(filament): \(filled - message.filled) bytes went before a small message")
            }
        }
    }

    /// Long after the last disturbance all is over at both ends.
    mutating func checkEnd() {
        for end in 0...1 {
            let (queued, count) = with(end) { ($0.queued, $0.count) }
            if queued != (0, 0) || count != 0 { return fail("end \(end) keeps something of filaments that are over") }
            if let program = programs[end].values.first(where: { $0.phase != .over }) {
                return fail("\(program.filament) has no last event at end \(end)")
            }
        }
    }

    func unfinished() -> String {
        let left = (0...1).flatMap { end in
            order[end].prefix(3).compactMap { filament in
                programs[end][filament].map {
                    "\(filament) at end \(end): \($0.phase), wrote \($0.written) of \($0.total)"
                }
            }
        }
        return left.isEmpty ? "\(even.count) and \(odd.count) filaments of nobody" : left.joined(separator: "; ")
    }
}
