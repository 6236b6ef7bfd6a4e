/// What a frame says. docs/CONDUIT.md has the bodies.
package enum FrameType: UInt8, Sendable, CaseIterable {
    case open = 1
    case accepted = 2
    case refused = 3
    case data = 4
    case urgent = 5
    case end = 6
    case reset = 7
    case credit = 8
    case conduitCredit = 9
}

/// Numbers of the protocol, the same at both ends.
package enum Limit {
    /// Bytes of data in one frame.
    package static let fragment = 16 * 1024
    /// Bytes of a filament's data that its receiver always keeps: its credit at the beginning, and what doesn't
    /// count against the conduit's credit.
    package static let minimum = 16 * 1024
    /// Bytes of an address in an open frame.
    package static let address = 1020
    /// Filament numbers are lower than this.
    package static let numbers: UInt32 = 65_536
    /// Error numbers are lower than this; zero is none.
    package static let errors: UInt32 = 4096
    /// Any frame but one of data goes into a block with this room.
    package static let leastRoom = 2048
}

/// The header that each frame begins with.
struct FrameHeader: Equatable {
    static let size = 24
    static let version: UInt8 = 1
    /// Of a credit: the data's end was taken too, and no other credit follows.
    static let lastFlag: UInt16 = 1

    private enum Offset {
        static let version = 0
        static let type = 1
        static let flags = 2
        static let filament = 4
        static let length = 8
        static let zero = 12
        static let sequence = 16
    }

    var type: FrameType
    var flags: UInt16 = 0
    var filament: UInt32
    /// Bytes of the body.
    var length: Int
    /// Counts the frames of this direction of the conduit, from 0.
    var sequence: UInt64

    init(_ type: FrameType, flags: UInt16 = 0, filament: UInt32, length: Int, sequence: UInt64) {
        self.type = type
        self.flags = flags
        self.filament = filament
        self.length = length
        self.sequence = sequence
    }

    /// Reads the header at `offset`; the whole frame must be there.
    init(_ bytes: RawSpan, at offset: Int) throws(ConduitFault) {
        guard bytes.byteCount - offset >= FrameHeader.size else { throw .truncated }
        let version: UInt8 = bytes.word(at: offset + Offset.version)
        guard version == FrameHeader.version else { throw .version(version) }
        let type: UInt8 = bytes.word(at: offset + Offset.type)
        guard let known = FrameType(rawValue: type) else { throw .type(type) }
        self.type = known
        flags = bytes.word(at: offset + Offset.flags)
        filament = bytes.word(at: offset + Offset.filament)
        let length: UInt32 = bytes.word(at: offset + Offset.length)
        self.length = Int(length)
        sequence = bytes.word(at: offset + Offset.sequence)
        let isAllowed = known == .credit ? flags & ~FrameHeader.lastFlag == 0 : flags == 0
        guard isAllowed, bytes.word(at: offset + Offset.zero, as: UInt32.self) == 0,
            FrameHeader.lengths(of: known).contains(self.length)
        else { throw .malformed(known) }
        guard self.length <= bytes.byteCount - offset - FrameHeader.size else { throw .truncated }
    }

    /// Writes the header at `offset`, where there must be room.
    func write(to room: inout MutableRawSpan, at offset: Int) {
        room.put(FrameHeader.version, at: offset + Offset.version)
        room.put(type.rawValue, at: offset + Offset.type)
        room.put(flags, at: offset + Offset.flags)
        room.put(filament, at: offset + Offset.filament)
        room.put(UInt32(length), at: offset + Offset.length)
        room.put(UInt32(0), at: offset + Offset.zero)
        room.put(sequence, at: offset + Offset.sequence)
    }

    /// Bytes that the body of a frame may have.
    static func lengths(of type: FrameType) -> ClosedRange<Int> {
        switch type {
        case .open: 4...4 + Limit.address
        case .accepted, .end: 0...0
        case .refused, .reset: 4...4
        case .data: 1...Limit.fragment
        case .urgent, .conduitCredit: 8...8
        case .credit: 16...16
        }
    }
}
