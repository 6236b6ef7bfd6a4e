/// Why a transfer can't go on.
package enum TransferFault: Error, Equatable {
    /// The peer doesn't speak this protocol at all.
    case stranger
    /// The peer speaks this version of it.
    case version(UInt8)
    /// The peer sent something that has no place there.
    case nonsense
    /// A checksum doesn't fit the bytes before it.
    case checksum
    /// The peer ended the transfer.
    case refused(Refusal)
}

/// What an end says last when it doesn't go on.
package struct Refusal: Equatable, Sendable {
    /// For programs.
    package enum Reason: UInt8, Sendable {
        /// The target exists.
        case exists = 1
        /// The receiver was given no usable name.
        case name
        /// A checksum was wrong.
        case checksum
        /// An end's file or disk failed.
        case failed
        /// What came was no message of this version.
        case nonsense
    }

    /// Why.
    package let reason: Reason
    /// For people: one sentence, 255 bytes at most. What a peer wrote may hold anything.
    package let text: String

    /// A reason of ours; a longer text is cut.
    package init(_ reason: Reason, _ text: String) {
        self.reason = reason
        var text = text
        while text.utf8.count > Limit.text { text.removeLast() }
        self.text = text
    }

    /// The whole message.
    package var message: [UInt8] { SkeinTransfer.message(.refusal, [reason.rawValue] + Array(text.utf8)) }
}

extension Refusal {
    /// A peer's. A reason that this version doesn't know is a failure like any other.
    init(body: Span<UInt8>) {
        reason = Reason(rawValue: body[0]) ?? .failed
        text = String(decoding: body.bytes(from: 1), as: UTF8.self)
    }
}
