import Glibc
import SkeinDevice
import SkeinNBD

/// A long read of a device in memory: it takes no memory of ours, and goes on as the client takes it.
///
/// Content that the device lends is sent from where it lies; else each piece is read when the client has taken the one
/// before, and is still in the processor's cache when it is sent.
struct ReadStream {
    let request: Request
    /// Where the next byte of content comes from.
    var position: UInt64
    let end: UInt64
    /// Up to where the chunk goes whose header was sent; `position` between two chunks.
    var chunkEnd: UInt64
    /// The last chunk said that it is the last one.
    var isAnswered = false
    /// The device has failed: zeroes fill the chunk, and an error follows.
    var failure: Int32?

    init(_ request: Request) {
        self.request = request
        position = request.offset
        end = request.offset + request.length
        chunkEnd = request.offset
    }
}

extension Connection {
    /// Begins a long reply, unless the device fails at once.
    func begin(_ stream: ReadStream, _ iop: IOP) {
        // In the simple style nothing can be taken back once the reply has begun. Memory fails where it has become shorter.
        unsafe worker.reserve(Reply.largestHeader, for: self)
        var last = unsafe Message(.read, offset: stream.end - 1, length: 1, data: worker.stagingRoom.baseAddress)
        if case .failed(let errno) = iop.attempt(&last) { return fail(stream.request, errno) }
        flush()
        self.stream = stream
    }

    /// Sends as much of the stream as the client takes. False where that isn't all.
    func continueStream() -> Bool {
        guard var current = stream, let iop else { return true }
        while fault == nil && outgoing.isEmpty {
            if current.position < current.chunkEnd {
                guard sendContent(&current, iop) else { break }
            } else if current.failure != nil || current.position == current.end {
                finish(current)
                stream = nil
                return fault == nil && outgoing.isEmpty
            } else {
                beginChunk(&current, iop)
            }
        }
        stream = current
        return false
    }

    /// The header of the next chunk: data, or a hole.
    private func beginChunk(_ current: inout ReadStream, _ iop: IOP) {
        let request = current.request
        let position = current.position
        var count = current.end - position
        // One chunk where the client wants it so, or knows nothing else.
        let isWhole = style == .simple || request.flags.contains(.dontFragment)
        if !isWhole, askStatus(position, count, iop) == .done, unsafe worker.extents.pointee.count > 0 {
            let first = unsafe worker.extents.pointee[0]
            count = first.length
            if first.kind.contains(.zero) {
                let isLast = position + count == current.end
                reply(to: request) { $0.hole(at: position, count: UInt32(count), isLast: isLast) }
                current.isAnswered = isLast
                current.position += count
                current.chunkEnd = current.position
                return
            }
        }
        // A chunk that can still fail isn't the last one.
        reply(to: request) { $0.content(at: position, count: Int(count), isLast: false) }
        current.chunkEnd = position + count
    }

    /// Content of the chunk that has begun, behind what is staged. False where the client takes no more for now.
    private func sendContent(_ current: inout ReadStream, _ iop: IOP) -> Bool {
        let left = Int(current.chunkEnd - current.position)
        if current.failure == nil, takesLoans, let content = unsafe iop.lend(current.position, UInt64(left)) {
            return unsafe send(UnsafeRawBufferPointer(start: content, count: left), &current)
        }
        let count = min(left, Connection.piece)
        unsafe worker.reserve(count, for: self)
        let start = unsafe worker.stagingRoom.baseAddress!
        if current.failure == nil {
            var message = unsafe Message(.read, offset: current.position, length: UInt64(count), data: start)
            switch iop.attempt(&message) {
            case .done: break
            case .failed(let errno): current.failure = errno
            case .wouldWait: current.failure = EIO
            }
        }
        if current.failure != nil { unsafe start.initializeMemory(as: UInt8.self, repeating: 0, count: count) }
        unsafe worker.staged += count
        current.position += UInt64(count)
        flush()
        return true
    }

    /// The same with content that the device has lent.
    private func send(_ content: UnsafeRawBufferPointer, _ current: inout ReadStream) -> Bool {
        let staged = unsafe worker.staged
        unsafe worker.loans.append(content, behind: staged)
        let head = unsafe UnsafeMutableRawBufferPointer(rebasing: worker.staging[..<staged])
        let sent = unsafe send(worker.loans.take(with: head))
        if sent < 0 && errno == EFAULT {
            current.failure = EIO
        } else if sent < 0 && errno != EAGAIN {
            failSending()
        }
        unsafe worker.staged = 0
        current.position += UInt64(max(0, sent - staged))
        // The head goes out before anything else.
        if sent < staged { unsafe keep(UnsafeRawBufferPointer(rebasing: head[max(0, sent)...])) }
        return sent > staged || current.failure != nil
    }

    private func finish(_ current: ReadStream) {
        if let errno = current.failure {
            guard style != .simple else {
                return fail("the device failed in the middle of a reply, which can't say so")
            }
            fail(current.request, errno)
        } else if style != .simple && !current.isAnswered {
            reply(to: current.request) { $0.done() }
        }
        flush()
    }
}
