import CSystem
import CURing
import Glibc
import SkeinDevice
import SkeinMedium

/// A medium's queue by io_uring: the kernel does the work, and one call submits all that there is.
@safe
final class RingQueue: MediumQueue {
    /// Entries that are submitted in one call at most.
    private static let entries: UInt32 = 256
    /// Pieces of memory of each size that are kept for later.
    private static let kept = 8

    /// What is under way.
    @safe
    private struct Request {
        let action: MediumHost.Action
        let memory: UnsafeMutableRawBufferPointer
        /// Nanoseconds of the monotonic clock.
        let start: UInt64
    }

    private let file: UnitFile
    private let ring: UnsafeMutablePointer<io_uring>
    private let bell = Bell()
    /// By the tag of their action.
    private var requests: [UInt64: Request] = [:]
    /// Memory that is free, by its size in units: a power of two.
    private var free = unsafe [Int: [UnsafeMutableRawBufferPointer]]()

    /// Nil where the kernel has none for us: it is old, or a sandbox or its owner forbids it.
    init?(_ device: MediumDevice) {
        file = device.file
        unsafe ring = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        unsafe ring.initialize(to: io_uring())
        guard unsafe io_uring_queue_init(RingQueue.entries, ring, 0) == 0 else {
            unsafe ring.deallocate()
            return nil
        }
        guard unsafe io_uring_register_eventfd(ring, bell.descriptor) == 0 else {
            unsafe io_uring_queue_exit(ring)
            unsafe ring.deallocate()
            return nil
        }
    }

    // The memory of what is under way stays: the kernel may still write there.
    deinit {
        unsafe free.values.joined().forEach { unsafe $0.deallocate() }
        unsafe ring.deallocate()
    }

    var descriptor: Int32 { bell.descriptor }

    func end() { unsafe io_uring_queue_exit(ring) }

    func submit(_ actions: [MediumHost.Action]) {
        if actions.isEmpty { return }
        let now = sk_now()
        for action in actions {
            let memory = unsafe take(action.size)
            let entry = unsafe nextEntry()
            let offset = action.unit * UInt64(unitSize)
            switch action.operation {
            case .read:
                unsafe io_uring_prep_read(entry, file.descriptor, memory.baseAddress, UInt32(action.size), offset)
            case .write(_, let bytes):
                unsafe memory.copyBytes(from: bytes)
                unsafe io_uring_prep_write(entry, file.descriptor, memory.baseAddress, UInt32(action.size), offset)
            }
            unsafe io_uring_sqe_set_data64(entry, action.tag)
            requests[action.tag] = unsafe Request(action: action, memory: memory, start: now)
        }
        flush()
    }

    func collect() -> [EndedAction] {
        var all: [EndedAction] = []
        var entry: UnsafeMutablePointer<io_uring_cqe>?
        while unsafe io_uring_cq_ready(ring) > 0, unsafe io_uring_peek_cqe(ring, &entry) == 0, let found = unsafe entry
        {
            let (tag, result) = unsafe (found.pointee.user_data, found.pointee.res)
            unsafe io_uring_cqe_seen(ring, found)
            guard let request = requests.removeValue(forKey: tag) else {
                preconditionFailure("what has ended was under way")
            }
            // Files and devices move all, unless they end before.
            let isWhole = Int(result) == request.action.size
            let error = result < 0 ? -result : isWhole ? 0 : request.action.isWrite ? EIO : ENODATA
            all.append(unsafe request.action.ended(error, in: request.memory, duration: sk_now() - request.start))
            unsafe put(request.memory)
        }
        return all
    }

    private func nextEntry() -> UnsafeMutablePointer<io_uring_sqe> {
        if let entry = unsafe io_uring_get_sqe(ring) { return unsafe entry }
        flush()
        guard let entry = unsafe io_uring_get_sqe(ring) else { preconditionFailure("submitting makes room") }
        return unsafe entry
    }

    private func flush() {
        var result: Int32
        repeat { result = unsafe io_uring_submit(ring) } while result == -EINTR || result == -EAGAIN
        precondition(result >= 0, "the kernel takes entries of a ring that it made")
    }

    // MARK: Memory

    private func take(_ size: Int) -> UnsafeMutableRawBufferPointer {
        let units = RingQueue.units(size)
        if let piece = unsafe free[units]?.popLast() { return unsafe piece }
        return UnsafeMutableRawBufferPointer.allocate(byteCount: units * unitSize, alignment: unitSize)
    }

    private func put(_ piece: UnsafeMutableRawBufferPointer) {
        let units = piece.count / unitSize
        if unsafe free[units, default: []].count < RingQueue.kept {
            unsafe free[units, default: []].append(piece)
        } else {
            unsafe piece.deallocate()
        }
    }

    /// The power of two that has room.
    private static func units(_ size: Int) -> Int {
        let units = size / unitSize
        return units <= 1 ? 1 : 1 << (Int.bitWidth - (units - 1).leadingZeroBitCount)
    }
}
