/// A request as the client wrote it: nothing in it is checked yet.
public struct Request: Sendable, Equatable {
    public var flags: CommandFlags
    /// Its number; one that is no `Command` is refused.
    public var command: UInt16
    /// The client's own, to be given back.
    public var cookie: UInt64
    public var offset: UInt64
    /// Bytes: of the effect, or of the payload that follows.
    public var length: UInt64

    public init(command: UInt16, flags: CommandFlags = [], cookie: UInt64, offset: UInt64, length: UInt64) {
        self.flags = flags
        self.command = command
        self.cookie = cookie
        self.offset = offset
        self.length = length
    }

    /// Bytes of a request's header.
    @inlinable
    public static func headerSize(_ style: ReplyStyle) -> Int { style == .extended ? 32 : 28 }

    /// Reads a header, all of which must be there. Nil where that is none: the connection can't go on.
    public init?(_ bytes: RawSpan, _ style: ReplyStyle) {
        let magic = bytes.word(at: 0, as: UInt32.self)
        guard magic == (style == .extended ? Magic.extendedRequest : Magic.request) else { return nil }
        flags = CommandFlags(rawValue: bytes.word(at: 4))
        command = bytes.word(at: 6)
        cookie = bytes.word(at: 8)
        offset = bytes.word(at: 16)
        length = style == .extended ? bytes.word(at: 24) : UInt64(bytes.word(at: 24, as: UInt32.self))
    }

    /// Bytes that follow the header and belong to the request, also where it is refused.
    public func payload(_ style: ReplyStyle) -> UInt64 {
        if style == .extended { return flags.contains(.payloadLength) ? length : 0 }
        return command == Command.write.rawValue ? length : 0
    }
}

/// What the payload of BLOCK_STATUS asks for (extended headers).
public enum StatusPayload {
    /// The one form that chooses something: the length of the effect, and our one context.
    public static let size: UInt64 = 12

    /// The length of the effect; nil where the payload chooses another context. Takes `size` bytes.
    public static func effect(_ bytes: RawSpan) -> UInt64? {
        bytes.word(at: 8, as: UInt32.self) == Session.allocationContext ? bytes.word(at: 0) : nil
    }
}

/// What is to be done with a request.
public enum Verdict: Sendable {
    case perform(Command)
    /// Answer with this error, after the payload has been read. The text is for people.
    case refuse(ErrorCode, StaticString)
    /// The client is done: answer what is outstanding and close.
    case disconnect
    /// The connection can't go on; the text is for the log.
    case violation(StaticString)
}

/// What the requests of a connection are held to.
public struct RequestRules: Sendable {
    private let flags: TransmissionFlags
    private let style: ReplyStyle
    private let hasAllocationContext: Bool
    private let minimumBlock: UInt64

    public init(_ session: Session) {
        flags = session.export.flags
        style = session.style
        hasAllocationContext = session.hasAllocationContext
        minimumBlock = UInt64(session.export.minimumBlock)
    }

    /// Judges a request to an export that has `size` bytes now.
    public func judge(_ request: Request, size: UInt64) -> Verdict {
        guard request.payload(style) <= UInt64(Limit.payload) else {
            return .violation("a payload of more than 32 MiB")
        }
        guard let command = Command(rawValue: request.command) else { return .refuse(.invalid, "unknown command") }
        if command == .disconnect { return .disconnect }
        guard request.flags.isSubset(of: allowed(command)) else {
            return .refuse(.invalid, "a flag that this command or export doesn't have")
        }
        switch command {
        case .read: return judgeRead(request, size)
        case .write:
            if style == .extended && !request.flags.contains(.payloadLength) {
                return .refuse(.invalid, "WRITE without the flag PAYLOAD_LEN")
            }
            return judgeWrite(command, request, size)
        case .flush:
            guard request.offset == 0 && request.length == 0 else {
                return .refuse(.invalid, "FLUSH has neither offset nor length")
            }
            return flags.contains(.flush) ? .perform(command) : .refuse(.invalid, "this export has no FLUSH")
        case .trim:
            guard flags.contains(.trim) || flags.contains(.readOnly) else {
                return .refuse(.invalid, "this export has no TRIM")
            }
            return judgeWrite(command, request, size, pastEnd: .invalid)
        case .writeZeroes:
            guard flags.contains(.writeZeroes) || flags.contains(.readOnly) else {
                return .refuse(.invalid, "this export has no WRITE_ZEROES")
            }
            return judgeWrite(command, request, size)
        case .cache: return judgeRange(command, request, size)
        case .blockStatus: return judgeStatus(request, size)
        case .resize:
            guard flags.contains(.resize) else { return .refuse(.invalid, "this export has no RESIZE") }
            return request.length == 0 ? .perform(command) : .refuse(.invalid, "RESIZE has no length")
        case .disconnect: return .disconnect
        }
    }

    private func allowed(_ command: Command) -> CommandFlags {
        var allowed: CommandFlags = flags.contains(.forceUnitAccess) ? .forceUnitAccess : []
        switch command {
        case .read: if style != .simple { allowed.insert(.dontFragment) }
        case .write: if style == .extended { allowed.insert(.payloadLength) }
        case .writeZeroes:
            allowed.insert(.noHole)
            if flags.contains(.fastZero) { allowed.insert(.fastZero) }
        case .blockStatus:
            allowed.insert(.requestOne)
            if flags.contains(.blockStatusPayload) { allowed.insert(.payloadLength) }
        case .disconnect, .flush, .trim, .cache, .resize: break
        }
        return allowed
    }

    private func judgeRead(_ request: Request, _ size: UInt64) -> Verdict {
        guard request.length <= UInt64(Limit.payload) else {
            return request.flags.contains(.dontFragment)
                ? .refuse(.overflow, "more than 32 MiB in one chunk") : .refuse(.invalid, "a read of more than 32 MiB")
        }
        return judgeRange(.read, request, size)
    }

    private func judgeWrite(
        _ command: Command, _ request: Request, _ size: UInt64, pastEnd: ErrorCode = .noSpace
    ) -> Verdict {
        if flags.contains(.readOnly) { return .refuse(.notPermitted, "this export is read-only") }
        return judgeRange(command, request, size, pastEnd: pastEnd)
    }

    private func judgeStatus(_ request: Request, _ size: UInt64) -> Verdict {
        guard hasAllocationContext else { return .refuse(.invalid, "no context was negotiated for this export") }
        guard !request.flags.contains(.payloadLength) else { return .perform(.blockStatus) }
        guard request.length > 0 else { return .refuse(.invalid, "BLOCK_STATUS needs a length") }
        return judgeRange(.blockStatus, request, size)
    }

    /// Whether the range lies inside the export, on whole blocks. No sum can overflow.
    public func judgeRange(
        _ command: Command, _ request: Request, _ size: UInt64, pastEnd: ErrorCode = .invalid
    ) -> Verdict {
        guard request.length <= size, request.offset <= size - request.length else {
            return .refuse(pastEnd, "the range goes beyond the end of the export")
        }
        guard (request.offset | request.length) & (minimumBlock - 1) == 0 else {
            return .refuse(.invalid, "the range doesn't consist of whole blocks")
        }
        return .perform(command)
    }
}
