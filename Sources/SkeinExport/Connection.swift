import Glibc
import SkeinDevice
import SkeinNBD
import SkeinTLS

/// One client. It belongs to one worker for life, whose thread alone touches it.
///
/// A request goes from the worker's input buffer straight to the device by the function pointers in `iop`, and its
/// reply into the worker's staging buffer. Only what the device can't answer at once, and what the client doesn't
/// take at once, gets memory of its own.
@safe
final class Connection {
    /// Turns of reading before others are served.
    private static let rounds = 8

    /// What the worker is to do with it after a turn.
    enum Standing {
        /// Wait for an event.
        case idle
        /// Give it another turn.
        case again
        /// Forget it.
        case ended
    }

    enum Phase: Equatable {
        case negotiating, transmitting
        /// TLS is being agreed upon, in the middle of the negotiation.
        case securing
        /// Nothing more is read; what is outstanding is answered.
        case finishing
        /// Everything is answered; the client is to close, or has until the deadline.
        case lingering
    }

    let descriptor: Int32
    /// Whose it is.
    private(set) var peer: Peer
    unowned(unsafe) let worker: Worker
    /// The worker's own: where it stands in its lists.
    var place = 0
    var isReady = false
    var isOutputWatched = false
    /// When its patience with the client ends, in nanoseconds of the monotonic clock; nil: never.
    var deadline: UInt64?

    var phase = Phase.negotiating
    var negotiation: Negotiation?
    private let offer: TLSOffer
    /// What everything goes through once it stands.
    private(set) var tls: TLSSession?
    private(set) var iop: IOP?
    private(set) var rules: RequestRules?
    private(set) var export: Export?
    /// What it has negotiated.
    private(set) var session: Session?
    private(set) var counters: Counters
    /// Whether bytes go straight to the system: no STP socket reads them, which would do so in this process.
    private let isSystemSocket: Bool
    private(set) var style = ReplyStyle.simple
    /// The server stops: requests are refused.
    var isStopping = false
    /// The connection is useless; why.
    private(set) var fault: String?

    /// Bytes that were read and not processed.
    private(set) var held: (memory: UnsafeMutableRawPointer, count: Int)?
    /// Whether they begin with a whole request, which had to wait.
    var holdsWhole = false
    /// Whether something follows the request that is looked at.
    var hasMoreInput = false
    /// The request whose payload is coming.
    var incoming: Incoming?

    /// Bytes that the client must get before anything else.
    var outgoing = SlotList()
    /// Replies of which nothing was sent yet.
    var finished = SlotList()
    /// A reply that is made while it is sent.
    var stream: ReadStream?
    /// Requests at the device, and bytes of their data.
    var requestsInFlight = 0
    var bytesInFlight = 0

    /// A client that has only just connected, or by its state one that another process has served so far.
    init(
        _ descriptor: Int32, _ peer: Peer, _ worker: Worker, deadline: UInt64, resuming state: ConnectionState? = nil
    ) {
        self.descriptor = descriptor
        self.peer = peer
        counters = Counters(peer)
        unsafe self.worker = worker
        self.deadline = deadline
        offer = worker.admission.tls
        isSystemSocket = STPTransport.isForeign(descriptor)
        if let state {
            resume(state)
            return
        }
        let negotiation = Negotiation(tls: offer.policy)
        send(negotiation.output)
        self.negotiation = consume negotiation
        self.negotiation?.output = []
    }

    /// Whether content may go out from where a device has it: nobody but the system looks at it.
    var takesLoans: Bool { isSystemSocket && tls == nil }

    /// Ends the connection at the end of the turn.
    func fail(_ reason: String) { if fault == nil { fault = reason } }

    // MARK: - A turn

    /// Whether it waits until the client takes more, or may do so.
    var hasUnsent: Bool { !outgoing.isEmpty || stream != nil || phase == .securing }

    /// Does what can be done without waiting.
    func turn() -> Standing {
        for _ in 0..<Connection.rounds {
            guard drain() else { return standing }
            if phase == .securing && !secure() { return standing }
            if phase == .finishing && requestsInFlight == 0 { linger() }
            if phase == .finishing || isBusy { return standing }
            guard let input = unsafe receive() else {
                if isStopping && phase == .transmitting && isAtRest { linger() }
                return standing
            }
            unsafe worker.clock = Clock.now
            let consumed = unsafe process(input)
            unsafe hold(UnsafeRawBufferPointer(rebasing: input[consumed...]))
            flush()
            if fault != nil { return .ended }
        }
        return drain() ? .again : standing
    }

