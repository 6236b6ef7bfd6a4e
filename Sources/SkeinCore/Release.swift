import CSystem

// What becomes of an end that its process has closed.

extension Endpoint {
    /// This process has given up its last descriptor of the end (its kernel close is done by then, or
    /// there never was one).
    package func release(connected: Bool) {
        withProcessLock {
            let last = block.subtract32(Block.holders, 1) == 0
            let shared = has(EndFlag.forked)
            unsafe process.table.give(local.pointee.record)
            unsafe local.pointee.wasLast = last
            unsafe local.pointee.wasAlone = last && !shared
            unsafe local.pointee.wasConnected = connected
            // Threads of others may still look at what was handed on.
            if unsafe sk_is_single_threaded() != 0 && !has(EndFlag.passed) && local.pointee.loans == 0 {
                return giveBack()
            }
            unsafe local.pointee.released = sk_now_coarse()
            unsafe departed.append(local)
            while let oldest = unsafe departed.first, unsafe oldest.pointee.loans == 0,
                unsafe sk_now_coarse() &- oldest.pointee.released > departureTime
            {
                unsafe departed.removeFirst()
                unsafe Endpoint(oldest).giveBack()
            }
        }
        unsafe process.table.settle()
    }

    /// Counts a holder for whoever the end is handed over to. Until the loan is over the end stays what it is, though another
    /// thread closes it. Under the process lock, while the process has it open.
    package func lend() {
        block.add32(Block.holders, 1)
        unsafe local.pointee.loans += 1
    }

    /// The holder that was counted is there from now on, or won't be.
    package func endLoan(isTaken: Bool) {
        withProcessLock {
            unsafe local.pointee.loans -= 1
            if !isTaken { block.subtract32(Block.holders, 1) }
        }
    }

    fileprivate func giveBack() {
        // A thread that still sleeps on this end must find its own memory when it wakes: neither the state nor
        // the block, nor the slot and its pool, are ever used for anything else.
        guard sleepersHere(.reading) == 0 && sleepersHere(.writing) == 0 else { return }
        let isReusable = unsafe local.pointee.wasAlone && local.pointee.wasConnected
        unsafe process.pools.release(
            local.pointee.pool, slot: local.pointee.slotIndex, end: end, generation: local.pointee.generation,
            reusable: isReusable)
        if unsafe local.pointee.wasLast { vacate(isReusable: isReusable) }
        unsafe process.blocks.release(block)
        if unsafe local.pointee.wasAlone {
            unsafe process.blocks.give(block)
        } else {
            unsafe process.blocks.lose(block)
        }
        unsafe localStates.give(local)
    }

    /// Nobody of this end needs the slot any more. One that is never used again goes back to the system once that holds
    /// for both ends: a server that forks for each client would keep all of them.
    private func vacate(isReusable: Bool) {
        guard isReusable else {
            // A process that nobody has counted may hold the end: what it still finds is no stream.
            set(EndFlag.violated)
            return vacate()
        }
        // What the pool's header says by now, before the look at the peer.
        fullFence()
        if peer.acquire32(Layout.state) & EndState.vacated != 0 { giveMemoryBack() }
    }

    /// The same at the end of a process that holds the end alone, where what runs after this may use it still.
    package func vacate() {
        mine.or32(Layout.state, EndState.vacated)
        let header = unsafe process.pools[local.pointee.pool].header
        let released = unsafe header.acquire32(Layout.released(slot: Int(local.pointee.slotIndex), end: 1 - end))
        if unsafe released == local.pointee.generation || peer.acquire32(Layout.state) & EndState.vacated != 0 {
            giveMemoryBack()
        }
    }

    /// The lines of both ends too: no byte of what is zero now counts as one of the stream.
    private func giveMemoryBack() { unsafe _ = sk_madvise(slot.base, Layout.slotStride, MADV_REMOVE) }
}

/// How long what is released is kept from other uses where there are threads, in nanoseconds: one of them may
/// have looked the descriptor up just before another closed it.
package let departureTime: UInt64 = 40_000_000

/// Released ends, the oldest first. Under the process lock.
@safe
private struct Departed {
    var first: UnsafeMutablePointer<LocalState>? = nil
    private var last: UnsafeMutablePointer<LocalState>? = nil

    mutating func append(_ local: UnsafeMutablePointer<LocalState>) {
        unsafe local.pointee.next = nil
        if let last = unsafe last { unsafe last.pointee.next = unsafe local } else { unsafe first = unsafe local }
        unsafe last = unsafe local
    }

    mutating func removeFirst() {
        unsafe first = unsafe first?.pointee.next
        if unsafe first == nil { unsafe last = nil }
    }
}

nonisolated(unsafe) private var departed = Departed()

/// For a forked child: what its parent has released is its parent's to give back.
package func forgetDeparted() { unsafe departed = Departed() }

/// For a process that is about to end, or has let what it has released rest.
package func giveBackDeparted() {
    withProcessLock {
        while let oldest = unsafe departed.first {
            unsafe departed.removeFirst()
            unsafe Endpoint(oldest).giveBack()
        }
    }
}
