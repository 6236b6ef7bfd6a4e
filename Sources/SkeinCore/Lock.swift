import CSystem

/// A lock in a private block: the owner's thread id and a generation, eight bytes.
///
/// Held across no wait. A signal handler that comes in while its own thread holds it, a handler's
/// longjmp and a holder that died all end the same way: somebody takes the lock over and raises the
/// generation, and the first holder, if it is ever back, sees that before it publishes its cursor and
/// starts again. A cursor moves by one store, so whoever takes over finds the ring consistent.
@safe
package struct Lock {
    let memory: SharedMemory
    let offset: Int

    package init(_ memory: SharedMemory, _ offset: Int) {
        self.memory = memory
        self.offset = offset
    }

    /// Returns the generation, which `holds` and `release` want back.
    @inline(__always) package func acquire() -> UInt32 {
        let me = UInt32(truncatingIfNeeded: sk_thread_id())
        if !memory.compareExchange32(offset, 0, me) { acquireSlowly(me) }
        return memory.load32(offset + 4)
    }

    /// As `acquire`, but nil at once where another thread has it.
    package func tryAcquire() -> UInt32? {
        let me = UInt32(truncatingIfNeeded: sk_thread_id())
        if !memory.compareExchange32(offset, 0, me) {
            guard memory.load32(offset) == me else { return nil }
            memory.add32(offset + 4, 1)
        }
        return memory.load32(offset + 4)
    }

    /// False when somebody took the lock over.
    @inline(__always) package func holds(_ generation: UInt32) -> Bool {
        memory.load32(offset + 4) == generation
    }

    @inline(__always) package func release(_ generation: UInt32) {
        if memory.load32(offset + 4) == generation { memory.release32(offset, 0) }
    }

    /// For a thread that leaves by longjmp whatever it is doing under the lock. False where it doesn't have it.
    @discardableResult package func abandon() -> Bool {
        guard memory.load32(offset) == UInt32(truncatingIfNeeded: sk_thread_id()) else { return false }
        memory.add32(offset + 4, 1)
        memory.release32(offset, 0)
        return true
    }

    @inline(never) private func acquireSlowly(_ me: UInt32) {
        var round = 0
        while true {
            let owner = memory.load32(offset)
            if owner == 0 {
                if memory.compareExchange32(offset, 0, me) { return }
                continue
            }
            let takeOver = owner == me || (round & 1023 == 1023 && isGone(owner))
            if takeOver && memory.compareExchange32(offset, owner, me) {
                memory.add32(offset + 4, 1)
                return
            }
            round += 1
            if round < 64 { sk_pause() } else { sk_yield() }
        }
    }
}

/// Whether a thread has ended. One that was killed answers signals until its parent has waited for it,
/// which may be the very process that waits for the lock: then its state in /proc tells.
private func isGone(_ thread: UInt32) -> Bool {
    guard unsafe process.mayProbe else { return false }
    if sk_kill(Int32(bitPattern: thread), 0) == -Int(ESRCH) { return true }
    var path = Text("/proc/")
    path.append(decimal: UInt64(thread))
    path.append("/stat")
    let file = unsafe path.withCString { unsafe sk_openat(-100, $0, O_RDONLY | O_CLOEXEC, 0) }
    guard file >= 0 else { return false }
    defer { _ = sk_close(Int32(file)) }
    var text = InlineArray<128, UInt8>(repeating: 0)
    let count = unsafe withUnsafeMutableBytes(of: &text) { unsafe sk_read(Int32(file), $0.baseAddress!, 128) }
    // The name before the state is in brackets and may hold anything.
    var index = count - 1
    while index > 0 && text[index] != 41 { index -= 1 }
    guard index > 0, index + 2 < count else { return false }
    return text[index + 2] == 90 || text[index + 2] == 88  // Z, X
}
