import CSystem

/// One mapped pool: a memfd with slots, shared by one client process and the processes that serve one
/// listening socket. Its identity is the file's inode, which nobody can forge.
@safe
package struct Pool {
    package var base: UnsafeMutableRawPointer?
    /// Slots that are mapped, and the number of the first: one alone where addresses are short, else all.
    package var slots: Int32 = 0
    package var first: Int32 = 0
    /// The client's copy of the memfd, hidden; -1 in the process that accepted.
    package var descriptor: Int32 = -1
    /// The accepting process's copy of the memfd, for a connection that is handed on or given away; -1 where
    /// there are too many (`ProcessState.keepsMemory`).
    package var kept: Int32 = -1
    package var inode: UInt64 = 0
    package var device: UInt64 = 0
    /// The client's user.
    package var user: UInt32 = 0
    /// Whom the client reaches through it: the listener's cookie.
    package var listener: UInt64 = 0
    /// Ends of this process in it.
    package var live: Int32 = 0
    /// The process that made or adopted it, by its `descent`.
    package var owner: UInt32 = 0
    package var lastUsed: UInt64 = 0
    /// The client: generation in use of each slot (0 never), and behind those the one that it has released.
    /// The header says that too, where the server could write it.
    package var generations: UnsafeMutablePointer<UInt32>?
    static let generationsSize = 2 * Layout.poolMaximumSlots * 4
    package var cursor: Int32 = 0

    package init() {}

    /// This process's copy of the memfd; -1 for none.
    package var memory: Int32 { descriptor >= 0 ? descriptor : kept }
    package var size: Int { Layout.poolHeader + Int(slots) * Layout.slotStride }
    package var header: SharedMemory { unsafe SharedMemory(unsafe base!) }
    package func slot(_ index: Int32) -> SharedMemory {
        unsafe SharedMemory(unsafe base!.advanced(by: Layout.poolHeader + Int(index - first) * Layout.slotStride))
    }
}

