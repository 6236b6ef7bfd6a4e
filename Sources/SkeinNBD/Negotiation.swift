/// The server's side of an NBD handshake, fixed newstyle: a state machine without I/O.
///
/// Its owner sends `output` whenever there is some, gives what the client sent to `take`, and does what comes
/// back. Whatever a client sends, it keeps `Limit.option` bytes at most, and ends after `Limit.negotiation` bytes.
public struct Negotiation: ~Copyable {
    /// What the owner is to do next, after it has sent the output.
    public enum Step: Equatable, Sendable {
        /// Read on.
        case read
        /// Close the connection; the text is for the log.
        case close(String)
        /// Drop everything that was read after what has been consumed, shake hands by TLS, and call `secured`.
        case secure
        /// What follows are requests.
        case transmit(Session)
    }

    private enum State {
        /// The client's flags are awaited.
        case flags
        /// An option is awaited.
        case option
        /// Data of an option that is refused is being read over.
        case skip(OptionKind.RawValue, left: UInt64)
        case ended
    }

    /// Bytes to send. The owner empties it.
    public var output: [UInt8] = []

    private let tls: TLSPolicy
    private var isSecure = false
    private var state = State.flags
    private var withoutZeroes = false
    private var style = ReplyStyle.simple
    /// What SET_META_CONTEXT chose, and for which export.
    private var context: (name: String, isChosen: Bool)?
    private var received = 0
    private var options = 0

    /// A client that has only just connected. The greeting is the first output.
    public init(tls: TLSPolicy = .off) {
        self.tls = tls
        output.append(Magic.handshake)
        output.append(Magic.option)
        output.append(UInt16(0b11))  // fixed newstyle, no zeroes
    }

    /// Goes on, in the clear, where another process had come to.
    public init(tls: TLSPolicy, _ standing: NegotiationStanding) {
        self.tls = tls
        state =
            switch standing.awaited {
            case .flags: .flags
            case .option: .option
            case .skipped(let kind, let left): .skip(kind, left: left)
            case .nothing: .ended
            }
        withoutZeroes = standing.withoutZeroes
        style = standing.style
        context = standing.context.map { ($0, standing.isContextChosen) }
        received = standing.received
        options = standing.options
    }

    /// How far it has come, for another process. All output must have been taken.
    public var standing: NegotiationStanding {
        let awaited: NegotiationStanding.Awaited =
            switch state {
            case .flags: .flags
            case .option: .option
            case .skip(let kind, let left): .skipped(kind, left: left)
            case .ended: .nothing
            }
        return NegotiationStanding(
            awaited: awaited, withoutZeroes: withoutZeroes, style: style, context: context?.name,
            isContextChosen: context?.isChosen ?? false, received: received, options: options)
    }

    /// TLS stands: nothing that was said before it counts.
    public mutating func secured() {
        isSecure = true
        style = .simple
        context = nil
        state = .option
    }

    /// Takes as much of the client's bytes as makes up its next messages. What isn't consumed is to be given again,
    /// with what comes after it.
    public mutating func take(_ bytes: RawSpan, _ catalogue: some ExportCatalogue) -> (consumed: Int, step: Step) {
        var consumed = 0
        while true {
            let rest = bytes.extracting(droppingFirst: consumed)
            let (count, step) = takeOne(rest, catalogue)
            consumed += count
            received += count
            if received > Limit.negotiation { return (consumed, close("the client negotiates without end")) }
            if step != .read || count == 0 { return (consumed, step) }
        }
    }

    private mutating func close(_ reason: String) -> Step {
        state = .ended
        return .close(reason)
    }

    private mutating func takeOne(_ bytes: RawSpan, _ catalogue: some ExportCatalogue) -> (Int, Step) {
        switch state {
        case .flags:
            guard bytes.byteCount >= 4 else { return (0, .read) }
            let flags = bytes.word(at: 0, as: UInt32.self)
            guard flags & ~0b11 == 0 else { return (4, close("the client has unknown flags")) }
            withoutZeroes = flags & 0b10 != 0
            state = .option
            return (4, .read)
        case .option: return takeOption(bytes, catalogue)
        case .skip(let kind, let left):
            let count = Int(min(left, UInt64(bytes.byteCount)))
            if UInt64(count) == left {
                state = .option
                let isKnown = OptionKind(rawValue: kind) != nil
                reply(kind, isKnown ? .tooBig : .unsupported, "the option has more than \(Limit.option) bytes")
            } else {
                state = .skip(kind, left: left - UInt64(count))
            }
            return (count, .read)
        case .ended: return (bytes.byteCount, .close("the client goes on after the end"))
        }
    }

