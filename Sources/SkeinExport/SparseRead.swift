import SkeinDevice
import SkeinNBD

// A read of a range on disk with holes in it: these are told at once, and the data between them is read side by side.

extension Connection {
    /// A range with more extents is read as if it were all data.
    private static let mostExtents = 16

    /// Answers a read by the extents that the worker's list has of all its range; false where that isn't worth it.
    func readSparsely(_ request: Request, _ iop: IOP) -> Bool {
        let count = unsafe worker.extents.pointee.count
        guard unsafe worker.extents.pointee.length == request.length, count <= Connection.mostExtents,
            (0..<count).contains(where: { unsafe worker.extents.pointee[$0].kind.contains(.zero) })
        else { return false }
        if count == 1 {
            reply(to: request) { $0.hole(at: request.offset, count: UInt32(request.length), isLast: true) }
            return true
        }
        // It keeps count of what is outstanding, and of the end as long as this loop runs.
        let whole = unsafe worker.slots.take(self, iop, request, Message(.read))
        unsafe whole.pointee.answer = .done
        unsafe whole.pointee.parts = 1
        unsafe whole.pointee.begin = unsafe worker.clock
        var position = request.offset
        for index in 0..<count {
            let extent = unsafe worker.extents.pointee[index]
            if extent.kind.contains(.zero) {
                let start = position
                reply(to: request) { $0.hole(at: start, count: UInt32(extent.length), isLast: false) }
            } else {
                var part = request
                part.offset = position
                part.length = extent.length
                unsafe read(part, of: whole, iop)
            }
            position += extent.length
        }
        unsafe whole.pointee.parts -= 1
        unsafe finishWhole(whole)
        return true
    }

    private func read(_ part: Request, of whole: UnsafeMutablePointer<Slot>, _ iop: IOP) {
        let count = Int(part.length)
        let slot = unsafe slot(part, iop, Message(.read, offset: part.offset, length: part.length), count: count)
        unsafe slot.pointee.whole = unsafe whole
        unsafe whole.pointee.parts += 1
        var answer = Answer.wouldWait
        if count <= Connection.piece { answer = unsafe iop.attempt(&slot.pointee.message) }
        if answer == .wouldWait { return unsafe submit(slot) }
        unsafe slot.pointee.answer = answer
        unsafe completePart(slot, of: whole)
    }

    /// The device has answered a part.
    func completePart(_ slot: UnsafeMutablePointer<Slot>, of whole: UnsafeMutablePointer<Slot>) {
        let request = unsafe slot.pointee.request
        unsafe whole.pointee.parts -= 1
        if unsafe slot.pointee.answer == .done {
            var reply = unsafe Reply(
                to: whole.pointee.request, style,
                into: UnsafeMutableRawBufferPointer(start: slot.pointee.head, count: Reply.largestHeader))
            reply.content(at: request.offset, count: Int(request.length), isLast: false)
            unsafe slot.pointee.headCount = reply.count
            unsafe slot.pointee.dataCount = Int(request.length)
            unsafe finished.append(slot)
        } else {
            unsafe whole.pointee.answer = unsafe slot.pointee.answer
            unsafe give(slot)
        }
        unsafe finishWhole(whole)
    }

    /// Says that the reply is complete, once it is.
    private func finishWhole(_ whole: UnsafeMutablePointer<Slot>) {
        guard unsafe whole.pointee.parts == 0 else { return }
        var reply = unsafe Reply(
            to: whole.pointee.request, style,
            into: UnsafeMutableRawBufferPointer(start: whole.pointee.head, count: Reply.largestHeader))
        if case .failed(let errno) = unsafe whole.pointee.answer {
            counters.countError()
            reply.error(ErrorCode(errno: errno), "the device failed")
        } else {
            reply.done()
        }
        unsafe whole.pointee.headCount = reply.count
        unsafe finished.append(whole)
    }
}
