// What the peer's frames do. Nothing in them is believed: what no honest peer writes ends the conduit.

extension Conduit {
    /// Takes the frames of a block. After a fault the conduit has ended, and each filament has its event.
    package mutating func take(_ frames: RawSpan) throws(ConduitFault) {
        if let fault { throw fault }
        if hasEnded { return }
        do throws(ConduitFault) {
            var offset = 0
            while offset < frames.byteCount {
                let header = try FrameHeader(frames, at: offset)
                guard header.sequence == expectedSequence else {
                    throw .sequence(expected: expectedSequence, seen: header.sequence)
                }
                expectedSequence += 1
                offset += FrameHeader.size + header.length
                try take(header, frames.extracting(offset - header.length..<offset))
            }
        } catch {
            fault = error
            end(error: ErrorNumber.connectionReset)
            throw error
        }
    }

    private mutating func take(_ header: FrameHeader, _ body: RawSpan) throws(ConduitFault) {
        if header.type == .conduitCredit { return try takeConduitCredit(header, body) }
        if header.type == .open { return try takeOpen(header, body) }
        let index = Int(header.filament)
        guard index < filaments.count else { throw .state(header.type, filament: header.filament) }
        switch filaments[index].phase {
        case .free, .answering: throw .state(header.type, filament: header.filament)
        case .resetting:
            // What was under way when the reset went out is dropped.
            if header.type == .reset || header.type == .refused && isOwn(header.filament) { takeAnswer(index) }
        case .opening, .offered, .open:
            switch header.type {
            case .accepted: try takeAccepted(index)
            case .refused: try takeRefused(index, body)
            case .data: try takeData(index, body)
            case .urgent: try takeUrgent(index, body)
            case .end: try takeEnd(index)
            case .reset: try takeReset(index, body)
            case .credit: try takeCredit(index, header, body)
            case .open, .conduitCredit: preconditionFailure("taken above")
            }
        }
    }

    // MARK: - Opening

    private mutating func takeOpen(_ header: FrameHeader, _ body: RawSpan) throws(ConduitFault) {
        let number = header.filament
        guard number > 0, !isOwn(number), number < Limit.numbers, number <= nextPeer else { throw .number(number) }
        if number == nextPeer {
            makeRoom(for: number)
            nextPeer += 2
        }
        let index = Int(number)
        guard filaments[index].phase == .free else { throw .state(.open, filament: number) }
        count += 1
        offered += 1
        filaments[index].phase = .offered
        if offered > limits.backlog { return abandon(index, error: ErrorNumber.tryAgain) }
        events.append(.opened(name(index), kind: body.word(at: 0), address: body.array(from: 4)))
    }

    private mutating func takeAccepted(_ index: Int) throws(ConduitFault) {
        guard filaments[index].phase == .opening, filaments[index].due.isDisjoint(with: .open) else {
            throw .state(.accepted, filament: UInt32(index))
        }
        filaments[index].phase = .open
        if !filaments[index].isClosed { events.append(.accepted(name(index))) }
    }

    private mutating func takeRefused(_ index: Int, _ body: RawSpan) throws(ConduitFault) {
        guard filaments[index].phase == .opening, filaments[index].due.isDisjoint(with: .open) else {
            throw .state(.refused, filament: UInt32(index))
        }
        let error = try errorNumber(.refused, body)
        events.append(.refused(name(index), error: error))
        answer(index, error: error)
    }

    // MARK: - Data

    /// A filament that the peer may send on: accepted, and before its end.
    private func requireSending(_ type: FrameType, _ index: Int) throws(ConduitFault) {
        guard filaments[index].phase != .opening, !filaments[index].isEnded else {
            throw .state(type, filament: UInt32(index))
        }
    }

    private mutating func takeData(_ index: Int, _ body: RawSpan) throws(ConduitFault) {
        try requireSending(.data, index)
        let size = body.byteCount
        let count = filaments[index].incoming.count
        guard UInt64(size) <= filaments[index].grantedLimit - filaments[index].received else {
            throw .beyondCredit(filament: UInt32(index))
        }
        guard size <= receiveQueues.room(at: count) else { throw .beyondConduitCredit(filament: UInt32(index)) }
        if filaments[index].isClosed { return abandonClosed(index) }
        filaments[index].incoming.append(body)
        filaments[index].received += UInt64(size)
        receiveQueues.change(from: count, to: count + size)
        if count == 0 && filaments[index].phase == .open { events.append(.readable(name(index))) }
    }

