// Which frames go out, and in which order. Frames without data and small messages go first, in the order in which they
// came up; then filaments with data in turns of 16 KiB. For each 64 KiB of the former there is one turn of the latter.

extension Conduit {
    /// Bytes of a filament's turn.
    static let turn = Limit.fragment
    /// Bytes that go first between two turns, at most one frame more.
    static let promptShare = 4 * turn
    /// What a filament sends after a pause is a small message if it is shorter.
    static let smallMessage = 1024
    /// Data isn't cut into pieces smaller than this to fill up a block.
    static let leastPiece = 512

    /// Whether there is something to send. `fill` may find that there is nothing after all.
    package var demand: Demand {
        if hasEnded { return .none }
        let canWake = !starved.isEmpty && allowance.left > 0
        if !prompt.isEmpty || !bulk.isEmpty || canWake || isCreditDue { return .now }
        return owing.isEmpty ? .none : .later
    }

    /// Writes as many frames as there are and as fit, and returns how many bytes they have. They count as sent: the
    /// carrier is to bring them to the peer. A room of less than `Limit.leastRoom` may be too small for any.
    package mutating func fill(_ room: inout MutableRawSpan) -> Int {
        var filled = 0
        guard !hasEnded else { return 0 }
        if isCreditDue {
            guard putFrame(.conduitCredit, 0, 8, &room, &filled) else { return 0 }
            room.put(UInt64(limits.receivePool), at: filled - 8)
            receiveQueues.pool = limits.receivePool
        }
        wakeStarved()
        while true {
            if let number = prompt.first, promptBytes < Conduit.promptShare || bulk.isEmpty {
                let before = filled
                let isDone = servePrompt(Int(number), &room, &filled)
                promptBytes = min(promptBytes, Conduit.promptShare) + filled - before
                guard isDone else { return filled }
            } else if let number = bulk.first {
                guard serveBulk(Int(number), &room, &filled) else { return filled }
            } else {
                break
            }
        }
        promptBytes = 0
        while let number = owing.first {
            guard putCredit(Int(number), &room, &filled) else { break }
            owing.removeFirst()
            filaments[Int(number)].isOwing = false
        }
        return filled
    }

    /// The conduit's own credit is the first frame of all.
    private var isCreditDue: Bool { nextSequence == 0 && limits.receivePool > 0 }

    // MARK: - What is to be sent

    /// Something of the filament that isn't data is due.
    mutating func mark(_ index: Int, due: Filament.Due) {
        filaments[index].due.formUnion(due)
        hasten(index)
    }

    /// Puts the filament where its data is sent from, if it has data and credit for it. After a turn it goes on behind
    /// the others, however little is left.
    mutating func schedule(_ index: Int, afterTurn: Bool = false) {
        let size = filaments[index].outgoing.count
        guard size > 0, filaments[index].due.isDisjoint(with: .first),
            filaments[index].sendLimit > filaments[index].sent
        else { return }
        if allowance.room(at: filaments[index].outstanding) == 0 {
            if !filaments[index].isStarved { starved.append(UInt32(index)) }
            filaments[index].isStarved = true
        } else if size < Conduit.smallMessage && !afterTurn {
            hasten(index)
        } else if !filaments[index].isBulk {
            filaments[index].isBulk = true
            bulk.append(UInt32(index))
        }
    }

    mutating func wantEnd(_ index: Int) {
        filaments[index].end = .wanted
        filaments[index].wakeAt = nil
        if filaments[index].outgoing.isEmpty { hasten(index) }
    }

    private mutating func hasten(_ index: Int) {
        guard !filaments[index].isPrompt else { return }
        filaments[index].isPrompt = true
        prompt.append(UInt32(index))
    }

    /// Lets as many filaments try again as the conduit's credit may be enough for.
    private mutating func wakeStarved() {
        guard allowance.left > 0 else { return }
        for _ in 0...allowance.left / Conduit.turn {
            guard let number = starved.removeFirst() else { return }
            filaments[Int(number)].isStarved = false
            schedule(Int(number))
        }
    }

    // MARK: - Service

    /// False where the room was not enough: the filament stays the first.
    private mutating func servePrompt(_ index: Int, _ room: inout MutableRawSpan, _ filled: inout Int) -> Bool {
        guard putDue(index, &room, &filled) else { return false }
        if filaments[index].phase == .opening || filaments[index].phase == .open {
            let size = filaments[index].outgoing.count
            if size > 0 && size < Conduit.smallMessage {
                guard putData(index, atMost: size, &room, &filled) else { return false }
            }
            guard putEnd(index, &room, &filled) else { return false }
        }
        prompt.removeFirst()
        filaments[index].isPrompt = false
        schedule(index)
        finish(index)
        return true
    }

    /// One turn of the first filament of the ring, or what is left of it. False where the room was not enough: it stays
    /// the first.
    private mutating func serveBulk(_ index: Int, _ room: inout MutableRawSpan, _ filled: inout Int) -> Bool {
        while turnLeft > 0, filaments[index].outgoing.count > 0, filaments[index].due.isDisjoint(with: .first) {
            let before = filaments[index].sent
            guard putData(index, atMost: turnLeft, &room, &filled) else { return false }
            let size = Int(filaments[index].sent - before)
            if size == 0 { break }
            turnLeft -= size
        }
        bulk.removeFirst()
        filaments[index].isBulk = false
        turnLeft = Conduit.turn
        promptBytes = 0
        schedule(index, afterTurn: true)
        if filaments[index].outgoing.isEmpty && filaments[index].end == .wanted { hasten(index) }
        return true
    }

