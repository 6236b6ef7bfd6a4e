/// One end of the link between two hosts: many filaments, each a pair of byte streams with flow control, in frames for
/// whatever carries them. A state machine without I/O and without time.
///
/// The carrier's side has `demand`, `fill` and `take`: the frames that one end fills must reach the other's `take` in
/// order and once. Programs have the other calls, and `takeEvents` tells what became of their filaments: it is to be
/// called after each `take`. docs/CONDUIT.md specifies the frames and the states.
package struct Conduit: ~Copyable {
    /// Which filament numbers this end opens: of two hosts the one with the lower number has the even ones.
    package enum Side: UInt32, Sendable {
        case even = 2
        case odd = 1
    }

    /// What this end grants and keeps, at its own choice.
    package struct Limits: Sendable {
        /// Filaments that the peer may offer before they are accepted; more are refused.
        package var backlog = 1024
        /// Bytes received and not read, of all filaments, beyond each one's minimum.
        package var receivePool = 16 * 1024 * 1024
        /// Bytes written and not sent, of all filaments, beyond each one's minimum.
        package var sendPool = 16 * 1024 * 1024
        /// Bytes written and not sent of one filament; a quarter of that where many share the pool.
        package var sendQueue = 1024 * 1024

        package init() {}
    }

    /// Whether the carrier should ask for frames.
    package enum Demand: Sendable {
        case none
        /// Credits that nobody waits for: with the next block, or after some milliseconds.
        case later
        case now
    }

    /// Error numbers that the conduit itself gives filaments: those of Linux.
    package enum ErrorNumber {
        /// EAGAIN: the backlog is full.
        package static let tryAgain: UInt32 = 11
        /// ECONNRESET: the program closed before it had read everything, or the peer's frames made no sense.
        package static let connectionReset: UInt32 = 104
    }

    /// Why it has ended, where the peer's frames were the reason.
    package internal(set) var fault: ConduitFault?
    /// Whether it has ended: there are no filaments any more, and no frames.
    package internal(set) var hasEnded = false
    /// Filaments that are not over at this end.
    package internal(set) var count = 0

    let limits: Limits
    let side: Side
    /// By their number on the wire. Number 0 is the conduit itself.
    var filaments = [Filament(), Filament()]
    /// The lowest numbers that neither end has opened yet.
    var nextOwn: UInt32
    var nextPeer: UInt32
    /// Own numbers that may be used again.
    var freeNumbers: [UInt32] = []
    var offered = 0
    var events: [FilamentEvent] = []

    // Sending.
    var sendQueues: Budget
    /// What the peer may be sent beyond minima: its conduit credit.
    var allowance = Budget(pool: 0)
    var nextSequence: UInt64 = 0
    /// Filaments with frames without data, or with little data after a pause.
    var prompt = NumberQueue()
    /// Filaments with data.
    var bulk = NumberQueue()
    /// Filaments that wait for the conduit's credit.
    var starved = NumberQueue()
    /// Filaments with credits that nobody waits for.
    var owing = NumberQueue()
    /// Bytes of prompt frames since the last bulk turn.
    var promptBytes = 0
    /// What the first of `bulk` may still send in its turn.
    var turnLeft = Conduit.turn

    // Receiving.
    var receiveQueues = Budget(pool: 0)
    var expectedSequence: UInt64 = 0

    package init(_ side: Side, limits: Limits = Limits()) {
        self.side = side
        self.limits = limits
        sendQueues = Budget(pool: limits.sendPool)
        nextOwn = side.rawValue
        nextPeer = (side == .even ? Side.odd : Side.even).rawValue
    }

    /// Bytes written that wait to be sent, and bytes received that wait to be read.
    package var queued: (outgoing: Int, incoming: Int) { (sendQueues.held, receiveQueues.held) }

    /// What happened since the last call.
    package mutating func takeEvents() -> [FilamentEvent] {
        let taken = events
        events = []
        return taken
    }

    // MARK: - Filaments

    /// Opens a filament. It may be written to at once; `accepted` or `refused` follows.
    ///
    /// `kind` and `address` (`Limit.address` bytes at most) are for the peer's owner.
    package mutating func open(kind: UInt32, address: [UInt8]) throws(FilamentFault) -> FilamentNumber {
        precondition(address.count <= Limit.address, "an address has at most \(Limit.address) bytes")
        if hasEnded { throw .gone }
        let number: UInt32
        if let free = freeNumbers.popLast() {
            number = free
        } else {
            guard nextOwn < Limit.numbers else { throw .exhausted }
            number = nextOwn
            nextOwn += 2
            makeRoom(for: number)
        }
        count += 1
        filaments[Int(number)].phase = .opening
        filaments[Int(number)].kind = kind
        filaments[Int(number)].address = address
        mark(Int(number), due: .open)
        return name(Int(number))
    }

    /// Accepts a filament that the peer offered. What came with it is there to be read, as further events say.
    package mutating func accept(_ filament: FilamentNumber) throws(FilamentFault) {
        let index = try index(of: filament)
        guard filaments[index].phase == .offered else { throw .notOffered }
        offered -= 1
        filaments[index].phase = .open
        mark(index, due: .accepted)
        if !filaments[index].incoming.isEmpty { events.append(.readable(filament)) }
        if filaments[index].peerMark != nil { events.append(.urgent(filament)) }
        if filaments[index].isEnded {
            events.append(.ended(filament))
            credit(index)
        }
    }

    /// Refuses a filament that the peer offered, with an error number of Linux.
    package mutating func refuse(_ filament: FilamentNumber, error: UInt32) throws(FilamentFault) {
        let index = try index(of: filament)
        guard filaments[index].phase == .offered else { throw .notOffered }
        abandon(index, error: error)
    }

    /// The program is done with it. What was written is still sent, then the end; `delivered` and `closed` follow. Where
    /// anything is unread, or still comes, the filament is reset, and `reset` follows.
    package mutating func close(_ filament: FilamentNumber) throws(FilamentFault) {
        let index = try index(of: filament)
        if filaments[index].phase == .offered || !filaments[index].incoming.isEmpty {
            return abandonClosed(index)
        }
        filaments[index].isClosed = true
        if filaments[index].end == .none { wantEnd(index) }
    }

    /// Ends both directions at once, with an error number of Linux for the peer. What is unread there is lost. Where
    /// all was sent here and all was read, nothing is left to reset: the peer just reads on.
    package mutating func reset(_ filament: FilamentNumber, error: UInt32) throws(FilamentFault) {
        let index = try index(of: filament)
        if filaments[index].end == .sent && filaments[index].isTaken {
            filaments[index].isClosed = true
            filaments[index].isAbandoned = true
        } else {
            abandon(index, error: error)
        }
    }

    // MARK: - Data

    /// Queues bytes, and returns how many there was room for. Where that is not all of them, `writable` follows.
    package mutating func write(_ filament: FilamentNumber, _ bytes: RawSpan) throws(FilamentFault) -> Int {
        let index = try index(of: filament)
        if filaments[index].phase == .offered { throw .notAccepted }
        if filaments[index].end != .none { throw .ended }
        let count = filaments[index].outgoing.count
        let taken = max(0, min(bytes.byteCount, sendQueueLimit - count, sendQueues.room(at: count)))
        if taken < bytes.byteCount { filaments[index].wakeAt = (count + taken) / 2 }
        guard taken > 0 else { return 0 }
        filaments[index].outgoing.append(bytes.extracting(first: taken))
        sendQueues.change(from: count, to: count + taken)
        schedule(index)
        return taken
    }

    /// Who comes first shall not fill the pool alone.
    private var sendQueueLimit: Int {
        min(limits.sendQueue, max(limits.sendPool / 2 / count, limits.sendQueue / 4))
    }

    /// Says that nothing more is written: half closes it.
    package mutating func end(_ filament: FilamentNumber) throws(FilamentFault) {
        let index = try index(of: filament)
        if filaments[index].phase == .offered { throw .notAccepted }
        if filaments[index].end != .none { throw .ended }
        wantEnd(index)
    }

    /// Marks the byte that was written last as urgent, and tells the peer ahead of the data.
    package mutating func markUrgent(_ filament: FilamentNumber) throws(FilamentFault) {
        let index = try index(of: filament)
        if filaments[index].phase == .offered { throw .notAccepted }
        if filaments[index].end != .none { throw .ended }
        filaments[index].urgentMark = filaments[index].sent + UInt64(filaments[index].outgoing.count)
        mark(index, due: .urgent)
    }

    /// Reads what has come into `room`, and returns how many bytes that were. Zero is the end only where `isAtEnd`.
    package mutating func read(_ filament: FilamentNumber, into room: inout MutableRawSpan) throws(FilamentFault) -> Int
    {
        let index = try index(of: filament)
        if filaments[index].phase == .offered { throw .notAccepted }
        let count = filaments[index].incoming.count
        let size = min(count, room.byteCount)
        guard size > 0 else { return 0 }
        filaments[index].incoming.remove(size, to: &room, at: 0)
        receiveQueues.change(from: count, to: count - size)
        growWindow(index)
        credit(index)
        return size
    }

    /// Bytes that can be read.
    package func readable(_ filament: FilamentNumber) throws(FilamentFault) -> Int {
        filaments[try index(of: filament)].incoming.count
    }

    /// Whether the peer's program ended its direction and all of it was read.
    package func isAtEnd(_ filament: FilamentNumber) throws(FilamentFault) -> Bool {
        let index = try index(of: filament)
        return filaments[index].isEnded && filaments[index].incoming.isEmpty
    }

    /// Unread bytes up to the one that the peer marked as urgent, that one included; nil where none is marked or it was
    /// read. It may be more than can be read yet.
    package func bytesToMark(_ filament: FilamentNumber) throws(FilamentFault) -> UInt64? {
        let index = try index(of: filament)
        guard let mark = filaments[index].peerMark, mark > filaments[index].consumed else { return nil }
        return mark - filaments[index].consumed
    }

    /// Bytes written here that the peer's program is not known to have read.
    package func unacknowledged(_ filament: FilamentNumber) throws(FilamentFault) -> Int {
        let index = try index(of: filament)
        return filaments[index].outgoing.count + filaments[index].outstanding
    }

    // MARK: - Ends

    /// Ends the conduit: its carrier or its peer is gone. Each filament is reset with this error number of Linux.
    package mutating func end(error: UInt32) {
        hasEnded = true
        for index in filaments.indices {
            switch filaments[index].phase {
            case .opening, .offered, .open: tell(.reset(name(index), error: error), index)
            case .free, .resetting, .answering: break
            }
        }
        count = 0
        offered = 0
        filaments = []
        freeNumbers = []
        (prompt, bulk, starved, owing) = (NumberQueue(), NumberQueue(), NumberQueue(), NumberQueue())
        (sendQueues, receiveQueues, allowance) = (Budget(pool: 0), Budget(pool: 0), Budget(pool: 0))
    }

    /// Resets or refuses a filament. The program knows of it, and has no further event.
    mutating func abandon(_ index: Int, error: UInt32) {
        precondition(error > 0 && error < Limit.errors, "an error number is one of Linux")
        let isRefusal = filaments[index].phase == .offered
        if isRefusal { offered -= 1 }
        dropQueues(index)
        filaments[index].phase = .resetting
        filaments[index].error = error
        filaments[index].due.formIntersection(.first)
        mark(index, due: isRefusal ? .refused : .reset)
    }

    /// A last event, or `delivered`.
    mutating func tell(_ event: FilamentEvent, _ index: Int) {
        if !filaments[index].isAbandoned { events.append(event) }
    }

    /// Resets a filament that its program has closed: what it wrote may be lost.
    mutating func abandonClosed(_ index: Int) {
        events.append(.reset(name(index), error: ErrorNumber.connectionReset))
        abandon(index, error: ErrorNumber.connectionReset)
    }

    /// Drops what waits in both directions.
    mutating func dropQueues(_ index: Int) {
        sendQueues.change(from: filaments[index].outgoing.count, to: 0)
        receiveQueues.change(from: filaments[index].incoming.count, to: 0)
        filaments[index].outgoing.removeAll()
        // What was dropped doesn't count as read: no credit goes out for it any more.
        filaments[index].incoming.removeAll()
    }

    /// What was sent is no longer on its way, as far as the conduit's credit goes.
    mutating func forgetOutstanding(_ index: Int) {
        allowance.change(from: filaments[index].outstanding, to: 0)
        filaments[index].acknowledged = filaments[index].sent
    }

    /// Gives a number back. Both ends have said all that they may.
    mutating func release(_ index: Int) {
        filaments[index].free()
        count -= 1
        if isOwn(UInt32(index)) { freeNumbers.append(UInt32(index)) }
    }

    /// Releases a filament of which both directions are over.
    mutating func finish(_ index: Int) {
        guard filaments[index].phase == .open, filaments[index].isOver else { return }
        tell(.closed(name(index)), index)
        release(index)
    }

    // MARK: - Numbers

    func isOwn(_ number: UInt32) -> Bool { number & 1 == side.rawValue & 1 }

    func name(_ index: Int) -> FilamentNumber { FilamentNumber(UInt32(index), uses: filaments[index].uses) }

    mutating func makeRoom(for number: UInt32) {
        while filaments.count <= Int(number) { filaments.append(Filament()) }
    }

    /// The place of a filament that a program may still use.
    private func index(of filament: FilamentNumber) throws(FilamentFault) -> Int {
        let index = Int(filament.wire)
        guard index < filaments.count, filaments[index].uses == filament.uses, !filaments[index].isClosed else {
            throw .gone
        }
        switch filaments[index].phase {
        case .opening, .offered, .open: return index
        case .free, .resetting, .answering: throw .gone
        }
    }
}
