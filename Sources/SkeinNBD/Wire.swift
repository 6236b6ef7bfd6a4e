// The numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md). All integers are big-endian.

/// What messages begin with.
public enum Magic {
    public static let handshake: UInt64 = 0x4E42_444D_4147_4943  // NBDMAGIC
    public static let option: UInt64 = 0x4948_4156_454F_5054  // IHAVEOPT
    public static let optionReply: UInt64 = 0x0003_E889_0455_65A9
    public static let request: UInt32 = 0x2560_9513
    public static let simpleReply: UInt32 = 0x6744_6698
    public static let structuredReply: UInt32 = 0x668E_33EF
    public static let extendedRequest: UInt32 = 0x21E4_1C71
    public static let extendedReply: UInt32 = 0x6E8A_278C
}

/// The bounds of what a client may ask for.
public enum Limit {
    /// Bytes of a name or a query, by the protocol.
    public static let string = 4096
    /// Bytes of data in one request or reply.
    public static let payload: UInt32 = 32 << 20
    /// Bytes of an option's data that are read; those of a longer one are skipped.
    public static let option = 64 << 10
    /// Bytes that a client may send before it enters transmission, and options.
    public static let negotiation = 1 << 20
    public static let options = 1024
    /// Extents in one reply of block status.
    public static let extents = 4096
}

/// What a client may ask for before transmission.
public enum OptionKind: UInt32, Sendable {
    case exportName = 1
    case abort, list, peekExport, startTLS, info, go, structuredReply, listMetaContext, setMetaContext, extendedHeaders
}

/// What an option is answered with. Those from 2^31 are errors.
public enum OptionReply: UInt32, Sendable {
    case acknowledged = 1
    case server, info, metaContext
    case unsupported = 0x8000_0001
    case policy, invalid, platform, tlsRequired, unknown, shutdown, blockSizeRequired, tooBig, extendedHeadersRequired
}

/// What the server tells of an export before transmission.
public enum InfoKind: UInt16, Sendable {
    case export, name, description, blockSize
}

/// What an export can do, as clients are told.
public struct TransmissionFlags: OptionSet, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let hasFlags = Self(rawValue: 1 << 0)
    public static let readOnly = Self(rawValue: 1 << 1)
    public static let flush = Self(rawValue: 1 << 2)
    public static let forceUnitAccess = Self(rawValue: 1 << 3)
    public static let rotational = Self(rawValue: 1 << 4)
    public static let trim = Self(rawValue: 1 << 5)
    public static let writeZeroes = Self(rawValue: 1 << 6)
    public static let dontFragment = Self(rawValue: 1 << 7)
    public static let multipleConnections = Self(rawValue: 1 << 8)
    public static let resize = Self(rawValue: 1 << 9)
    public static let cache = Self(rawValue: 1 << 10)
    public static let fastZero = Self(rawValue: 1 << 11)
    public static let blockStatusPayload = Self(rawValue: 1 << 12)
}

/// What a client asks for in transmission.
public enum Command: UInt16, Sendable {
    case read, write, disconnect, flush, trim, cache, writeZeroes, blockStatus, resize
}

/// How it is to be done.
public struct CommandFlags: OptionSet, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Reply only when what was written is on permanent storage.
    public static let forceUnitAccess = Self(rawValue: 1 << 0)
    /// Zeroes are to be allocated.
    public static let noHole = Self(rawValue: 1 << 1)
    /// One chunk of content.
    public static let dontFragment = Self(rawValue: 1 << 2)
    /// One extent.
    public static let requestOne = Self(rawValue: 1 << 3)
    /// Zeroes only if that is faster than writing them.
    public static let fastZero = Self(rawValue: 1 << 4)
    /// The length is that of a payload which follows (extended headers).
    public static let payloadLength = Self(rawValue: 1 << 5)
}

/// The chunks of a structured reply.
public enum ChunkKind: UInt16, Sendable {
    case none = 0
    case data = 1
    case hole = 2
    case blockStatus = 5
    case extendedBlockStatus = 6
    case error = 0x8001
    case errorOffset = 0x8002
}

/// How requests are written and answered: what the client negotiated.
public enum ReplyStyle: UInt8, Sendable {
    case simple, structured, extended
}

/// The errors that a reply can have.
public enum ErrorCode: UInt32, Sendable, Error {
    case notPermitted = 1
    case inputOutput = 5
    case noMemory = 12
    case invalid = 22
    case noSpace = 28
    case overflow = 75
    case notSupported = 95
    case shutdown = 108

    /// The one that comes nearest to an errno of Linux. 0 has none.
    public init(errno: Int32) {
        switch errno {
        case 1, 13, 30: self = .notPermitted  // EPERM, EACCES, EROFS
        case 12: self = .noMemory
        case 22: self = .invalid
        case 27, 28, 122: self = .noSpace  // EFBIG, ENOSPC, EDQUOT
        case 75: self = .overflow
        case 95: self = .notSupported
        case 108: self = .shutdown
        default: self = .inputOutput
        }
    }
}
