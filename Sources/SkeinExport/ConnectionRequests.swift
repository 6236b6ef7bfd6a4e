import Glibc
import SkeinDevice
import SkeinNBD

/// A request whose payload has not all come.
@safe
struct Incoming {
    let request: Request
    /// Bytes of the payload that are still to come.
    var left: Int
    /// Where they go on the device.
    var offset: UInt64
    /// Why the request fails, once all has come.
    var failure: (code: ErrorCode, text: StaticString)?
    /// Collects the payload for a device that can't take it in pieces; nil while it is written as it comes.
    var slot: UnsafeMutablePointer<Slot>?
    /// Bytes that the slot has.
    var filled = 0

    /// Where the rest goes.
    var room: UnsafeMutableRawBufferPointer? {
        guard let slot = unsafe slot, let data = unsafe slot.pointee.data else { return nil }
        return unsafe UnsafeMutableRawBufferPointer(start: data + filled, count: slot.pointee.dataCapacity - filled)
    }
}

// The direct call path.

extension Connection {
    /// A read that is answered whole; a longer one of a device in memory is sent in pieces of this size.
    static let piece = 256 << 10
    /// The longest read that is one piece of what is sent together; a longer one can still fail in the middle.
    private static let lendable = 1 << 20
    /// A shorter read isn't worth looking for holes.
    private static let sparse: UInt64 = 32 << 10