    private mutating func takeOption(_ bytes: RawSpan, _ catalogue: some ExportCatalogue) -> (Int, Step) {
        guard bytes.byteCount >= 16 else { return (0, .read) }
        guard bytes.word(at: 0, as: UInt64.self) == Magic.option else { return (16, close("that is no NBD client")) }
        let kind = bytes.word(at: 8, as: UInt32.self)
        let length = Int(bytes.word(at: 12, as: UInt32.self))
        if length > Limit.option {
            guard kind != OptionKind.exportName.rawValue, length <= Limit.negotiation else {
                return (16, close("an option of \(length) bytes"))
            }
            state = .skip(kind, left: UInt64(length))
            return (16, .read)
        }
        guard bytes.byteCount - 16 >= length else { return (0, .read) }
        options += 1
        if options > Limit.options { return (16 + length, close("the client negotiates without end")) }
        let body = bytes.extracting(16..<16 + length)
        guard let known = OptionKind(rawValue: kind) else {
            reply(kind, .unsupported, "unknown option")
            return (16 + length, .read)
        }
        return (16 + length, answer(known, body, catalogue))
    }

    // MARK: - Answers

    private mutating func answer(_ kind: OptionKind, _ body: RawSpan, _ catalogue: some ExportCatalogue) -> Step {
        if tls == .required && !isSecure && kind != .startTLS && kind != .abort {
            if kind == .exportName { return close("the client wants an export without TLS") }
            reply(kind, .tlsRequired, "this server serves nothing without TLS: send STARTTLS first")
            return .read
        }
        do throws(OptionFault) {
            switch kind {
            case .exportName: return try enter(body, catalogue)
            case .abort:
                reply(kind, .acknowledged)
                return close("the client ended the negotiation")
            case .list: try list(body, catalogue)
            case .peekExport: reply(kind, .unsupported, "the option is withdrawn")
            case .startTLS: return try startTLS(body)
            case .info, .go: return describe(kind, try InfoBody(body), catalogue)
            case .structuredReply: try chooseStructured(body)
            case .extendedHeaders: try chooseExtended(body)
            case .listMetaContext: listContexts(try contexts(kind, body), catalogue)
            case .setMetaContext: setContexts(try contexts(kind, body), catalogue)
            }
        } catch {
            switch error {
            case .invalid(let text): reply(kind, .invalid, text)
            case .tooBig(let text): reply(kind, .tooBig, text)
            }
        }
        return .read
    }

    private mutating func list(_ body: RawSpan, _ catalogue: some ExportCatalogue) throws(OptionFault) {
        guard body.byteCount == 0 else { throw .invalid("LIST has no data") }
        guard let exports = catalogue.list() else { return reply(.list, .policy, "exports aren't listed for you") }
        for export in exports {
            var data: [UInt8] = []
            data.append(UInt32(export.name.utf8.count))
            data += export.name.utf8
            data += export.description.utf8.prefix(Limit.string)
            reply(.list, .server, data)
        }
        reply(.list, .acknowledged)
    }

    private mutating func startTLS(_ body: RawSpan) throws(OptionFault) -> Step {
        guard body.byteCount == 0 else { throw .invalid("STARTTLS has no data") }
        guard tls != .off else {
            reply(.startTLS, .policy, "this server has no certificate")
            return .read
        }
        guard !isSecure else { throw .invalid("TLS stands already") }
        reply(.startTLS, .acknowledged)
        return .secure
    }

    private mutating func chooseStructured(_ body: RawSpan) throws(OptionFault) {
        guard body.byteCount == 0 else { throw .invalid("STRUCTURED_REPLY has no data") }
        guard style != .extended else {
            return reply(.structuredReply, .extendedHeadersRequired, "extended headers stand already")
        }
        style = .structured
        reply(.structuredReply, .acknowledged)
    }

    private mutating func chooseExtended(_ body: RawSpan) throws(OptionFault) {
        guard body.byteCount == 0 else { throw .invalid("EXTENDED_HEADERS has no data") }
        guard style != .extended else { throw .invalid("extended headers stand already") }
        style = .extended
        reply(.extendedHeaders, .acknowledged)
    }

    // MARK: - Contexts

    private func contexts(_ kind: OptionKind, _ body: RawSpan) throws(OptionFault) -> ContextBody {
        guard style != .simple else { throw .invalid("contexts need structured replies or extended headers first") }
        return try ContextBody(body)
    }

    private mutating func listContexts(_ body: ContextBody, _ catalogue: some ExportCatalogue) {
        guard isAvailable(.listMetaContext, body.name, catalogue) else { return }
        let matches = { (query: String) in query == "base:" || query == Session.allocationName }
        if body.queries.isEmpty || body.queries.contains(where: matches) {
            replyContext(.listMetaContext, number: 0)
        }
        reply(.listMetaContext, .acknowledged)
    }

