import CSystem
import Synchronization

/// Memory that several threads, processes or a hostile peer may write at any time.
///
/// Every access is one atomic word at a named offset (`Layout`), or a copy of bytes whose range the
/// caller has checked. A word may change, or turn zero, between any two loads: load once, check, use.
@safe
package struct SharedMemory {
    package let base: UnsafeMutableRawPointer

    package init(_ base: UnsafeMutableRawPointer) { unsafe self.base = base }

    @inline(__always) private func word64(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        unsafe base.advanced(by: offset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
    @inline(__always) private func word32(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
        unsafe base.advanced(by: offset).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// Sees everything that was written before the release-store of the value it returns.
    @inline(__always) package func acquire64(_ offset: Int) -> UInt64 {
        unsafe word64(offset).pointee.load(ordering: .acquiring)
    }
    @inline(__always) package func acquire32(_ offset: Int) -> UInt32 {
        unsafe word32(offset).pointee.load(ordering: .acquiring)
    }
    @inline(__always) package func load64(_ offset: Int) -> UInt64 {
        unsafe word64(offset).pointee.load(ordering: .relaxed)
    }
    @inline(__always) package func load32(_ offset: Int) -> UInt32 {
        unsafe word32(offset).pointee.load(ordering: .relaxed)
    }
    /// Publishes everything written before.
    @inline(__always) package func release64(_ offset: Int, _ value: UInt64) {
        crashPoint()
        unsafe word64(offset).pointee.store(value, ordering: .releasing)
    }
    @inline(__always) package func release32(_ offset: Int, _ value: UInt32) {
        crashPoint()
        unsafe word32(offset).pointee.store(value, ordering: .releasing)
    }
    @inline(__always) package func store64(_ offset: Int, _ value: UInt64) {
        crashPoint()
        unsafe word64(offset).pointee.store(value, ordering: .relaxed)
    }
    @inline(__always) package func store32(_ offset: Int, _ value: UInt32) {
        crashPoint()
        unsafe word32(offset).pointee.store(value, ordering: .relaxed)
    }
    /// A full barrier on both sides, as all the read-modify-write operations here.
    @inline(__always) @discardableResult package func add32(_ offset: Int, _ value: UInt32) -> UInt32 {
        crashPoint()
        return unsafe word32(offset).pointee.wrappingAdd(value, ordering: .sequentiallyConsistent).newValue
    }
    @inline(__always) @discardableResult package func subtract32(_ offset: Int, _ value: UInt32) -> UInt32 {
        crashPoint()
        return unsafe word32(offset).pointee.wrappingSubtract(value, ordering: .sequentiallyConsistent).newValue
    }
    @inline(__always) package func or32(_ offset: Int, _ bits: UInt32) {
        crashPoint()
        unsafe word32(offset).pointee.bitwiseOr(bits, ordering: .sequentiallyConsistent)
    }
    @inline(__always) package func clear32(_ offset: Int, _ bits: UInt32) {
        crashPoint()
        unsafe word32(offset).pointee.bitwiseAnd(~bits, ordering: .sequentiallyConsistent)
    }
    @inline(__always) package func compareExchange32(_ offset: Int, _ expected: UInt32, _ desired: UInt32) -> Bool {
        crashPoint()
        return unsafe word32(offset).pointee.compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).exchanged
    }
    @inline(__always) package func exchange32(_ offset: Int, _ value: UInt32) -> UInt32 {
        crashPoint()
        return unsafe word32(offset).pointee.exchange(value, ordering: .sequentiallyConsistent)
    }
    /// Sets the word where it is still as expected, undivided by signal handlers of this thread; others are kept off by
    /// a lock. Publishes everything written before.
    @inline(__always) package func moveOn64(_ offset: Int, from expected: UInt64, to value: UInt64) -> Bool {
        crashPoint()
        let word = unsafe base.advanced(by: offset).assumingMemoryBound(to: UInt64.self)
        return unsafe sk_move_on(word, expected, value) != 0
    }
    /// The same up to that value, from any that lies before it.
    @inline(__always) package func raise64(_ offset: Int, to value: UInt64) {
        while case let now = load64(offset), Int64(bitPattern: value &- now) > 0 {
            if moveOn64(offset, from: now, to: value) { return }
        }
    }
    @inline(__always) package func add64(_ offset: Int, _ value: UInt64) {
        crashPoint()
        unsafe word64(offset).pointee.wrappingAdd(value, ordering: .relaxed)
    }

    /// The part from `offset` on.
    @inline(__always) package func part(_ offset: Int) -> SharedMemory {
        unsafe SharedMemory(unsafe base.advanced(by: offset))
    }
    @inline(__always) package func copyIn(_ offset: Int, from source: UnsafeRawPointer, count: Int) {
        crashPoint()
        unsafe memcpy(base.advanced(by: offset), source, count)
    }
    @inline(__always) package func copyOut(_ offset: Int, to target: UnsafeMutableRawPointer, count: Int) {
        unsafe memcpy(target, base.advanced(by: offset), count)
    }
    package func zero(_ offset: Int, count: Int) {
        crashPoint()
        unsafe memset(base.advanced(by: offset), 0, count)
    }
}

/// In the build of Tests/Crash, where a process may be killed before each store; nothing elsewhere.
@inline(__always) private func crashPoint() {
    #if CRASH_POINTS
        sk_crash_point()
    #endif
}

/// Orders every earlier access before every later one; the writer's half of arm-and-look-again.
@inline(__always) package func fullFence() { atomicMemoryFence(ordering: .sequentiallyConsistent) }

/// Maps `size` bytes of fresh zeroed memory, or of `descriptor` from `offset`; nil when there is none.
package func map(size: Int, shared: Bool, descriptor: Int32 = -1, offset: Int = 0) -> UnsafeMutableRawPointer? {
    let flags = (shared ? MAP_SHARED : MAP_PRIVATE) | (descriptor < 0 ? MAP_ANONYMOUS : 0) | MAP_NORESERVE
    let address = unsafe sk_mmap(nil, size, PROT_READ | PROT_WRITE, flags, descriptor, offset)
    guard let address = unsafe address, UInt(bitPattern: address) < UInt.max - 4095 else { return nil }
    return unsafe address
}
