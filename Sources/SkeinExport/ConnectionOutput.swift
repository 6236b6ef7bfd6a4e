import Glibc
import SkeinDevice
import SkeinNBD
import SkeinTLS

// How replies reach the client: staged ones of a turn in one call, others from their slots, several in one call.

extension Connection {
    /// Slots of one call.
    private static let batch = 32

    /// Makes a reply without content.
    @inline(__always)
    func reply(to request: Request, _ write: (inout Reply) -> Void) {
        unsafe worker.reserve(Reply.largestHeader, for: self)
        var reply = unsafe Reply(to: request, style, into: worker.stagingRoom)
        write(&reply)
        unsafe worker.staged += reply.count
    }

    /// Sends what is staged. What the client doesn't take at once is kept, before everything else.
    func flush() {
        let count = unsafe worker.staged
        guard count > 0 else { return }
        unsafe worker.staged = 0
        guard unsafe worker.loans.isEmpty else { return flushWithLoans(count) }
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: worker.staging[..<count])
        var sent = 0
        if outgoing.isEmpty {
            let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
            while sent < count {
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[sent...])
                let result = unsafe tls?.write(rest) ?? Glibc.send(descriptor, rest.baseAddress, rest.count, flags)
                if result < 0 && errno == EINTR { continue }
                if result < 0 && errno == EAGAIN { break }
                if result < 0 { return failSending() }
                sent += result
            }
        }
        if sent < count { unsafe keep(UnsafeRawBufferPointer(rebasing: bytes[sent...])) }
    }

    /// Sends what is staged, and what devices have lent, in one call.
    private func flushWithLoans(_ count: Int) {
        let vectors = unsafe worker.loans.take(
            with: UnsafeMutableRawBufferPointer(rebasing: worker.staging[..<count]))
        let sent = unsafe outgoing.isEmpty ? send(vectors) : 0
        if sent < 0 && errno != EAGAIN { return failSending() }
        unsafe keep(vectors, from: max(0, sent))
    }

    /// Sends what it can without waiting: a number of bytes, or -1 and errno.
    func send(_ vectors: UnsafeMutableBufferPointer<iovec>) -> Int {
        var message = unsafe msghdr()
        unsafe message.msg_iov = vectors.baseAddress
        unsafe message.msg_iovlen = vectors.count
        var sent: Int
        repeat {
            sent = unsafe sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        } while sent < 0 && errno == EINTR
        return sent
    }

    /// Keeps what lies behind so many bytes: a copy of what was staged, and where the rest lies.
    private func keep(_ vectors: UnsafeMutableBufferPointer<iovec>, from sent: Int) {
        var skip = sent
        for unsafe(index, vector) in unsafe zip(vectors.indices, vectors) {
            let done = unsafe min(skip, vector.iov_len)
            skip -= done
            guard let base = unsafe vector.iov_base, unsafe vector.iov_len > done else { continue }
            let rest = unsafe UnsafeRawBufferPointer(start: base + done, count: vector.iov_len - done)
            if index % 2 == 0 {
                unsafe keep(rest)
            } else {
                let slot = unsafe emptySlot()
                unsafe slot.pointee.data = unsafe UnsafeMutableRawPointer(mutating: rest.baseAddress)
                unsafe slot.pointee.dataCount = rest.count
                unsafe outgoing.append(slot)
            }
        }
    }

    /// A slot for bytes that are only to be sent.
    private func emptySlot() -> UnsafeMutablePointer<Slot> {
        let nothing = Request(command: 0, cookie: 0, offset: 0, length: 0)
        return unsafe worker.slots.take(self, nil, nothing, Message(.flush))
    }

    /// Sends these bytes, in their turn.
    func send(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        unsafe bytes.withUnsafeBytes { unsafe keep($0) }
    }

    /// Sends these bytes behind a long reply that has begun.
    func sendLater(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        unsafe bytes.withUnsafeBytes { unsafe finished.append(slot(of: $0)) }
    }

    /// Keeps a copy of these bytes, to be sent in their turn.
    func keep(_ bytes: UnsafeRawBufferPointer) { unsafe outgoing.append(slot(of: bytes)) }

    /// A slot with a copy of these bytes, which are only to be sent.
    private func slot(of bytes: UnsafeRawBufferPointer) -> UnsafeMutablePointer<Slot> {
        let slot = unsafe emptySlot()
        let data = unsafe worker.buffers.take(bytes.count)
        unsafe data.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        unsafe slot.pointee.data = unsafe data
        unsafe slot.pointee.dataCapacity = bytes.count
        unsafe slot.pointee.dataCount = bytes.count
        return unsafe slot
    }

    /// Sends all that is ready. False where the client takes no more for now, or is gone.
    func drain() -> Bool {
        guard sendOutgoing() else { return false }
        if stream != nil {
            guard continueStream() else { return false }
        }
        outgoing.take(&finished)
        return sendOutgoing()
    }

    private func sendOutgoing() -> Bool {
        while !outgoing.isEmpty {
            let sent = sendBatch()
            if sent < 0 {
                if tls != nil && errno == EINTR { continue }
                if errno != EAGAIN { failSending() }
                return false
            }
            account(sent)
        }
        return fault == nil
    }

    func failSending() {
        // A reply that has begun can't be taken back.
        if errno == EFAULT { return fail("a device's file was made shorter while it was sent") }
        let reason = tls.map(\.fault) ?? (unsafe String(cString: strerror(errno)))
        fail("the client is gone: \(reason)")
    }

    private func sendBatch() -> Int {
        if let tls { return sendFirst(tls) }
        return unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2 * Connection.batch) { vectors in
            var count = 0
            var next = unsafe outgoing.first
            while let slot = unsafe next, count + 2 <= vectors.count {
                let head = unsafe slot.pointee.headCount
                let sent = unsafe slot.pointee.sent
                if sent < head {
                    unsafe vectors[count] = unsafe iovec(iov_base: slot.pointee.head + sent, iov_len: head - sent)
                    count += 1
                }
                let skip = max(0, sent - head)
                if unsafe slot.pointee.dataCount > skip, let data = unsafe slot.pointee.data {
                    unsafe vectors[count] = unsafe iovec(iov_base: data + skip, iov_len: slot.pointee.dataCount - skip)
                    count += 1
                }
                unsafe next = unsafe slot.pointee.next
            }
            return unsafe send(UnsafeMutableBufferPointer(rebasing: vectors[..<count]))
        }
    }

    /// As `sendBatch`, of what comes first: head or content of one slot.
    private func sendFirst(_ tls: TLSSession) -> Int {
        guard let slot = unsafe outgoing.first else { return 0 }
        let (head, sent) = unsafe (slot.pointee.headCount, slot.pointee.sent)
        let start = unsafe sent < head ? slot.pointee.head + sent : slot.pointee.data! + (sent - head)
        let count = unsafe sent < head ? head - sent : head + slot.pointee.dataCount - sent
        return unsafe tls.write(UnsafeRawBufferPointer(start: start, count: count))
    }

    private func account(_ count: Int) {
        var left = count
        while let slot = unsafe outgoing.first {
            let rest = unsafe slot.pointee.headCount + slot.pointee.dataCount - slot.pointee.sent
            if left < rest {
                unsafe slot.pointee.sent += left
                return
            }
            left -= rest
            _ = unsafe outgoing.removeFirst()
            unsafe give(slot)
        }
    }
}