    /// Whether nothing of a request is outstanding.
    private var isAtRest: Bool { incoming == nil && requestsInFlight == 0 && fault == nil }

    private var standing: Standing { fault == nil ? .idle : .ended }

    /// Whether the limits leave no room. Once met, half of it must be free again, so that requests are taken in bunches.
    private var isBusy: Bool {
        let limits = unsafe worker.limits
        guard holdsWhole else { return requestsInFlight >= limits.requests || bytesInFlight >= limits.bytes }
        return requestsInFlight > limits.requests / 2 || bytesInFlight > limits.bytes / 2
    }

    /// Everything is answered: says so, and waits for the client to close.
    private func linger() {
        phase = .lingering
        deadline = unsafe worker.now + 1_000_000_000
        unsafe worker.hasDeadlines = true
        tls?.end()
        _ = shutdown(descriptor, Int32(SHUT_WR))
    }

    /// The server stops.
    func stop() {
        isStopping = true
        if phase == .negotiating || phase == .securing { fail("the server stops") }
    }

    // MARK: - Input

    /// What is to be processed: held bytes, and those that have come. Nil where nothing has.
    private func receive() -> UnsafeRawBufferPointer? {
        let input = unsafe worker.input
        var count = 0
        if let (memory, held) = unsafe held {
            unsafe input.baseAddress!.copyMemory(from: memory, byteCount: held)
            unsafe worker.buffers.put(memory, held)
            unsafe self.held = nil
            count = held
            if holdsWhole {
                holdsWhole = false
                return unsafe UnsafeRawBufferPointer(rebasing: input[..<count])
            }
        }
        let room = unsafe UnsafeMutableRawBufferPointer(rebasing: input[count...])
        let got = unsafe read(into: room)
        if got >= 0 {
            return unsafe UnsafeRawBufferPointer(rebasing: input[..<(count + got)])
        }
        unsafe hold(UnsafeRawBufferPointer(rebasing: input[..<count]))
        return nil
    }

    /// Reads what has come: the payload of a request into its own memory, the rest into `room`. Returns how much is
    /// in `room`, -1 where nothing has come or the client is gone.
    private func read(into room: UnsafeMutableRawBufferPointer) -> Int {
        if let tls { return unsafe read(by: tls, into: room) }
        var vectors = unsafe (iovec(), iovec())
        var message = unsafe msghdr()
        let own = unsafe incoming?.room ?? UnsafeMutableRawBufferPointer(start: nil, count: 0)
        unsafe vectors.0 = unsafe iovec(iov_base: own.baseAddress, iov_len: own.count)
        unsafe vectors.1 = unsafe iovec(iov_base: room.baseAddress, iov_len: room.count)
        let got = unsafe withUnsafeMutableBytes(of: &vectors) { bytes in
            let first = unsafe bytes.baseAddress!.assumingMemoryBound(to: iovec.self)
            unsafe message.msg_iov = unsafe own.count > 0 ? first : first + 1
            unsafe message.msg_iovlen = own.count > 0 ? 2 : 1
            var got: Int
            repeat { got = unsafe recvmsg(descriptor, &message, Int32(MSG_DONTWAIT)) } while got < 0 && errno == EINTR
            return got
        }
        if got > 0 {
            let direct = min(got, own.count)
            incoming?.filled += direct
            return got - direct
        }
        if got < 0 {
            if errno != EAGAIN { fail(unsafe String(cString: strerror(errno))) }
        } else {
            end()
        }
        return -1
    }

    /// The same by TLS, which decrypts into one place at a time.
    private func read(by tls: TLSSession, into room: UnsafeMutableRawBufferPointer) -> Int {
        let own = unsafe incoming?.room ?? UnsafeMutableRawBufferPointer(start: nil, count: 0)
        let got = unsafe tls.read(into: own.count > 0 ? own : room)
        if got < 0 {
            if errno != EAGAIN { fail("TLS: \(tls.fault)") }
        } else if got == 0 {
            end()
        } else if own.count > 0 {
            incoming?.filled += got
            return 0
        }
        return got > 0 ? got : -1
    }

