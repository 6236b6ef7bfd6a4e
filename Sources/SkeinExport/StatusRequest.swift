import SkeinDevice
import SkeinNBD

// Block status of a device that has to ask somebody else: a helper waits for it, with a list of its own.

extension Connection {
    func submitStatus(_ request: Request, _ iop: IOP) {
        let extents = UnsafeMutablePointer<ExtentList>.allocate(capacity: 1)
        unsafe extents.initialize(to: ExtentList(capacity: Limit.extents))
        let message = unsafe Message(.status, offset: request.offset, length: request.length, extents: extents)
        unsafe submit(worker.slots.take(self, iop, request, message))
    }

    static func free(_ extents: UnsafeMutablePointer<ExtentList>) {
        unsafe extents.deinitialize(count: 1)
        unsafe extents.deallocate()
    }

    /// The device has answered.
    func completeStatus(_ slot: UnsafeMutablePointer<Slot>) {
        let request = unsafe slot.pointee.request
        if case .failed(let errno) = unsafe slot.pointee.answer {
            counters.countError()
            var reply = unsafe Reply(
                to: request, style,
                into: UnsafeMutableRawBufferPointer(start: slot.pointee.head, count: Reply.largestHeader))
            reply.error(ErrorCode(errno: errno), "the device can't tell")
            unsafe slot.pointee.headCount = reply.count
            return unsafe finished.append(slot)
        }
        guard let list = unsafe slot.pointee.message.extents else { return }
        if unsafe list.pointee.count == 0 { _ = unsafe list.pointee.append(request.length, []) }
        let count = unsafe request.flags.contains(.requestOne) ? 1 : list.pointee.count
        let size = Reply.size(ofStatus: count)
        let data = unsafe worker.buffers.take(size)
        var reply = unsafe Reply(to: request, style, into: UnsafeMutableRawBufferPointer(start: data, count: size))
        reply.status(extents: count)
        for index in 0..<count {
            let extent = unsafe list.pointee[index]
            reply.extent(length: extent.length, flags: extent.kind.rawValue)
        }
        unsafe slot.pointee.data = unsafe data
        unsafe slot.pointee.dataCapacity = size
        unsafe slot.pointee.dataCount = reply.count
        unsafe finished.append(slot)
    }
}