/// All pools that this process maps. Call everything here under the process lock.
@safe
package struct PoolSet {
    private var pools: UnsafeMutablePointer<Pool>?
    private var count: Int32 = 0

    /// An address range kept for the time when no other is to be had; nil once it was needed.
    private var reserve: UnsafeMutableRawPointer?
    /// The reserve was needed: this process should take no more connections over memory.
    package private(set) var isShort = false

    package static let maximum = 4096
    /// How much of what no connection uses stays mapped. A program may have little room for addresses (RLIMIT_AS),
    /// and children inherit what is mapped.
    private static let idleKept = 32
    private static let idleBytesKept = 64 << 20

    package init() {}

    package subscript(index: Int32) -> Pool { unsafe pools![Int(index)] }

    package struct Place {
        package var pool: Int32
        package var slot: Int32
        package var generation: UInt32
    }

    /// Why `take` gave nothing.
    package private(set) var lack = Reason.noMemory

    /// A free slot towards `listener`, zeroed; nil when no memory can be had.
    package mutating func take(listener: UInt64) -> Place? {
        lack = .noMemory
        guard ready() else { return nil }
        let me = unsafe process.descent
        var largest: Int32 = 0
        for index in 0..<count where matches(index, listener: listener, owner: me) {
            unsafe largest = max(largest, pools![Int(index)].slots)
            if unsafe pools![Int(index)].live == pools![Int(index)].slots { continue }
            if let place = takeSlot(index) { return place }
        }
        var slots = largest == 0 ? 4 : min(largest * 4, Int32(Layout.poolMaximumSlots))
        while slots > 0 {
            if let index = makePool(slots: slots) {
                unsafe pools![Int(index)].listener = listener
                return takeSlot(index)
            }
            slots /= 4
        }
        return nil
    }

    private func matches(_ index: Int32, listener: UInt64, owner: UInt32) -> Bool {
        let pool = unsafe pools![Int(index)]
        return unsafe pool.base != nil && pool.descriptor >= 0 && pool.listener == listener && pool.owner == owner
    }

    private mutating func takeSlot(_ index: Int32) -> Place? {
        let pool = unsafe pools![Int(index)]
        for step in 0..<pool.slots {
            let slot = (pool.cursor + step) % pool.slots
            let generation = unsafe pool.generations![Int(slot)]
            let free =
                unsafe pool.generations![Layout.poolMaximumSlots + Int(slot)] == generation
                && pool.header.acquire32(Layout.released(slot: Int(slot), end: 1)) == generation
            guard free else { continue }
            let next = generation &+ 1 == 0 ? 1 : generation &+ 1
            unsafe pool.generations![Int(slot)] = next
            // The slot just given back is warm in the cache: take it again first.
            unsafe pools![Int(index)].cursor = slot
            unsafe pools![Int(index)].live += 1
            pool.slot(slot).zero(0, count: 2 * Layout.lineStride)
            return Place(pool: index, slot: slot, generation: next)
        }
        return nil
    }

    private mutating func makePool(slots: Int32) -> Int32? {
        guard let index = vacancy() else { return nil }
        var pool = Pool()
        pool.slots = slots
        let descriptor = makeSealedMemory(size: pool.size)
        guard descriptor >= 0 else {
            if descriptor == -EMFILE { lack = .noDescriptor }
            return nil
        }
        guard let base = unsafe mapWhole(pool.size, descriptor),
            let generations = unsafe allocate(Pool.generationsSize)
        else {
            _ = sk_close(descriptor)
            return nil
        }
        pool.descriptor = descriptor
        var status = stat()
        if unsafe sk_fstat(descriptor, &status) == 0 { pool.inode = UInt64(status.st_ino) }
        unsafe process.noteHidden?(descriptor, true)
        unsafe pool.base = unsafe base
        unsafe pool.generations = unsafe generations.assumingMemoryBound(to: UInt32.self)
        unsafe pool.owner = process.descent
        enter(pool, index)
        return index
    }

    package enum Adoption {
        case pool(Int32)
        /// It isn't as it must be.
        case refused
        case noMemory
    }

    /// The pool behind a memfd that a client sent, where it has that slot: mapped once, after everything about it was
    /// checked. An inode number means nothing without its device, and a pool serves the user who made it.
    package mutating func adopt(_ descriptor: Int32, slot: Int32, user: UInt32) -> Adoption {
        guard ready() else { return .noMemory }
        var status = stat()
        guard unsafe sk_fstat(descriptor, &status) == 0 else { return .refused }
        let inode = UInt64(status.st_ino)
        for index in 0..<count {
            let pool = unsafe pools![Int(index)]
            if unsafe pool.base != nil && pool.descriptor < 0 && pool.inode == inode
                && pool.device == UInt64(status.st_dev) && pool.user == user && slot >= pool.first
                && slot - pool.first < pool.slots
            {
                if pool.kept < 0 { keep(index, descriptor) }
                return .pool(index)
            }
        }
        guard let whole = sealedSize(of: descriptor), case let size = whole - Layout.poolHeader, size > 0,
            size % Layout.slotStride == 0, size / Layout.slotStride <= Layout.poolMaximumSlots,
            slot >= 0, Int(slot) < size / Layout.slotStride
        else { return .refused }
        guard let index = vacancy() else { return .noMemory }
        var pool = Pool()
        pool.slots = Int32(size / Layout.slotStride)
        pool.inode = inode
        pool.device = UInt64(status.st_dev)
        pool.user = user
        unsafe pool.base = unsafe mapWhole(pool.size, descriptor)
        if unsafe pool.base == nil {
            pool.slots = 1
            pool.first = slot
            unsafe pool.base = unsafe mapOne(slot, descriptor)
        }
        guard unsafe pool.base != nil else { return .noMemory }
        unsafe pool.owner = process.descent
        enter(pool, index)
        keep(index, descriptor)
        return .pool(index)
    }

    private func keep(_ index: Int32, _ descriptor: Int32) {
        guard unsafe process.keepsMemory || keptCount() < PoolSet.keptAtMost() else { return }
        let kept = hiddenCopy(of: descriptor)
        guard kept >= 0 else { return }
        unsafe process.noteHidden?(kept, true)
        unsafe pools![Int(index)].kept = kept
    }

    private func keptCount() -> Int {
        var total = 0
        for index in 0..<Int(count) where unsafe pools![index].kept >= 0 { total += 1 }
        return total
    }

    /// Copies of clients' memory count against the program's limit of descriptors: an eighth of it at most.
    private static func keptAtMost() -> Int { min(descriptorLimit() / 8, 256) }
    /// Beyond these few, the copy goes with the last connection: the next one brings it again.
    private static let keptIdle = 2

    /// For a relay that has been forked: no memory of its maker's connections is held on to.
    package mutating func unmapAll() {
        for index in 0..<Int(count) {
            let pool = unsafe pools![index]
            if let base = unsafe pool.base { unsafe _ = sk_munmap(base, pool.size) }
        }
        if let reserve = unsafe reserve { unsafe _ = sk_munmap(reserve, PoolSet.reserveSize) }
        self = PoolSet()
    }

    package mutating func use(_ index: Int32) { unsafe pools![Int(index)].live += 1 }

    /// This process has closed its end. `reusable`: no other process ever held it, so that the slot is
    /// free once the other end says the same.
    package mutating func release(_ index: Int32, slot: Int32, end: Int, generation: UInt32, reusable: Bool) {
        unsafe pools![Int(index)].live -= 1
        unsafe pools![Int(index)].lastUsed = sk_now()
        if unsafe pools![Int(index)].live == 0 && pools![Int(index)].kept >= 0 && keptCount() > PoolSet.keptIdle {
            unsafe close(pools![Int(index)].kept)
            unsafe pools![Int(index)].kept = -1
        }
        guard reusable else { return }
        self[index].header.release32(Layout.released(slot: Int(slot), end: end), generation)
        if end == 0, let own = unsafe self[index].generations {
            unsafe own[Layout.poolMaximumSlots + Int(slot)] = generation
        }
        // Never unmapped at once: another thread of a careless program may still be inside it.
    }

    // MARK: Addresses

    /// A whole pool; what is idle gives way where addresses are short.
    private mutating func mapWhole(_ size: Int, _ descriptor: Int32) -> UnsafeMutableRawPointer? {
        if let base = unsafe map(size: size, shared: true, descriptor: descriptor) { return unsafe base }
        trimIdle(toBytes: 0)
        return unsafe map(size: size, shared: true, descriptor: descriptor)
    }

    /// The header and one slot, side by side.
    private func mapOne(_ slot: Int32, _ descriptor: Int32) -> UnsafeMutableRawPointer? {
        let size = Layout.poolHeader + Layout.slotStride
        guard let base = unsafe map(size: size, shared: false) else { return nil }
        func place(_ offset: Int, _ count: Int, from position: Int) -> Bool {
            let flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED
            let target = unsafe base.advanced(by: offset)
            return unsafe sk_mmap(target, count, PROT_READ | PROT_WRITE, flags, descriptor, position) == target
        }
        let position = Layout.poolHeader + Int(slot) * Layout.slotStride
        if place(0, Layout.poolHeader, from: 0) && place(Layout.poolHeader, Layout.slotStride, from: position) {
            return unsafe base
        }
        unsafe _ = sk_munmap(base, size)
        return nil
    }

    /// For a process that listens: a client has its connection before we have mapped it, and can't be sent to TCP
    /// any more. So there is always room for one.
    package mutating func keepReserve() {
        if unsafe reserve != nil || isShort { return }
        unsafe reserve = unsafe map(size: PoolSet.reserveSize, shared: false)
    }
    /// A slot, and the little that an end needs beside it.
    private static let reserveSize = Layout.poolHeader + Layout.slotStride + (1 << 20)

    /// Makes the reserve free to be mapped; false where there is none.
    package mutating func spendReserve() -> Bool {
        guard let range = unsafe reserve else { return false }
        unsafe _ = sk_munmap(range, PoolSet.reserveSize)
        unsafe reserve = nil
        isShort = true
        return true
    }

    /// Unmaps what no connection uses, the longest idle first, down to so many bytes.
    private mutating func trimIdle(toBytes limit: Int) {
        while true {
            var oldest: Int32 = -1
            var idle = 0
            var bytes = 0
            for index in 0..<count {
                let pool = unsafe pools![Int(index)]
                guard unsafe pool.base != nil && pool.live == 0 else { continue }
                idle += 1
                bytes += pool.size
                if unsafe oldest < 0 || pool.lastUsed < pools![Int(oldest)].lastUsed { oldest = index }
            }
            if idle <= PoolSet.idleKept && bytes <= limit { return }
            unmap(oldest)
        }
    }

    /// Its address comes last, and goes first: a signal handler may leave by longjmp at any time.
    private func enter(_ pool: Pool, _ index: Int32) {
        var rest = pool
        unsafe rest.base = nil
        unsafe pools![Int(index)] = rest
        fullFence()
        unsafe pools![Int(index)].base = pool.base
    }

    private mutating func unmap(_ index: Int32) {
        let pool = unsafe pools![Int(index)]
        unsafe pools![Int(index)].base = nil
        fullFence()
        unsafe _ = sk_munmap(pool.base, pool.size)
        close(pool.descriptor)
        close(pool.kept)
        if let generations = unsafe pool.generations {
            unsafe _ = sk_munmap(generations, Pool.generationsSize)
        }
        unsafe pools![Int(index)] = Pool()
    }

    private func close(_ descriptor: Int32) {
        guard descriptor >= 0 else { return }
        unsafe process.noteHidden?(descriptor, false)
        _ = sk_close(descriptor)
    }

    /// The program took the number `from`; what lay there is at `to` now.
    package mutating func moved(_ from: Int32, to: Int32) {
        for index in 0..<Int(count) {
            if unsafe pools![index].descriptor == from { unsafe pools![index].descriptor = to }
            if unsafe pools![index].kept == from { unsafe pools![index].kept = to }
        }
    }

    /// Memory for the table of pools, on first use.
    private mutating func ready() -> Bool {
        if unsafe pools == nil {
            guard let memory = unsafe allocate(PoolSet.maximum * MemoryLayout<Pool>.stride) else { return false }
            unsafe pools = unsafe memory.bindMemory(to: Pool.self, capacity: PoolSet.maximum)
        }
        return true
    }

    /// An unused entry. Idle pools beyond those worth keeping are unmapped here.
    private mutating func vacancy() -> Int32? {
        trimIdle(toBytes: PoolSet.idleBytesKept)
        for index in 0..<count where unsafe pools![Int(index)].base == nil { return index }
        guard count < PoolSet.maximum else { return nil }
        count += 1
        return count - 1
    }
}
