/// The sender's side of a transfer: a state machine without I/O.
///
/// Its owner sends `opening`, then reads as many bytes as `wanted` says, gives them to `take`, and does what
/// comes back, until the machine has been told that the receiver has everything.
package struct Transmission: ~Copyable {
    /// What the owner is to do next.
    package enum Action: Equatable {
        /// Read on.
        case read
        /// See whether its own first `count` bytes have this checksum, then call `begin`.
        case compare(count: UInt64, Checksum)
        /// Nothing: the receiver has stored everything.
        case done
    }

    private enum State {
        /// The offer is out.
        case offered
        /// The receiver's answer is here.
        case answered(count: UInt64)
        /// Content is under way.
        case sending
        /// All is sent, and the receiver stores it.
        case ended
    }

    private let offer: Offer
    private var state = State.offered
    private var awaited: Header?
    private var checksum = RunningChecksum()
    /// Bytes of content that the receiver has or is sent.
    private var position: UInt64 = 0

    /// A transfer of what the offer says.
    package init(_ offer: Offer) { self.offer = offer }

    /// The first message.
    package var opening: [UInt8] { offer.message }

    /// How many bytes of the receiver's `take` needs next; never more than 300. While content is under way it is the
    /// receiver's word that it can't go on.
    package var wanted: Int { awaited?.length ?? Header.size }

    /// Takes exactly `wanted` bytes. Throws what ends the transfer.
    package mutating func take(_ bytes: Span<UInt8>) throws(TransferFault) -> Action {
        precondition(bytes.count == wanted, "what was wanted is what must come")
        guard let header = awaited else {
            let header = try Header(bytes, expecting: expected)
            awaited = header
            return header.length == 0 ? try take(Span()) : .read
        }
        awaited = nil
        switch header.kind {
        case .answer:
            let count: UInt64 = bytes.word(at: 0)
            state = .answered(count: count)
            return .compare(count: count, Checksum(bytes, at: 8))
        case .stored: return .done
        case .refusal: throw .refused(Refusal(body: bytes))
        case .offer, .begin, .chunk, .end: preconditionFailure("no header of a sender's message is taken")
        }
    }

    private var expected: [Kind] {
        switch state {
        case .offered: [.answer, .refusal]
        case .answered, .sending: [.refusal]
        case .ended: [.stored, .refusal]
        }
    }

    /// Goes on after what the receiver has, `checksum` being that of these bytes; the message that says so.
    package mutating func resume(_ checksum: consuming RunningChecksum) -> [UInt8] {
        guard case .answered(let count) = state else { preconditionFailure("nothing can be resumed") }
        self.checksum = checksum
        return begin(at: count)
    }

    /// Begins with the first byte, whatever the receiver has; the message that says so.
    package mutating func start() -> [UInt8] { begin(at: 0) }

    private mutating func begin(at offset: UInt64) -> [UInt8] {
        guard case .answered = state else { preconditionFailure("only an answer is followed by content") }
        position = offset
        state = .sending
        var body: [UInt8] = []
        body.append(offset)
        return message(.begin, body)
    }

    /// Where content lies in the buffer that `seal` makes a message of.
    package static let contentOffset = Header.size

    /// Makes a message of a buffer that holds `count` bytes of content from `contentOffset` on, and has room for
    /// `Limit.message` bytes. Returns the length of the message.
    package mutating func seal(_ buffer: inout [UInt8], count: Int) -> Int {
        guard case .sending = state else { preconditionFailure("content goes after the beginning") }
        let content = Header.size..<Header.size + count
        checksum.add(buffer.span.extracting(content))
        position += UInt64(count)
        buffer.replaceSubrange(0..<Header.size, with: Header(.chunk, length: count + Checksum.size).bytes)
        var sum: [UInt8] = []
        checksum.value.append(to: &sum)
        buffer.replaceSubrange(content.upperBound..<content.upperBound + Checksum.size, with: sum)
        return content.upperBound + Checksum.size
    }

    /// The last message. After it the receiver says that it has stored everything.
    package mutating func end() -> [UInt8] {
        guard case .sending = state else { preconditionFailure("what hasn't begun can't end") }
        state = .ended
        var body: [UInt8] = []
        body.append(position)
        checksum.value.append(to: &body)
        return message(.end, body)
    }

    /// The checksum of all content so far.
    package var sum: Checksum { checksum.value }
}
