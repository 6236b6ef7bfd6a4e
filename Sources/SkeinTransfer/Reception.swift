/// The receiver's side of a transfer: a state machine without I/O.
///
/// Its owner reads as many bytes as `wanted` says, gives them to `take`, and does what comes back.
package struct Reception: ~Copyable {
    /// What the owner is to do next.
    package enum Action: Equatable {
        /// Read on.
        case read
        /// Look whether it wants that, then call `accept`, or send a refusal and end.
        case decide(Offer)
        /// Cut what it has to this many bytes: all of it, or none.
        case begin(at: UInt64)
        /// The bytes that it has just passed are content, all but those at the end that `take` left out: store
        /// the first `count`.
        case store(count: Int)
        /// The content is complete, and all of it is right: make it last, then send `stored` and end.
        case finish(size: UInt64, Checksum)
    }

    private enum State {
        /// Nothing has come.
        case fresh
        /// The owner decides.
        case offered
        /// The offer is accepted.
        case accepted(count: UInt64)
        /// Content comes.
        case receiving
        /// All is here.
        case complete
    }

    private var state = State.fresh
    private var awaited: Header?
    private var checksum = RunningChecksum()
    /// What the offer says.
    private var size: UInt64?
    private var position: UInt64 = 0

    /// A transfer whose sender has only just connected.
    package init() {}

    /// How many bytes of the sender's `take` needs next; never more than `Limit.message`.
    package var wanted: Int { awaited?.length ?? Header.size }

    /// Takes exactly `wanted` bytes. Throws what ends the transfer.
    package mutating func take(_ bytes: Span<UInt8>) throws(TransferFault) -> Action {
        precondition(bytes.count == wanted, "what was wanted is what must come")
        guard let header = awaited else {
            awaited = try Header(bytes, expecting: expected)
            return .read
        }
        awaited = nil
        switch header.kind {
        case .offer:
            let offer = try Offer(body: bytes)
            size = offer.size
            state = .offered
            return .decide(offer)
        case .begin: return try begin(at: bytes.word(at: 0))
        case .chunk: return try store(bytes)
        case .end:
            guard bytes.word(at: 0) == position, size == nil || size == position else { throw .nonsense }
            guard Checksum(bytes, at: 8) == checksum.value else { throw .checksum }
            state = .complete
            return .finish(size: position, checksum.value)
        case .refusal: throw .refused(Refusal(body: bytes))
        case .answer, .stored: preconditionFailure("no header of a receiver's message is taken")
        }
    }

    private var expected: [Kind] {
        switch state {
        case .fresh: [.offer]
        case .offered: preconditionFailure("the owner hasn't decided")
        case .accepted: [.begin, .refusal]
        case .receiving: [.chunk, .end, .refusal]
        case .complete: []
        }
    }

    private mutating func begin(at offset: UInt64) throws(TransferFault) -> Action {
        guard case .accepted(let count) = state, offset == count || offset == 0 else { throw .nonsense }
        if offset == 0 { checksum = RunningChecksum() }
        position = offset
        state = .receiving
        return .begin(at: offset)
    }

    private mutating func store(_ chunk: Span<UInt8>) throws(TransferFault) -> Action {
        let count = chunk.count - Checksum.size
        let (end, overflow) = position.addingReportingOverflow(UInt64(count))
        guard !overflow, end <= size ?? UInt64(Int64.max) else { throw .nonsense }
        checksum.add(chunk.extracting(first: count))
        guard Checksum(chunk, at: count) == checksum.value else { throw .checksum }
        position = end
        return .store(count: count)
    }

    /// Accepts the offer; `count` bytes are here already, and `checksum` is theirs. The message that says so.
    package mutating func accept(having count: UInt64, _ checksum: consuming RunningChecksum) -> [UInt8] {
        guard case .offered = state else { preconditionFailure("there is no offer to accept") }
        state = .accepted(count: count)
        var body: [UInt8] = []
        body.append(count)
        checksum.value.append(to: &body)
        self.checksum = checksum
        return message(.answer, body)
    }

    /// The last message, once the content is where it belongs.
    package var stored: [UInt8] { message(.stored, []) }
}
