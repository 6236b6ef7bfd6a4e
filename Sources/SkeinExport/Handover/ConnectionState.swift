import SkeinNBD

/// A client in the clear, between two processes: what it is about, and what was read or made and not yet used.
struct ConnectionState: Sendable {
    enum Stage: Sendable {
        case negotiating(NegotiationStanding)
        case transmitting(Service)
        /// It has said that it is done, and is owed replies.
        case finishing(Service)
    }

    /// What it has negotiated.
    struct Service: Sendable {
        let export: String
        let flags: TransmissionFlags
        let style: ReplyStyle
        let hasAllocationContext: Bool
    }

    /// A request whose payload has not all come.
    struct Payload: Sendable {
        let request: Request
        let left: Int
        let offset: UInt64
        let failure: ErrorCode?
        /// Where what was collected is to be written from, and what that is; nil where it was written as it came.
        let collected: (offset: UInt64, bytes: [UInt8])?
    }

    let address: [UInt8]?
    let user: UInt32?
    let stage: Stage
    /// Bytes that were read and not processed.
    let held: [UInt8]
    let holdsWhole: Bool
    let payload: Payload?
    /// Bytes that the client must get first, then a long reply that has begun, then others.
    let outgoing: [UInt8]
    let stream: ReadStream?
    let finished: [UInt8]

    var peer: Peer { Peer(address: address.map(IPAddress.init), user: user) }
}

// MARK: - As bytes

extension ConnectionState {
    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(address) { $0.put($1) }
        writer.put(user) { $0.put($1) }
        switch stage {
        case .negotiating(let standing):
            writer.put(0 as UInt8)
            writer.put(standing)
        case .transmitting(let service):
            writer.put(1 as UInt8)
            writer.put(service)
        case .finishing(let service):
            writer.put(2 as UInt8)
            writer.put(service)
        }
        writer.put(held)
        writer.put(holdsWhole)
        writer.put(payload) { $0.put($1) }
        writer.put(outgoing)
        writer.put(stream) { $0.put($1) }
        writer.put(finished)
        return writer.bytes
    }

    init(_ bytes: [UInt8]) throws(ExportFault) {
        var reader = ByteReader(bytes)
        address = try reader.optional { reader throws(ExportFault) in try reader.bytes() }
        user = try reader.optional { reader throws(ExportFault) in try reader.number() }
        switch try reader.number(UInt8.self) {
        case 0: stage = .negotiating(try reader.standing())
        case 1: stage = .transmitting(try reader.service())
        default: stage = .finishing(try reader.service())
        }
        held = try reader.bytes()
        holdsWhole = try reader.flag()
        payload = try reader.optional { reader throws(ExportFault) in try reader.payload() }
        outgoing = try reader.bytes()
        stream = try reader.optional { reader throws(ExportFault) in try reader.stream() }
        finished = try reader.bytes()
    }
}

extension ByteWriter {
    fileprivate mutating func put(_ standing: NegotiationStanding) {
        switch standing.awaited {
        case .flags: put(0 as UInt8)
        case .option: put(1 as UInt8)
        case .skipped(let kind, let left):
            put(2 as UInt8)
            put(kind)
            put(left)
        case .nothing: put(3 as UInt8)
        }
        put(standing.withoutZeroes)
        put(standing.style.rawValue)
        put(standing.context) { $0.put($1) }
        put(standing.isContextChosen)
        put(standing.received)
        put(standing.options)
    }

    fileprivate mutating func put(_ service: ConnectionState.Service) {
        put(service.export)
        put(service.flags.rawValue)
        put(service.style.rawValue)
        put(service.hasAllocationContext)
    }

    fileprivate mutating func put(_ request: Request) {
        put(request.command)
        put(request.flags.rawValue)
        put(request.cookie)
        put(request.offset)
        put(request.length)
    }

    fileprivate mutating func put(_ payload: ConnectionState.Payload) {
        put(payload.request)
        put(payload.left)
        put(payload.offset)
        put(payload.failure) { $0.put($1.rawValue) }
        put(payload.collected) { writer, collected in
            writer.put(collected.offset)
            writer.put(collected.bytes)
        }
    }

    fileprivate mutating func put(_ stream: ReadStream) {
        put(stream.request)
        put(stream.position)
        put(stream.chunkEnd)
        put(stream.isAnswered)
        put(stream.failure) { $0.put($1) }
    }
}

extension ByteReader {
    fileprivate mutating func standing() throws(ExportFault) -> NegotiationStanding {
        let awaited: NegotiationStanding.Awaited =
            switch try number(UInt8.self) {
            case 0: .flags
            case 1: .option
            case 2: .skipped(try number(), left: try number())
            default: .nothing
            }
        return NegotiationStanding(
            awaited: awaited, withoutZeroes: try flag(), style: try choice(),
            context: try optional { reader throws(ExportFault) in try reader.text() }, isContextChosen: try flag(),
            received: try number(), options: try number())
    }

    fileprivate mutating func service() throws(ExportFault) -> ConnectionState.Service {
        ConnectionState.Service(
            export: try text(), flags: TransmissionFlags(rawValue: try number()), style: try choice(),
            hasAllocationContext: try flag())
    }

    fileprivate mutating func request() throws(ExportFault) -> Request {
        Request(
            command: try number(), flags: CommandFlags(rawValue: try number()), cookie: try number(),
            offset: try number(), length: try number())
    }

    fileprivate mutating func payload() throws(ExportFault) -> ConnectionState.Payload {
        ConnectionState.Payload(
            request: try request(), left: try number(), offset: try number(),
            failure: try optional { reader throws(ExportFault) in try reader.choice() },
            collected: try optional { reader throws(ExportFault) in (try reader.number(), try reader.bytes()) })
    }

    fileprivate mutating func stream() throws(ExportFault) -> ReadStream {
        var stream = ReadStream(try request())
        stream.position = try number()
        stream.chunkEnd = try number()
        stream.isAnswered = try flag()
        stream.failure = try optional { reader throws(ExportFault) in try reader.number() }
        return stream
    }
}
