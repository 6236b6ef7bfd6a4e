/// What a client is told of an export before it uses it.
public struct ExportDescription: Sendable, Equatable {
    public var name: String
    /// For people; may be empty.
    public var description: String
    /// Bytes.
    public var size: UInt64
    /// What the device can do. What depends on the connection (`dontFragment`, `blockStatusPayload`) is added.
    public var flags: TransmissionFlags
    /// The smallest unit of requests: a power of two up to 64 KiB. 1 is any.
    public var minimumBlock: UInt32
    /// The unit that works best: a power of two, 512 at least.
    public var preferredBlock: UInt32

    public init(
        name: String, description: String = "", size: UInt64, flags: TransmissionFlags, minimumBlock: UInt32 = 1,
        preferredBlock: UInt32 = 4096
    ) {
        self.name = name
        self.description = description
        self.size = size
        self.flags = flags
        self.minimumBlock = minimumBlock
        self.preferredBlock = preferredBlock
    }
}

/// The exports as one client may see them: its address, user and certificate decide.
public protocol ExportCatalogue {
    /// Names and descriptions of those to show; nil where this client may not ask.
    func list() -> [(name: String, description: String)]?
    /// The export of a name; the empty name is the default one's.
    func find(_ name: String) -> ExportFinding
}

/// What a look-up gave.
public enum ExportFinding: Sendable {
    case export(ExportDescription)
    case unknown
    /// It is there, for clients with TLS alone.
    case requiresTLS
    /// It is there, and not for this client.
    case denied
}

/// Whether a listener speaks TLS.
public enum TLSPolicy: Sendable {
    case off, offered, required
}

/// What the client has negotiated when transmission begins.
public struct Session: Sendable, Equatable {
    public let export: ExportDescription
    public let style: ReplyStyle
    /// Whether `base:allocation` was chosen, for this very export.
    public let hasAllocationContext: Bool

    public init(export: ExportDescription, style: ReplyStyle, hasAllocationContext: Bool) {
        self.export = export
        self.style = style
        self.hasAllocationContext = hasAllocationContext
    }

    /// The number of `base:allocation` in replies.
    public static let allocationContext: UInt32 = 1
    public static let allocationName = "base:allocation"
}
