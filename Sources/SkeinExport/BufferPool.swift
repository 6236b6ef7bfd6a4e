/// Memory for data in flight, of one worker: classes of powers of two, kept for the next request.
@safe
struct BufferPool: ~Copyable {
    /// Bytes that are kept while nobody uses them.
    private static let kept = 64 << 20
    private static let smallest = 12  // 4 KiB
    private static let classes = 15  // up to 64 MiB

    private var free: [[UnsafeMutableRawPointer]]
    private var idle = 0

    init() { unsafe free = unsafe [[UnsafeMutableRawPointer]](repeating: [], count: BufferPool.classes) }

    deinit {
        unsafe free.joined().forEach { memory in unsafe memory.deallocate() }
    }

    /// Gives what nobody uses back to the system.
    mutating func shrink() {
        guard idle > 0 else { return }
        for index in unsafe free.indices {
            unsafe free[index].forEach { memory in unsafe memory.deallocate() }
            unsafe free[index].removeAll()
        }
        idle = 0
    }

    private static func index(_ count: Int) -> Int {
        max(0, Int.bitWidth - (max(count, 1) - 1).leadingZeroBitCount - smallest)
    }

    /// Memory of at least `count` bytes, on a page's boundary. Its content is anything.
    mutating func take(_ count: Int) -> UnsafeMutableRawPointer {
        let index = BufferPool.index(count)
        precondition(index < BufferPool.classes, "a request's data is bounded")
        let size = 1 << (index + BufferPool.smallest)
        if let memory = unsafe free[index].popLast() {
            idle -= size
            return unsafe memory
        }
        return UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    }

    /// Gives memory back that was taken with this count.
    mutating func put(_ memory: UnsafeMutableRawPointer, _ count: Int) {
        let index = BufferPool.index(count)
        let size = 1 << (index + BufferPool.smallest)
        if idle + size > BufferPool.kept { return unsafe memory.deallocate() }
        idle += size
        unsafe free[index].append(memory)
    }
}