    private mutating func takeUrgent(_ index: Int, _ body: RawSpan) throws(ConduitFault) {
        try requireSending(.urgent, index)
        let mark: UInt64 = body.word(at: 0)
        guard mark >= filaments[index].peerMark ?? 0 else { throw .malformed(.urgent) }
        filaments[index].peerMark = mark
        if filaments[index].phase == .open && !filaments[index].isClosed { events.append(.urgent(name(index))) }
    }

    private mutating func takeEnd(_ index: Int) throws(ConduitFault) {
        try requireSending(.end, index)
        filaments[index].isEnded = true
        guard filaments[index].phase == .open else { return }
        if !filaments[index].isClosed { events.append(.ended(name(index))) }
        credit(index)
    }

    // MARK: - Credit

    private mutating func takeCredit(_ index: Int, _ header: FrameHeader, _ body: RawSpan) throws(ConduitFault) {
        guard filaments[index].phase == .open, !filaments[index].isDelivered else {
            throw .state(.credit, filament: UInt32(index))
        }
        let consumed: UInt64 = body.word(at: 0)
        let limit: UInt64 = body.word(at: 8)
        let isLast = header.flags & FrameHeader.lastFlag != 0
        let sent = filaments[index].sent
        guard consumed >= filaments[index].acknowledged, consumed <= sent, limit >= filaments[index].sendLimit,
            !isLast || filaments[index].end == .sent && consumed == sent
        else { throw .falseCredit(filament: UInt32(index)) }
        let before = filaments[index].outstanding
        filaments[index].acknowledged = consumed
        filaments[index].sendLimit = limit
        allowance.change(from: before, to: filaments[index].outstanding)
        schedule(index)
        if isLast {
            filaments[index].isDelivered = true
            tell(.delivered(name(index)), index)
            finish(index)
        }
    }

    private mutating func takeConduitCredit(_ header: FrameHeader, _ body: RawSpan) throws(ConduitFault) {
        // More than this is nothing that can be sent anyway.
        let pool = Int(min(body.word(at: 0, as: UInt64.self), 1 << 48))
        guard header.filament == 0, pool >= allowance.pool else { throw .malformed(.conduitCredit) }
        allowance.pool = pool
    }

    /// Has the peer told what was read: at once where it may be waiting for that, be it for the filament's credit or for
    /// the conduit's, else when there is an occasion.
    mutating func credit(_ index: Int) {
        let isLast = filaments[index].isEnded && filaments[index].incoming.isEmpty
        let gain = filaments[index].consumed + UInt64(filaments[index].window) - filaments[index].grantedLimit
        // What all filaments together have read and not told is a quarter of the pool at most, or their minima.
        let share = max(receiveQueues.pool / 4 / count, Limit.minimum)
        if isLast || gain >= UInt64(min(filaments[index].window / 4, share)) {
            mark(index, due: .credit)
        } else if !filaments[index].isOwing {
            filaments[index].isOwing = true
            owing.append(UInt32(index))
        }
    }

    /// Doubles the window of a reader that has read a whole one and keeps up, as long as the pool is not half full.
    mutating func growWindow(_ index: Int) {
        let window = filaments[index].window
        guard window < Filament.largestWindow, filaments[index].incoming.count < window / 2,
            filaments[index].consumed - filaments[index].grownAt >= UInt64(window),
            receiveQueues.used < receiveQueues.pool / 2
        else { return }
        filaments[index].window = 2 * window
        filaments[index].grownAt = filaments[index].consumed
    }

    // MARK: - Resets

    private mutating func takeReset(_ index: Int, _ body: RawSpan) throws(ConduitFault) {
        // Who has said its end and its last credit has nothing left to say.
        guard !filaments[index].isPeerDone, filaments[index].due.isDisjoint(with: .open) else {
            throw .state(.reset, filament: UInt32(index))
        }
        let error = try errorNumber(.reset, body)
        if filaments[index].phase == .offered { offered -= 1 }
        tell(.reset(name(index), error: error), index)
        answer(index, error: error)
    }

    /// The peer has reset it: the number is free once it has the answer.
    private mutating func answer(_ index: Int, error: UInt32) {
        dropQueues(index)
        forgetOutstanding(index)
        filaments[index].phase = .answering
        filaments[index].error = error
        filaments[index].due = []
        mark(index, due: .reset)
    }

    /// The peer's reset, where one was sent here or is due: they are each other's answer.
    private mutating func takeAnswer(_ index: Int) {
        if filaments[index].due.isEmpty {
            release(index)
        } else {
            forgetOutstanding(index)
            filaments[index].phase = .answering
        }
    }

    private func errorNumber(_ type: FrameType, _ body: RawSpan) throws(ConduitFault) -> UInt32 {
        let error: UInt32 = body.word(at: 0)
        guard error > 0, error < Limit.errors else { throw .malformed(type) }
        return error
    }
}
