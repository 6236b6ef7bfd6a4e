/// One filament of a conduit, at one end. A number that is used again makes another one.
package struct FilamentNumber: Hashable, Sendable, CustomStringConvertible {
    /// The number on the wire in the low half; in the high half, how many filaments had it before.
    package let rawValue: UInt64

    init(_ wire: UInt32, uses: UInt32) { rawValue = UInt64(uses) << 32 | UInt64(wire) }

    /// The number in frames.
    package var wire: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    var uses: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }

    package var description: String { "\(wire).\(uses)" }
}

/// What happened to a filament. Each has one last event: `refused`, `reset` or `closed`; none where the program
/// itself resets or refuses it.
package enum FilamentEvent: Equatable, Sendable {
    /// The peer wants to open it: accept or refuse.
    case opened(FilamentNumber, kind: UInt32, address: [UInt8])
    /// The peer's program accepted it.
    case accepted(FilamentNumber)
    /// The peer refused it, with an error number of Linux.
    case refused(FilamentNumber, error: UInt32)
    /// There are bytes to read, where there were none.
    case readable(FilamentNumber)
    /// A write that was cut short can go on.
    case writable(FilamentNumber)
    /// The peer marked a byte as urgent.
    case urgent(FilamentNumber)
    /// The peer writes no more; what it wrote is still to be read.
    case ended(FilamentNumber)
    /// The peer's program has read everything, up to the end.
    case delivered(FilamentNumber)
    /// The peer, or the conduit's end, ended it: what was unread is lost, and what was not acknowledged perhaps too.
    case reset(FilamentNumber, error: UInt32)
    /// Both directions are over, and all was read.
    case closed(FilamentNumber)
}

/// The state of one number. Whether it waits in a queue of the conduit outlives the filament that put it there.
struct Filament {
    enum Phase {
        case free
        /// Opened here; the peer has not answered.
        case opening
        /// Opened by the peer; the program here has not answered.
        case offered
        case open
        /// Reset or refused here: the peer's frames are dropped up to its reset.
        case resetting
        /// Reset by the peer: gone once its answer is sent.
        case answering
    }

    /// Frames without data that are due.
    struct Due: OptionSet {
        let rawValue: UInt8
        static let open = Due(rawValue: 1)
        static let accepted = Due(rawValue: 2)
        static let urgent = Due(rawValue: 4)
        static let credit = Due(rawValue: 8)
        static let refused = Due(rawValue: 16)
        static let reset = Due(rawValue: 32)
        /// Before them nothing else of the filament goes out.
        static let first: Due = [.open, .accepted]
    }

    enum End {
        case none
        /// It follows the data that is queued.
        case wanted
        case sent
    }

    static let largestWindow = 4 * 1024 * 1024

    var uses: UInt32 = 0
    var isPrompt = false
    var isBulk = false
    var isStarved = false
    var isOwing = false

    var phase = Phase.free
    var due: Due = []
    /// The program is done with it: nothing may be read any more.
    var isClosed = false
    /// The program has reset it when nothing was left to be reset: it is told nothing more.
    var isAbandoned = false
    var error: UInt32 = 0
    /// Of an open frame that is due.
    var kind: UInt32 = 0
    var address: [UInt8] = []

    // The direction to the peer. All counts are bytes from the beginning.
    var outgoing = ByteQueue()
    var end = End.none
    var sent: UInt64 = 0
    /// What the peer's program has read.
    var acknowledged: UInt64 = 0
    /// Up to where the peer lets us send.
    var sendLimit = UInt64(Limit.minimum)
    /// The peer's program has read everything, and knows of the end.
    var isDelivered = false
    /// The queue's size at which a writer that waits is told; nil where none waits.
    var wakeAt: Int?
    var urgentMark: UInt64 = 0

    // The direction from the peer.
    var incoming = ByteQueue()
    var received: UInt64 = 0
    /// The credit that was sent last.
    var grantedLimit = UInt64(Limit.minimum)
    var grantedConsumed: UInt64 = 0
    /// How far the limit is to be ahead of what was read.
    var window = Limit.minimum
    /// What was read when the window last grew.
    var grownAt: UInt64 = 0
    var isEnded = false
    /// The last credit is sent.
    var isTaken = false
    var peerMark: UInt64?

    /// Bytes that were sent and are not known to be read.
    var outstanding: Int { Int(sent - acknowledged) }
    /// What the program here has read.
    var consumed: UInt64 { received - UInt64(incoming.count) }
    var isOver: Bool { end == .sent && isDelivered && isTaken }
    /// The peer has said all that it may.
    var isPeerDone: Bool { isEnded && isDelivered }

    /// Back to a number that nobody uses; its places in queues stay known.
    mutating func free() {
        var empty = Filament()
        empty.uses = uses &+ 1
        empty.isPrompt = isPrompt
        empty.isBulk = isBulk
        empty.isStarved = isStarved
        empty.isOwing = isOwing
        self = empty
    }
}