    // MARK: - Frames

    /// Writes a header, and leaves the body to the caller. False where there is no room.
    private mutating func putFrame(
        _ type: FrameType, flags: UInt16 = 0, _ number: UInt32, _ length: Int, _ room: inout MutableRawSpan,
        _ filled: inout Int
    ) -> Bool {
        guard room.byteCount - filled >= FrameHeader.size + length else { return false }
        let header = FrameHeader(type, flags: flags, filament: number, length: length, sequence: nextSequence)
        header.write(to: &room, at: filled)
        nextSequence += 1
        filled += FrameHeader.size + length
        return true
    }

    /// The frames without data that are due, each at its turn. False where there is no room for all.
    private mutating func putDue(_ index: Int, _ room: inout MutableRawSpan, _ filled: inout Int) -> Bool {
        let number = UInt32(index)
        if filaments[index].due.contains(.open) {
            let length = 4 + filaments[index].address.count
            guard putFrame(.open, number, length, &room, &filled) else { return false }
            room.put(filaments[index].kind, at: filled - length)
            room.put(filaments[index].address, 0..<length - 4, at: filled - length + 4)
            filaments[index].address = []
            filaments[index].due.remove(.open)
        }
        if filaments[index].due.contains(.accepted) {
            guard putFrame(.accepted, number, 0, &room, &filled) else { return false }
            filaments[index].due.remove(.accepted)
        }
        if filaments[index].due.contains(.urgent) {
            guard putFrame(.urgent, number, 8, &room, &filled) else { return false }
            room.put(filaments[index].urgentMark, at: filled - 8)
            filaments[index].due.remove(.urgent)
        }
        if filaments[index].due.contains(.credit) {
            guard putCredit(index, &room, &filled) else { return false }
        }
        return putReset(index, &room, &filled)
    }

    private mutating func putReset(_ index: Int, _ room: inout MutableRawSpan, _ filled: inout Int) -> Bool {
        let due = filaments[index].due
        guard !due.isDisjoint(with: [.reset, .refused]) else { return true }
        let type = due.contains(.refused) ? FrameType.refused : .reset
        guard putFrame(type, UInt32(index), 4, &room, &filled) else { return false }
        room.put(filaments[index].error, at: filled - 4)
        filaments[index].due = []
        forgetOutstanding(index)
        if filaments[index].phase == .answering { release(index) }
        return true
    }

    /// Writes what the program has read and may be sent, if that is news. False where there is no room.
    private mutating func putCredit(_ index: Int, _ room: inout MutableRawSpan, _ filled: inout Int) -> Bool {
        filaments[index].due.remove(.credit)
        guard filaments[index].phase == .open, !filaments[index].isTaken else { return true }
        let consumed = filaments[index].consumed
        let isLast = filaments[index].isEnded && filaments[index].incoming.isEmpty
        let limit = max(filaments[index].grantedLimit, consumed + UInt64(filaments[index].window))
        guard isLast || consumed > filaments[index].grantedConsumed || limit > filaments[index].grantedLimit else {
            return true
        }
        guard
            putFrame(.credit, flags: isLast ? FrameHeader.lastFlag : 0, UInt32(index), 16, &room, &filled)
        else {
            filaments[index].due.insert(.credit)
            return false
        }
        room.put(consumed, at: filled - 16)
        room.put(limit, at: filled - 8)
        filaments[index].grantedConsumed = consumed
        filaments[index].grantedLimit = limit
        filaments[index].isTaken = isLast
        return true
    }

    /// Sends one piece of data, where there is credit for it. False where there is no room.
    private mutating func putData(
        _ index: Int, atMost: Int, _ room: inout MutableRawSpan, _ filled: inout Int
    ) -> Bool {
        let count = filaments[index].outgoing.count
        let outstanding = filaments[index].outstanding
        let credit = Int(min(filaments[index].sendLimit - filaments[index].sent, UInt64(Limit.fragment)))
        let free = allowance.room(at: outstanding)
        let wanted = min(count, atMost, Limit.fragment, credit)
        let size = min(wanted, free, room.byteCount - filled - FrameHeader.size)
        if size < min(wanted, free, Conduit.leastPiece) { return false }
        guard size > 0, putFrame(.data, UInt32(index), size, &room, &filled) else { return true }
        filaments[index].outgoing.remove(size, to: &room, at: filled - size)
        filaments[index].sent += UInt64(size)
        sendQueues.change(from: count, to: count - size)
        allowance.change(from: outstanding, to: outstanding + size)
        if let wakeAt = filaments[index].wakeAt, count - size <= wakeAt {
            filaments[index].wakeAt = nil
            events.append(.writable(name(index)))
        }
        return true
    }

    /// Sends the end where it is wanted and all data is sent. False where there is no room.
    private mutating func putEnd(_ index: Int, _ room: inout MutableRawSpan, _ filled: inout Int) -> Bool {
        guard filaments[index].end == .wanted, filaments[index].outgoing.isEmpty else { return true }
        guard putFrame(.end, UInt32(index), 0, &room, &filled) else { return false }
        filaments[index].end = .sent
        return true
    }
}
