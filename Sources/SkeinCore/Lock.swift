import CSystem

/// A lock in memory of one process, or in the private block that all holders of an end map: the owner's thread
/// number and a generation, eight bytes.
///
/// Held across no wait. A signal handler that comes in while its own thread holds it, and a holder that died: both
/// end the same way. Somebody takes the lock over and raises the generation, and the first holder, if it is ever
/// back, sees that before it publishes its cursor and starts again. A cursor moves by one store, so whoever takes
/// over finds the ring consistent. A handler that leaves by longjmp gives up what its thread holds (`abandonHeld`).
///
/// The number is that of the owner's pid namespace, and one end may have holders in several: a thread never goes by the
/// number of another, and by its own only where it knows that it holds the lock. That an owner has died is
/// the kernel's word, which it writes into the lock, as into a robust mutex, when the thread ends.
@safe
package struct Lock {
    let memory: SharedMemory
    let offset: Int

    package init(_ memory: SharedMemory, _ offset: Int) {
        self.memory = memory
        self.offset = offset
    }

    var word: UnsafeMutableRawPointer { unsafe memory.base.advanced(by: offset) }

    /// Returns the generation, which `holds` and `release` want back.
    @inline(__always) package func acquire() -> UInt32 {
        while true {
            let isNested = unsafe sk_hold(word) != 0
            if !memory.compareExchange32(offset, 0, me) { acquireSlowly(isNested) }
            let generation = memory.load32(offset + 4)
            // Else a handler came in between, had the lock, and gave it up.
            if memory.load32(offset) == me { return generation }
        }
    }

    /// As `acquire`, but nil at once where another thread has it.
    package func tryAcquire() -> UInt32? {
        let isNested = unsafe sk_hold(word) != 0
        if memory.compareExchange32(offset, 0, me) || takeOver(isNested) { return memory.load32(offset + 4) }
        if !isNested { unsafe sk_let_go(word) }
        return nil
    }

    /// False when somebody took the lock over.
    @inline(__always) package func holds(_ generation: UInt32) -> Bool {
        memory.load32(offset + 4) == generation
    }

    @inline(__always) package func release(_ generation: UInt32) {
        if memory.load32(offset + 4) == generation { memory.release32(offset, 0) }
        unsafe sk_let_go(word)
    }

    /// For a thread that leaves by longjmp whatever it is doing under locks: gives all of them up.
    package static func abandonHeld() {
        while let word = unsafe sk_any_held() {
            let lock = unsafe Lock(SharedMemory(word), 0)
            if lock.memory.load32(0) == lock.me {
                lock.memory.add32(4, 1)
                lock.memory.release32(0, 0)
            }
            unsafe sk_let_go(word)
        }
    }

    /// For a forked child: what is held is its parent's.
    package static func forgetHeld() {
        while let word = unsafe sk_any_held() { unsafe sk_let_go(word) }
    }

    private var me: UInt32 { UInt32(truncatingIfNeeded: sk_thread_id()) }

    /// Takes the lock of an owner that won't go on with what it does. False where there is none, or somebody was faster.
    private func takeOver(_ isNested: Bool) -> Bool {
        let owner = memory.load32(offset)
        guard owner == Lock.orphaned || (isNested && owner == me), memory.compareExchange32(offset, owner, me) else {
            return false
        }
        memory.add32(offset + 4, 1)
        return true
    }

    /// What the kernel leaves of an owner that has died (FUTEX_OWNER_DIED).
    private static var orphaned: UInt32 { 0x4000_0000 }

    @inline(never) private func acquireSlowly(_ isNested: Bool) {
        var round = 0
        while true {
            if takeOver(isNested) { return }
            // Not noted during a wait: a handler that comes in must not take it for this thread's.
            if !isNested { unsafe sk_let_go(word) }
            while case let owner = memory.load32(offset),
                owner != 0 && owner != Lock.orphaned && (!isNested || owner != me)
            {
                round += 1
                if round < 64 { sk_pause() } else { sk_yield() }
            }
            if !isNested { unsafe _ = sk_hold(word) }
            if memory.compareExchange32(offset, 0, me) { return }
        }
    }
}
