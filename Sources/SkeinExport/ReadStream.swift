import SkeinDevice
import SkeinNBD

/// A long read of a device in memory: each piece is read when the client has taken the one before, so that it
/// takes no memory and stays in the processor's cache.
struct ReadStream {
    let request: Request
    var position: UInt64
    let end: UInt64
    /// Whether the header of a single chunk was sent.
    var isBegun = false

    init(_ request: Request) {
        self.request = request
        position = request.offset
        end = request.offset + request.length
    }
}

extension Connection {
    /// Sends as much of the stream as the client takes. False where that isn't all.
    func continueStream() -> Bool {
        guard var current = stream, let iop else { return true }
        // One chunk where the client wants it so, or knows nothing else.
        let isWhole = style == .simple || current.request.flags.contains(.dontFragment)
        while current.position < current.end && fault == nil && outgoing.isEmpty {
            isWhole ? sendWhole(&current, iop) : sendChunk(&current, iop)
            flush()
        }
        let isDone = current.position == current.end
        stream = isDone ? nil : current
        return isDone && fault == nil && outgoing.isEmpty
    }

    /// The next piece of a single chunk.
    private func sendWhole(_ current: inout ReadStream, _ iop: IOP) {
        let request = current.request
        let isFirst = !current.isBegun
        if isFirst {
            // A chunk that can still fail isn't the last one.
            reply(to: request) { $0.content(at: request.offset, count: Int(request.length), isLast: false) }
            current.isBegun = true
        }
        let count = min(UInt64(Connection.piece), current.end - current.position)
        guard case .failed(let errno) = readPiece(current.position, count, iop) else {
            current.position += count
            if current.position == current.end && style != .simple { reply(to: request) { $0.done() } }
            return
        }
        if isFirst {
            unsafe worker.staged = 0
            fail(request, errno)
            current.position = current.end
        } else {
            fail("the device failed in the middle of a reply, which can't say so")
        }
    }

    /// The next chunk of several: data, or a hole.
    private func sendChunk(_ current: inout ReadStream, _ iop: IOP) {
        let request = current.request
        let left = current.end - current.position
        var count = left
        if askStatus(current.position, left, iop) == .done, unsafe worker.extents.pointee.count > 0 {
            let first = unsafe worker.extents.pointee[0]
            count = first.length
            if first.kind.contains(.zero) {
                let (position, isLast) = (current.position, count == left)
                reply(to: request) { $0.hole(at: position, count: UInt32(count), isLast: isLast) }
                current.position += count
                return
            }
        }
        count = min(count, UInt64(Connection.piece))
        let (position, isLast) = (current.position, count == left)
        reply(to: request) { $0.content(at: position, count: Int(count), isLast: isLast) }
        if case .failed(let errno) = readPiece(position, count, iop) {
            unsafe worker.staged = 0
            fail(request, errno)
            current.position = current.end
        } else {
            current.position += count
        }
    }

    /// Reads content behind what is staged, for which there is room.
    private func readPiece(_ offset: UInt64, _ count: UInt64, _ iop: IOP) -> Answer {
        let start = unsafe worker.stagingRoom.baseAddress
        var message = unsafe Message(.read, offset: offset, length: count, data: start)
        let answer = iop.attempt(&message)
        if answer == .wouldWait { return .failed(5) }
        if answer == .done { unsafe worker.staged += Int(count) }
        return answer
    }
}