    /// Replaces what was chosen before, also where it fails.
    private mutating func setContexts(_ body: ContextBody, _ catalogue: some ExportCatalogue) {
        context = nil
        guard isAvailable(.setMetaContext, body.name, catalogue) else { return }
        let isChosen = body.queries.contains(Session.allocationName)
        context = (body.name, isChosen)
        if isChosen { replyContext(.setMetaContext, number: Session.allocationContext) }
        reply(.setMetaContext, .acknowledged)
    }

    private mutating func replyContext(_ kind: OptionKind, number: UInt32) {
        var data: [UInt8] = []
        data.append(number)
        data += Session.allocationName.utf8
        reply(kind, .metaContext, data)
    }

    private mutating func isAvailable(_ kind: OptionKind, _ name: String, _ catalogue: some ExportCatalogue) -> Bool {
        if case .export = look(kind, name, catalogue) { true } else { false }
    }

    // MARK: - Exports

    /// Looks an export up and refuses the option where it can't be had.
    private mutating func look(_ kind: OptionKind, _ name: String, _ catalogue: some ExportCatalogue) -> ExportFinding {
        let finding = catalogue.find(name)
        switch finding {
        case .export: break
        case .unknown: reply(kind, .unknown, "there is no such export")
        case .requiresTLS: reply(kind, .tlsRequired, "this export needs TLS: send STARTTLS first")
        case .denied: reply(kind, .policy, "this export isn't for you")
        }
        return finding
    }

    private mutating func describe(_ kind: OptionKind, _ body: InfoBody, _ catalogue: some ExportCatalogue) -> Step {
        guard case .export(let found) = look(kind, body.name, catalogue) else { return .read }
        let export = described(found)
        var data: [UInt8] = []
        data.append(InfoKind.export.rawValue)
        data.append(export.size)
        data.append(export.flags.rawValue)
        reply(kind, .info, data)
        for wanted in body.wanted where wanted != .export {
            data = []
            data.append(wanted.rawValue)
            switch wanted {
            case .export: break
            case .name: data += export.name.utf8
            case .description: data += export.description.utf8.prefix(Limit.string)
            case .blockSize:
                data.append(export.minimumBlock)
                data.append(export.preferredBlock)
                data.append(Limit.payload)
            }
            reply(kind, .info, data)
        }
        reply(kind, .acknowledged)
        return kind == .go ? begin(export, asked: body.name) : .read
    }

    /// EXPORT_NAME, which has no way to say an error.
    private mutating func enter(_ body: RawSpan, _ catalogue: some ExportCatalogue) throws(OptionFault) -> Step {
        guard style != .extended else { return close("EXPORT_NAME after extended headers") }
        guard let name = try? body.name(at: 0, count: body.byteCount), case .export(let found) = catalogue.find(name)
        else {
            return close("the client asked by EXPORT_NAME for an export that it can't have")
        }
        let export = described(found)
        output.append(export.size)
        output.append(export.flags.rawValue)
        if !withoutZeroes { output += [UInt8](repeating: 0, count: 124) }
        return begin(export, asked: name)
    }

    /// The export with the flags that this connection brings.
    private func described(_ export: ExportDescription) -> ExportDescription {
        var export = export
        export.flags.insert(.hasFlags)
        if style != .simple { export.flags.insert(.dontFragment) }
        if style == .extended { export.flags.insert(.blockStatusPayload) }
        return export
    }

    private mutating func begin(_ export: ExportDescription, asked name: String) -> Step {
        state = .ended
        let isChosen = context.map { $0.name == name && $0.isChosen } ?? false
        return .transmit(Session(export: export, style: style, hasAllocationContext: isChosen))
    }

    // MARK: - Replies

    private mutating func reply(_ kind: OptionKind, _ reply: OptionReply, _ text: String) {
        self.reply(kind.rawValue, reply, text)
    }

    private mutating func reply(_ kind: OptionKind, _ reply: OptionReply, _ data: [UInt8] = []) {
        self.reply(kind.rawValue, reply, data)
    }

    private mutating func reply(_ kind: UInt32, _ reply: OptionReply, _ text: String) {
        self.reply(kind, reply, Array(text.utf8))
    }

    private mutating func reply(_ kind: UInt32, _ reply: OptionReply, _ data: [UInt8]) {
        output.append(Magic.optionReply)
        output.append(kind)
        output.append(reply.rawValue)
        output.append(UInt32(data.count))
        output += data
    }
}
