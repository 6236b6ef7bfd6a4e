/// How far a negotiation in the clear has come: what another process must know to go on with it.
public struct NegotiationStanding: Equatable, Sendable {
    public enum Awaited: Equatable, Sendable {
        case flags, option
        /// The rest of an option that is refused.
        case skipped(OptionKind.RawValue, left: UInt64)
        case nothing
    }

    public var awaited: Awaited
    public var withoutZeroes: Bool
    public var style: ReplyStyle
    /// The export of the last SET_META_CONTEXT, and whether our context was chosen.
    public var context: String?
    public var isContextChosen: Bool
    /// Bytes and options so far.
    public var received: Int
    public var options: Int

    public init(
        awaited: Awaited, withoutZeroes: Bool, style: ReplyStyle, context: String?, isContextChosen: Bool,
        received: Int, options: Int
    ) {
        self.awaited = awaited
        self.withoutZeroes = withoutZeroes
        self.style = style
        self.context = context
        self.isContextChosen = isContextChosen
        self.received = received
        self.options = options
    }
}
