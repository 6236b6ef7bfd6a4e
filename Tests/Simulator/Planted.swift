import SkeinMedium

/// A mistake that a simulated agent makes on purpose (docs/PLANTED.md). All but the times are made around the
/// machine, not in it.
enum Planted: String, CaseIterable {
    /// Judges a host dead that did not renew for one T.
    case hastyVerdict = "hasty-verdict"
    /// Watches the lease of its name for one T before it takes the slot.
    case shortWatch = "short-watch"
    /// Never fences itself.
    case noFence = "no-fence"
    /// Writes every renewal with the same count.
    case sameCount = "same-count"
    /// Says of whoever has its name that it is gone.
    case forgedGone = "forged-gone"

    // Those of rows and rings.

    /// Puts its rings where those of its predecessor were.
    case predecessorsRing = "predecessors-ring"
    /// Takes a block of whatever position.
    case anyPosition = "any-position"
    /// Takes a block that was meant for an incarnation before it.
    case anyReader = "any-reader"
    /// Takes a block whose header is right, whatever follows.
    case anyProof = "any-proof"
    /// Takes a row that is older than the last one for new.
    case anyRow = "any-row"
    /// Says that it took blocks that it didn't read yet.
    case eagerCursor = "eager-cursor"
    /// Writes a block again with the count that it had.
    case sameNonce = "same-nonce"
    /// Never writes a block again.
    case noRewriting = "no-rewriting"
    /// Takes what several reads show in the order in which they end.
    case readOrder = "read-order"
    /// Rings no bell.
    case noBell = "no-bell"

    /// Whether it needs payloads to be seen.
    var isOfStreams: Bool {
        switch self {
        case .hastyVerdict, .shortWatch, .noFence, .sameCount, .forgedGone: false
        default: true
        }
    }

    /// The times of an agent that makes this mistake.
    func change(_ timing: inout Timing) {
        switch self {
        case .hastyVerdict: timing.verdict = timing.timeout
        case .shortWatch: timing.dead = timing.timeout
        case .noFence: timing.fence = 1 << 50
        case .noRewriting: timing.rewriting = 1 << 50
        default: break
        }
    }
}

extension World {
    /// What the disk is to get in place of a write of this agent.
    mutating func planted(_ write: (unit: UInt64, bytes: [UInt8]), by number: Int) -> (unit: UInt64, bytes: [UInt8]) {
        guard let planted else { return write }
        let agent = agents[number]
        switch planted {
        case .sameCount:
            return rebuilt(write, .lease) { block in block.count = 1 }
        case .predecessorsRing:
            let size = superblock.geometry.data.unitsPerHost / 2
            if write.unit >= superblock.geometry.data.start {
                return (agent.generation % 2 == 0 ? write.unit + size : write.unit - size, write.bytes)
            }
            return rebuilt(write, .row, by: number) { block in
                let start: UInt64 = block.body.word(at: 0)
                block.body.put(agent.generation % 2 == 0 ? start + size : start - size, at: 0)
            }
        case .noBell: return rebuilt(write, .row, by: number) { block in block.body.put(UInt64(0), at: 16) }
        case .eagerCursor:
            guard let peer = self.peer(of: write.unit, for: number), let own = agent.lastIncarnation else { break }
            let made = streams[Stream.Key(writer: peer.incarnation, reader: own)]?.unitsMade ?? 0
            return rebuilt(write, .row, by: number) { block in block.body.put(made, at: 24) }
        case .sameNonce:
            guard let header = BlockHeader(write.bytes, kind: .data), header.units * unitSize == write.bytes.count
            else { break }
            let name = CountKey(
                unit: header.place, writer: header.writer, reader: peer(of: write.unit, for: number)?.incarnation)
            let count = firstCounts[name] ?? header.count
            firstCounts[name] = count
            return rebuilt(write, .data, by: number) { block in block.count = count }
        default: break
        }
        return write
    }

