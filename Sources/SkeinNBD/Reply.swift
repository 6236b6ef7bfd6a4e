/// Writes replies to one request into memory of the caller's, in the style that was negotiated.
///
/// There must be room: `Reply.largestHeader` bytes for what precedes content, `Reply.size(ofStatus:)` for a
/// status. Nothing is allocated.
@safe
public struct Reply: ~Copyable {
    /// Bytes that any header can have, and an error with its text too.
    public static let largestHeader = 256
    /// Bytes of an error's text.
    private static let largestText = 160

    private let style: ReplyStyle
    private let cookie: UInt64
    private let offset: UInt64
    private var encoder: Encoder

    /// Bytes written so far.
    public var count: Int { encoder.count }

    public init(to request: Request, _ style: ReplyStyle, into memory: UnsafeMutableRawBufferPointer) {
        self.style = style
        cookie = request.cookie
        offset = request.offset
        unsafe encoder = Encoder(memory)
    }

    /// The request is done, and there is no content.
    public mutating func done() {
        if style == .simple { simple(0) } else { chunk(.none, length: 0, isLast: true) }
    }

    /// `count` bytes of content from `offset` follow. In the simple style it is all of the content.
    public mutating func content(at offset: UInt64, count: Int, isLast: Bool) {
        if style == .simple { return simple(0) }
        chunk(.data, length: 8 + UInt64(count), isLast: isLast)
        encoder.put(offset)
    }

    /// `count` bytes from `offset` are zeroes. Not for the simple style.
    public mutating func hole(at offset: UInt64, count: UInt32, isLast: Bool) {
        precondition(style != .simple, "a simple reply has no holes")
        chunk(.hole, length: 12, isLast: isLast)
        encoder.put(offset)
        encoder.put(count)
    }

    /// The request failed. In the simple style nothing may have been sent of it.
    public mutating func error(_ code: ErrorCode, _ text: StaticString = "") {
        if style == .simple { return simple(code.rawValue) }
        let size = min(text.utf8CodeUnitCount, Reply.largestText)
        chunk(.error, length: 6 + UInt64(size), isLast: true)
        encoder.put(code.rawValue)
        encoder.put(UInt16(size))
        for index in 0..<size { encoder.put(unsafe text.utf8Start[index]) }
    }

    /// `extents` of these follow by `extent`.
    public mutating func status(extents: Int) {
        if style == .extended {
            chunk(.extendedBlockStatus, length: 8 + 16 * UInt64(extents), isLast: true)
            encoder.put(Session.allocationContext)
            encoder.put(UInt32(extents))
        } else {
            chunk(.blockStatus, length: 4 + 8 * UInt64(extents), isLast: true)
            encoder.put(Session.allocationContext)
        }
    }

    /// One extent: its length, which the request bounds, and bit 0 for a hole, bit 1 for zeroes.
    public mutating func extent(length: UInt64, flags: UInt32) {
        if style == .extended {
            encoder.put(length)
            encoder.put(UInt64(flags))
        } else {
            encoder.put(UInt32(length))
            encoder.put(flags)
        }
    }

    /// Bytes of a whole status.
    public static func size(ofStatus extents: Int) -> Int { 40 + 16 * extents }

    private mutating func simple(_ error: UInt32) {
        encoder.put(Magic.simpleReply)
        encoder.put(error)
        encoder.put(cookie)
    }

    private mutating func chunk(_ kind: ChunkKind, length: UInt64, isLast: Bool) {
        encoder.put(style == .extended ? Magic.extendedReply : Magic.structuredReply)
        encoder.put(UInt16(isLast ? 1 : 0))
        encoder.put(kind.rawValue)
        encoder.put(cookie)
        if style == .extended {
            encoder.put(offset)
            encoder.put(length)
        } else {
            encoder.put(UInt32(length))
        }
    }
}
