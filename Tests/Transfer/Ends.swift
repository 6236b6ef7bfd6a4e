import SkeinTransfer

/// Both owners in one: what the machines ask for is done to arrays.
struct Sender: ~Copyable {
    let content: [UInt8]
    var machine: Transmission
    var isDone = false
    /// Where it began; nil before it has.
    var offset: UInt64?

    init(_ content: [UInt8], name: String = "file", size: UInt64?? = nil) {
        self.content = content
        machine = Transmission(Offer(name: name, size: size ?? UInt64(content.count), mode: 0o644)!)
    }

    /// Takes what the receiver wrote, and returns what it then writes.
    mutating func take(_ bytes: [UInt8], chunk: Int) throws(TransferFault) -> [UInt8] {
        var rest = bytes.span
        var written: [UInt8] = []
        while rest.count > 0 && rest.count >= machine.wanted {
            let piece = rest.extracting(first: machine.wanted)
            rest = rest.extracting(droppingFirst: piece.count)
            switch try machine.take(piece) {
            case .read: break
            case .compare(let count, let sum):
                written += answer(count, sum)
                written += contentMessages(of: chunk)
                written += machine.end()
            case .done: isDone = true
            }
        }
        return written
    }

    private mutating func answer(_ count: UInt64, _ sum: Checksum) -> [UInt8] {
        offset = 0
        guard count > 0, count <= content.count else { return machine.start() }
        var own = RunningChecksum()
        own.add(content.span.extracting(first: Int(count)))
        guard own.value == sum else { return machine.start() }
        offset = count
        return machine.resume(own)
    }

    private mutating func contentMessages(of size: Int) -> [UInt8] {
        var written: [UInt8] = []
        var position = Int(offset ?? 0)
        while position < content.count {
            let count = min(size, content.count - position)
            var buffer = [UInt8](repeating: 0, count: Limit.message)
            let first = Transmission.contentOffset
            buffer.replaceSubrange(first..<first + count, with: content[position..<position + count])
            let length = machine.seal(&buffer, count: count)
            written += buffer[..<length]
            position += count
        }
        return written
    }
}

struct Receiver: ~Copyable {
    var content: [UInt8]
    var machine = Reception()
    var offer: Offer?
    var sum: Checksum?

    /// One that has this much already.
    init(having content: [UInt8] = []) { self.content = content }

    /// Takes what the sender wrote, and returns what it then writes.
    mutating func take(_ bytes: [UInt8]) throws(TransferFault) -> [UInt8] {
        var rest = bytes.span
        var written: [UInt8] = []
        while rest.count > 0 && rest.count >= machine.wanted {
            let piece = rest.extracting(first: machine.wanted)
            rest = rest.extracting(droppingFirst: piece.count)
            switch try machine.take(piece) {
            case .read: break
            case .decide(let made):
                offer = made
                var own = RunningChecksum()
                own.add(content.span)
                written += machine.accept(having: UInt64(content.count), own)
            case .begin(let offset): content.removeLast(content.count - Int(offset))
            case .store(let count): for index in 0..<count { content.append(piece[index]) }
            case .finish(_, let checksum):
                sum = checksum
                written += machine.stored
            }
        }
        return written
    }
}

/// The fault that `body` ends with; nil where it ends well.
func fault(_ body: () throws(TransferFault) -> Void) -> TransferFault? {
    do {
        try body()
        return nil
    } catch {
        return error
    }
}