    /// What the agent is told that it read.
    func planted(_ bytes: [UInt8], from unit: UInt64, to number: Int) -> [UInt8] {
        guard let planted, planted.isOfStreams else { return bytes }
        let agent = agents[number]
        guard let slot = agent.slot, let own = agent.lastIncarnation else { return bytes }
        let geometry = superblock.geometry
        if planted == .anyRow, unit == geometry.row(of: slot, from: 0) {
            return agent.announced.reduce(into: bytes) { bytes, peer in
                let channel = channel(.row, peer.value, own)
                let (offset, place) = (peer.key * unitSize, geometry.row(of: slot, from: peer.key))
                guard let opened = channel.open(bytes, at: offset, place: place) else { return }
                bytes.put(channel.block(place: place, count: clock, body: opened.body), at: offset)
            }
        }
        guard [Planted.anyPosition, .anyReader, .anyProof].contains(planted), unit >= geometry.data.start,
            let header = BlockHeader(bytes, kind: .data), header.units * unitSize <= bytes.count,
            let writer = agent.announced.values.first(where: { $0 == header.writer })
        else { return bytes }
        let next = streams[Stream.Key(writer: writer, reader: own)]?.unitsTaken ?? 0
        var body: [UInt8]?
        switch planted {
        case .anyPosition: body = channel(.data, writer, own).open(bytes, place: header.place)?.body
        case .anyReader:
            let readers = streams.keys.filter { $0.writer == writer }.map(\.reader)
            body = readers.lazy.compactMap { channel(.data, writer, $0).open(bytes, place: header.place)?.body }.first
        default: body = Array(bytes[BlockHeader.size..<BlockHeader.size + header.length])
        }
        guard let body, planted == .anyPosition || header.place == next else { return bytes }
        var changed = bytes
        changed.put(channel(.data, writer, own).block(place: next, count: header.count, body: body), at: 0)
        return changed
    }

    /// A read of a ring that has ended, as the agent takes it: for the oldest that is under way, at whose positions its
    /// blocks prove themselves then.
    mutating func mistaken(_ number: Int, _ request: Request) -> Request {
        guard planted == .readOrder, let ring = ringRead(request),
            let oldest = readsBeside(request).keys.min(), oldest < number, let older = requests[oldest]?.action,
            case .read(let from, _) = request.action.operation, case .read(let to, _) = older.operation,
            case .read(var bytes) = request.outcome, let own = agents[request.agent].lastIncarnation
        else { return request }
        let units = superblock.geometry.ringUnits
        let distance = (from + units - to) % units
        var offset = 0
        while let header = BlockHeader(bytes, at: offset, kind: .data), header.place >= distance {
            let channel = channel(.data, header.writer, own)
            guard let (_, body) = channel.open(bytes, at: offset, place: header.place) else { break }
            bytes.put(channel.block(place: header.place - distance, count: header.count, body: body), at: offset)
            offset += header.units * unitSize
        }
        trace("\(request.agent) takes a read of ring \(ring) for an older one")
        requests[oldest]?.action = request.action
        var mistaken = request
        mistaken.action = older
        mistaken.outcome = .read(bytes)
        return mistaken
    }

    private struct Parts {
        var count: UInt64
        var body: [UInt8]
    }

    /// The write with a block that was changed and proves itself again; as it was, where it is of another kind.
    private func rebuilt(
        _ write: (unit: UInt64, bytes: [UInt8]), _ kind: BlockKind, by number: Int? = nil,
        _ change: (inout Parts) -> Void
    ) -> (unit: UInt64, bytes: [UInt8]) {
        guard let header = BlockHeader(write.bytes, kind: kind) else { return write }
        let reader = number.flatMap { peer(of: write.unit, for: $0)?.incarnation } ?? .zero
        let channel = channel(kind, header.writer, reader)
        guard let opened = channel.open(write.bytes, place: header.place) else { return write }
        var parts = Parts(count: header.count, body: opened.body)
        change(&parts)
        return (write.unit, channel.block(place: header.place, count: parts.count, body: parts.body))
    }
}
