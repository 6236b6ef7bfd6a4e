import SkeinDevice
import SkeinNBD

/// A request on its way through a device that doesn't answer at once, and its reply on the way to the client.
///
/// A slot lies in memory of its worker's, which uses it again and again. While a helper has it, nobody else
/// touches it.
@safe
struct Slot {
    /// Whose request it is; alive as long as slots of it are on their way.
    unowned(unsafe) var connection: Connection
    /// Nil for bytes that are only to be sent.
    var iop: IOP?
    var request: Request
    var message: Message
    var answer = Answer.wouldWait

    /// When its request was taken up, in nanoseconds of the monotonic clock.
    var begin: UInt64 = 0
    /// Of a read that is done in parts: the slot that stands for all of it. Its own worker's thread alone looks at it.
    var whole: UnsafeMutablePointer<Slot>?
    /// Parts that are outstanding, in the slot that stands for all.
    var parts = 0

    /// Content of the request or of the reply.
    var data: UnsafeMutableRawPointer?
    /// What was asked of the pool for it; 0 for content that the device has lent.
    var dataCapacity = 0
    /// Whether the content lies in memory of the device's.
    var isLent: Bool { dataCapacity == 0 && dataCount > 0 }
    /// What precedes the content in the reply.
    var head: UnsafeMutableRawPointer
    var headCount = 0
    /// Content of the reply, in `data`.
    var dataCount = 0
    /// Bytes of head and content that the client has.
    var sent = 0
    /// The next in whatever list it is in.
    var next: UnsafeMutablePointer<Slot>?
}

/// Slots in the order in which they came.
@safe
struct SlotList {
    private(set) var first: UnsafeMutablePointer<Slot>?
    private var last: UnsafeMutablePointer<Slot>?

    var isEmpty: Bool { unsafe first == nil }

    mutating func append(_ slot: UnsafeMutablePointer<Slot>) {
        unsafe slot.pointee.next = nil
        if let last = unsafe last { unsafe last.pointee.next = unsafe slot } else { unsafe first = unsafe slot }
        unsafe last = unsafe slot
    }

    mutating func removeFirst() -> UnsafeMutablePointer<Slot>? {
        guard let slot = unsafe first else { return nil }
        unsafe first = unsafe slot.pointee.next
        if unsafe first == nil { unsafe last = nil }
        return unsafe slot
    }

    /// All of another list, which is empty then.
    mutating func take(_ other: inout SlotList) {
        while let slot = unsafe other.removeFirst() { unsafe append(slot) }
    }
}

/// The slots of one worker.
@safe
struct SlotPool: ~Copyable {
    private static let kept = 1024
    private var free: [UnsafeMutablePointer<Slot>] = unsafe []

    deinit {
        unsafe free.forEach { slot in unsafe SlotPool.release(slot) }
    }

    /// A slot for a request.
    mutating func take(
        _ connection: Connection, _ iop: IOP?, _ request: Request, _ message: Message
    ) -> UnsafeMutablePointer<Slot> {
        let slot: UnsafeMutablePointer<Slot>
        let head: UnsafeMutableRawPointer
        if let found = unsafe free.popLast() {
            unsafe slot = unsafe found
            unsafe head = unsafe found.pointee.head
            unsafe slot.deinitialize(count: 1)
        } else {
            unsafe slot = UnsafeMutablePointer<Slot>.allocate(capacity: 1)
            unsafe head = UnsafeMutableRawPointer.allocate(byteCount: Reply.largestHeader, alignment: 16)
        }
        unsafe slot.initialize(
            to: Slot(connection: connection, iop: iop, request: request, message: message, head: head))
        return unsafe slot
    }

    mutating func put(_ slot: UnsafeMutablePointer<Slot>) {
        if unsafe free.count >= SlotPool.kept { unsafe SlotPool.release(slot) } else { unsafe free.append(slot) }
    }

    private static func release(_ slot: UnsafeMutablePointer<Slot>) {
        unsafe slot.pointee.head.deallocate()
        unsafe slot.deinitialize(count: 1)
        unsafe slot.deallocate()
    }
}