    /// The client has closed.
    private func end() {
        if phase == .lingering || (phase == .transmitting && incoming == nil) {
            fail("the client closed")
        } else {
            fail("the client was gone in the middle")
        }
    }

    /// Keeps bytes for a later turn.
    func hold(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0, phase == .negotiating || phase == .transmitting else { return }
        let memory = unsafe worker.buffers.take(bytes.count)
        unsafe memory.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        unsafe held = unsafe (memory, bytes.count)
    }

    /// Returns how many of the bytes are done with.
    private func process(_ bytes: UnsafeRawBufferPointer) -> Int {
        switch phase {
        case .negotiating:
            let count = unsafe negotiate(bytes)
            guard phase == .transmitting else { return count }
            return unsafe count + takeRequests(UnsafeRawBufferPointer(rebasing: bytes[count...]))
        case .transmitting: return unsafe takeRequests(bytes)
        case .securing, .finishing, .lingering: return bytes.count
        }
    }

    // MARK: - Negotiation

    private func negotiate(_ bytes: UnsafeRawBufferPointer) -> Int {
        let catalogue = unsafe ClientCatalogue(catalogue: worker.catalogue, rules: worker.admission.rules, peer: peer)
        guard let (consumed, step) = unsafe negotiation?.take(RawSpan(_unsafeBytes: bytes), catalogue) else { return 0 }
        send(negotiation?.output ?? [])
        negotiation?.output = []
        switch step {
        case .read: break
        case .close(let reason):
            _ = drain()
            fail(reason)
        case .secure:
            // Said in the clear, by whomever: none of it may count as said under TLS.
            guard consumed == bytes.count else { return consumed + refuseClearText() }
            phase = .securing
        case .transmit(let session): begin(session)
        }
        return consumed
    }

    private func refuseClearText() -> Int {
        fail("the client, or somebody in between, went on in the clear after STARTTLS")
        return 0
    }

    /// Goes on with the handshake of TLS. False where it isn't over.
    private func secure() -> Bool {
        if tls == nil { tls = offer.server?.session(descriptor) }
        switch tls?.handshake() {
        case .done:
            if let tls { peer.secured(tls) }
            negotiation?.secured()
            phase = .negotiating
            return true
        case .waits: return false
        case .failed(let reason): fail("no TLS: \(reason)")
        case nil: fail("there is no memory for TLS")
        }
        return false
    }

    private func begin(_ session: Session) {
        guard let export = unsafe worker.catalogue.export(session.export.name) else {
            return fail("the export was removed meanwhile")
        }
        begin(session, export)
    }

    /// Enters transmission.
    func begin(_ session: Session, _ export: Export) {
        self.export = export
        self.session = session
        // Known by now, with what TLS vouches for.
        counters = Counters(peer)
        export.accounts.open(counters)
        iop = export.iop
        rules = RequestRules(session)
        style = session.style
        negotiation = nil
        deadline = nil
        phase = .transmitting
    }

    // MARK: - End

    /// Gives back what it has. Slots at the device come back later.
    func release() {
        export?.accounts.close(counters)
        _ = close(descriptor)
        if let (memory, count) = unsafe held { unsafe worker.buffers.put(memory, count) }
        unsafe held = nil
        if let slot = unsafe incoming?.slot { unsafe give(slot) }
        incoming = nil
        stream = nil
        outgoing.take(&finished)
        while let slot = unsafe outgoing.removeFirst() { unsafe give(slot) }
    }

    /// Answers came after the end.
    func releaseAnswers() {
        while let slot = unsafe finished.removeFirst() { unsafe give(slot) }
    }

    /// Gives a slot and its memory back to the worker.
    func give(_ slot: UnsafeMutablePointer<Slot>) {
        if let data = unsafe slot.pointee.data, unsafe slot.pointee.dataCapacity > 0 {
            unsafe worker.buffers.put(data, slot.pointee.dataCapacity)
        }
        unsafe slot.pointee.data = nil
        if let extents = unsafe slot.pointee.message.extents { unsafe Connection.free(extents) }
        unsafe slot.pointee.message.extents = nil
        unsafe worker.slots.put(slot)
    }
}