    /// Takes whole requests, and payload as it comes. Returns how many of the bytes are done with.
    func takeRequests(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let iop, let rules else { return 0 }
        let headerSize = Request.headerSize(style)
        var position = 0
        while fault == nil && phase == .transmitting {
            if incoming != nil {
                position += unsafe takePayload(UnsafeRawBufferPointer(rebasing: bytes[position...]), iop)
                if incoming != nil { break }
            }
            guard bytes.count - position >= headerSize else { break }
            if mustWait {
                holdsWhole = true
                break
            }
            let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[position...])
            guard var request = unsafe Request(RawSpan(_unsafeBytes: rest), style) else {
                fail("something that is no request")
                break
            }
            var size = headerSize
            var verdict = rules.judge(request, size: iop.length.bytes)
            if request.command == Command.blockStatus.rawValue, request.payload(style) == StatusPayload.size {
                // Short, and needed to judge.
                guard rest.count >= headerSize + Int(StatusPayload.size) else { break }
                size += Int(StatusPayload.size)
                let payload = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: rest[headerSize..<size]))
                verdict = judge(status: &request, payload, verdict, rules, iop)
            }
            position += size
            counters.count(request)
            hasMoreInput = position < bytes.count
            act(on: request, verdict, iop)
        }
        return position
    }

    /// Whether replies or the device must get ahead first.
    private var mustWait: Bool {
        let limits = unsafe worker.limits
        return !outgoing.isEmpty || !finished.isEmpty || stream != nil || requestsInFlight >= limits.requests
            || bytesInFlight >= limits.bytes
    }

    private func judge(
        status request: inout Request, _ payload: RawSpan, _ verdict: Verdict, _ rules: RequestRules, _ iop: IOP
    ) -> Verdict {
        request.flags.remove(.payloadLength)
        guard case .perform = verdict else {
            request.length = 0
            return verdict
        }
        guard let effect = StatusPayload.effect(payload) else {
            request.length = 0
            return .refuse(.invalid, "a context that wasn't negotiated")
        }
        request.length = effect
        return rules.judge(request, size: iop.length.bytes)
    }

    @inline(__always)
    private func act(on request: Request, _ verdict: Verdict, _ iop: IOP) {
        switch verdict {
        case .perform(let command) where !isStopping:
            let before = requestsInFlight
            perform(command, request, iop)
            if incoming == nil && requestsInFlight == before { noteLatency(request) }
        case .perform: refuse(request, .shutdown, "the server stops")
        case .refuse(let code, let text):
            counters.countError()
            refuse(request, code, text)
        case .disconnect: phase = .finishing
        case .violation(let text): fail("\(text)")
        }
    }

    /// The request has its reply: counts what that took, and begins with the next.
    @inline(__always)
    private func noteLatency(_ request: Request) {
        let now = Clock.now
        unsafe counters.latencies.add(LatencyKind(request.command), now &- worker.clock)
        unsafe worker.clock = now
    }

    /// Answers with an error, after the payload.
    private func refuse(_ request: Request, _ code: ErrorCode, _ text: StaticString) {
        let payload = Int(request.payload(style))
        guard payload > 0 else { return reply(to: request) { $0.error(code, text) } }
        unsafe incoming = Incoming(request: request, left: payload, offset: 0, failure: (code, text))
    }

    private func perform(_ command: Command, _ request: Request, _ iop: IOP) {
        switch command {
        case .read: read(request, iop)
        case .write:
            guard request.length > 0 else { return reply(to: request) { $0.done() } }
            unsafe incoming = Incoming(request: request, left: Int(request.length), offset: request.offset)
        case .blockStatus where !request.flags.contains(.payloadLength): status(request, iop)
        // A payload of another size than the one that chooses our context.
        case .blockStatus: refuse(request, .invalid, "a context that wasn't negotiated")
        case .flush: send(unsafe Message(.flush), request, iop)
        case .trim: send(.trim, request, iop)
        case .cache: send(.cache, request, iop)
        case .writeZeroes: send(.zeroes, request, iop)
        case .resize: send(unsafe Message(.resize, length: request.offset), request, iop)
        case .disconnect: break
        }
    }

    // MARK: - Messages without data

    private func send(_ operation: Message.Operation, _ request: Request, _ iop: IOP) {
        guard request.length > 0 else { return reply(to: request) { $0.done() } }
        var options: Message.Options = []
        if request.flags.contains(.forceUnitAccess) { options.insert(.durable) }
        if request.flags.contains(.noHole) { options.insert(.noHole) }
        if request.flags.contains(.fastZero) { options.insert(.fastZero) }
        send(unsafe Message(operation, options, offset: request.offset, length: request.length), request, iop)
    }

    private func send(_ message: Message, _ request: Request, _ iop: IOP) {
        var message = message
        switch iop.attempt(&message) {
        case .done: reply(to: request) { $0.done() }
        case .failed(let errno): fail(request, errno)
        case .wouldWait: unsafe submit(worker.slots.take(self, iop, request, message))
        }
    }

    /// Answers with the device's error.
    func fail(_ request: Request, _ errno: Int32) {
        counters.countError()
        reply(to: request) { $0.error(ErrorCode(errno: errno), "the device failed") }
    }

    func submit(_ slot: UnsafeMutablePointer<Slot>) {
        requestsInFlight += 1
        bytesInFlight += unsafe slot.pointee.dataCapacity
        unsafe slot.pointee.begin = unsafe worker.clock
        unsafe worker.submit(slot)
    }

    /// A slot with memory for `count` bytes of data.
    func slot(_ request: Request, _ iop: IOP, _ message: Message, count: Int) -> UnsafeMutablePointer<Slot> {
        let slot = unsafe worker.slots.take(self, iop, request, message)
        let data = unsafe worker.buffers.take(count)
        unsafe slot.pointee.data = unsafe data
        unsafe slot.pointee.dataCapacity = count
        unsafe slot.pointee.message.data = unsafe data
        return unsafe slot
    }

    // MARK: - Writing

    /// Takes payload. Returns how much of the bytes that was.
    private func takePayload(_ bytes: UnsafeRawBufferPointer, _ iop: IOP) -> Int {
        guard var current = incoming else { return 0 }
        incoming = nil
        // What was read straight into the slot's memory has been counted there.
        if let slot = unsafe current.slot { unsafe current.left = slot.pointee.dataCapacity - current.filled }
        let count = min(current.left, bytes.count)
        if count > 0 {
            current.left -= count
            let piece = unsafe UnsafeRawBufferPointer(rebasing: bytes[..<count])
            if unsafe current.slot != nil {
                unsafe current.room!.copyMemory(from: piece)
                current.filled += count
            } else if current.failure == nil {
                unsafe write(piece, &current, iop)
            }
        }
        if current.left > 0 { incoming = current } else { finish(current) }
        return count
    }

    /// Writes a piece as it comes, or begins to collect the rest where the device would wait.
    private func write(_ piece: UnsafeRawBufferPointer, _ current: inout Incoming, _ iop: IOP) {
        let request = current.request
        let options: Message.Options = request.flags.contains(.forceUnitAccess) ? .durable : []
        let start = unsafe UnsafeMutableRawPointer(mutating: piece.baseAddress!)
        var message = unsafe Message(
            .write, options, offset: current.offset, length: UInt64(piece.count), data: start)
        switch iop.attempt(&message) {
        case .done: current.offset += UInt64(piece.count)
        case .failed(let errno):
            counters.countError()
            current.failure = (ErrorCode(errno: errno), "the device failed to write")
        case .wouldWait:
            let rest = Int(message.length)
            let total = rest + current.left
            message.length = UInt64(total)
            let slot = unsafe slot(request, iop, message, count: total)
            let done = piece.count - rest
            unsafe slot.pointee.data!.copyMemory(from: start + done, byteCount: rest)
            unsafe current.slot = unsafe slot
            current.filled = rest
        }
    }

    /// All of the payload is here.
    private func finish(_ current: Incoming) {
        if let slot = unsafe current.slot { return unsafe submit(slot) }
        noteLatency(current.request)
        reply(to: current.request) { reply in
            if let failure = current.failure {
                reply.error(failure.code, failure.text)
            } else {
                reply.done()
            }
        }
    }

    // MARK: - Reading

    private func read(_ request: Request, _ iop: IOP) {
        let count = Int(request.length)
        guard count > 0 else { return reply(to: request) { $0.done() } }
        let isMemory = iop.features.contains(.memory)
        if isMemory && takesLoans && count <= Connection.lendable,
            let content = unsafe iop.lend(request.offset, request.length)
        {
            return unsafe lend(content, count, to: request)
        }
        if style != .simple, request.length >= Connection.sparse, !request.flags.contains(.dontFragment),
            askStatus(request.offset, request.length, iop) == .done
        {
            if isMemory && hasHoles(request) { return begin(ReadStream(request), iop) }
            if !isMemory && readSparsely(request, iop) { return }
        }
        if count > Connection.piece {
            if isMemory { return begin(ReadStream(request), iop) }
            return unsafe submit(
                slot(request, iop, Message(.read, offset: request.offset, length: request.length), count: count))
        }
        unsafe worker.reserve(Reply.largestHeader + count, for: self)
        var reply = unsafe Reply(to: request, style, into: worker.stagingRoom)
        reply.content(at: request.offset, count: count, isLast: true)
        let start = unsafe worker.stagingRoom.baseAddress! + reply.count
        var message = unsafe Message(.read, offset: request.offset, length: request.length, data: start)
        var answer = iop.attempt(&message)
        if answer == .wouldWait, !hasMoreInput, unsafe worker.staged == 0 {
            answer = unsafe worker.wait(for: iop, &message) ?? answer
        }
        switch answer {
        case .done: unsafe worker.staged += reply.count + count
        case .failed(let errno): fail(request, errno)
        case .wouldWait:
            unsafe submit(
                slot(request, iop, Message(.read, offset: request.offset, length: request.length), count: count))
        }
    }

    /// Answers with content where it lies.
    private func lend(_ content: UnsafeRawPointer, _ count: Int, to request: Request) {
        if unsafe worker.loans.isFull { flush() }
        reply(to: request) { $0.content(at: request.offset, count: count, isLast: true) }
        unsafe worker.loans.append(
            UnsafeRawBufferPointer(start: content, count: count), behind: worker.staged)
    }

    /// Whether a part of the range reads as zeroes without being stored, by the worker's list of extents.
    private func hasHoles(_ request: Request) -> Bool {
        guard unsafe worker.extents.pointee.count > 0 else { return false }
        let first = unsafe worker.extents.pointee[0]
        return first.kind.contains(.zero) || first.length < request.length
    }

    // MARK: - Block status

    /// Asks the device for its extents, which are in the worker's list then.
    func askStatus(_ offset: UInt64, _ length: UInt64, _ iop: IOP) -> Answer {
        let extents = unsafe worker.extents
        unsafe extents.pointee.removeAll()
        var message = unsafe Message(.status, offset: offset, length: length, extents: extents)
        return iop.attempt(&message)
    }

    private func status(_ request: Request, _ iop: IOP) {
        let answer = askStatus(request.offset, request.length, iop)
        if case .failed(let errno) = answer {
            return reply(to: request) { $0.error(ErrorCode(errno: errno), "the device can't tell") }
        }
        if answer == .wouldWait { return submitStatus(request, iop) }
        let list = unsafe worker.extents
        if unsafe list.pointee.count == 0 { _ = unsafe list.pointee.append(request.length, []) }
        let count = unsafe request.flags.contains(.requestOne) ? 1 : list.pointee.count
        unsafe worker.reserve(Reply.size(ofStatus: count), for: self)
        var reply = unsafe Reply(to: request, style, into: worker.stagingRoom)
        reply.status(extents: count)
        for index in 0..<count {
            let extent = unsafe list.pointee[index]
            reply.extent(length: extent.length, flags: extent.kind.rawValue)
        }
        unsafe worker.staged += reply.count
    }

    // MARK: - Completion

    /// Counts what a request took that has been at the device.
    private func noteLatency(of slot: UnsafeMutablePointer<Slot>) {
        unsafe counters.latencies.add(
            LatencyKind(slot.pointee.request.command), Clock.now &- slot.pointee.begin)
    }

    /// The receive handler: the device has answered a slot of ours.
    func complete(_ slot: UnsafeMutablePointer<Slot>) {
        requestsInFlight -= 1
        bytesInFlight -= unsafe slot.pointee.dataCapacity
        if let whole = unsafe slot.pointee.whole {
            if unsafe whole.pointee.parts == 1 { unsafe noteLatency(of: whole) }
            return unsafe completePart(slot, of: whole)
        }
        unsafe noteLatency(of: slot)
        if unsafe slot.pointee.message.extents != nil { return unsafe completeStatus(slot) }
        let request = unsafe slot.pointee.request
        let isRead = request.command == Command.read.rawValue
        var reply = unsafe Reply(
            to: request, style,
            into: UnsafeMutableRawBufferPointer(start: slot.pointee.head, count: Reply.largestHeader))
        switch unsafe slot.pointee.answer {
        case .done where isRead:
            reply.content(at: request.offset, count: Int(request.length), isLast: true)
            unsafe slot.pointee.dataCount = Int(request.length)
        case .done, .wouldWait: reply.done()
        case .failed(let errno):
            counters.countError()
            reply.error(ErrorCode(errno: errno), "the device failed")
        }
        unsafe slot.pointee.headCount = reply.count
        unsafe finished.append(slot)
    }
}
