import CSystem

/// A memfd full of private blocks: one that this process made, that it shares with its parent, or that came
/// with an end that was handed on.
@safe
private struct Arena {
    var base: UnsafeMutableRawPointer? = nil
    var size = 0
    /// Hidden.
    var descriptor: Int32 = -1
    var identity = MemoryIdentity()
    /// The process that takes blocks from it, by its `descent`; 0 for one that is adopted.
    var owner: UInt32 = 0
    /// Blocks that their owner needs no more and that others have held: a bit each, and their number.
    var lostBits: UnsafeMutablePointer<UInt64>? = nil
    var lost = 0
    /// Ends of this process whose blocks lie in it.
    var live = 0

    /// Says of the block at this offset whether it is lost. One that was handed on may come back, and go again.
    mutating func setLost(_ isLost: Bool, at offset: Int) {
        guard let bits = unsafe lostBits else { return }
        let (word, bit) = (offset / Block.size / 64, UInt64(1) << UInt64(offset / Block.size % 64))
        guard unsafe (bits[word] & bit != 0) != isLost else { return }
        unsafe bits[word] ^= bit
        lost += isLost ? 1 : -1
    }

    func offset(of block: SharedMemory) -> Int? {
        guard let base = unsafe base else { return nil }
        let distance = unsafe block.base - base
        return distance >= 0 && distance < size ? distance : nil
    }
}

/// Where private blocks come from: memory that forked children share, and whoever is handed an end.
/// A block is used again only by the process that took it, once no other process ever held it, or once each that did
/// has said that it doesn't any more. Any other is lost: somebody may look at it for as long as he lives. When all
/// blocks of an arena are lost, fresh memory takes its place here, and the old one goes with the last who maps it.
/// Call everything here under the process lock.
@safe
package struct BlockArenas {
    private var arenas: UnsafeMutablePointer<Arena>?
    private var count = 0
    /// Blocks that nobody has had: from here to there. nil first, for none.
    private var next: UnsafeMutableRawPointer?
    private var end: UnsafeMutableRawPointer?
    private var owner: UInt32 = 0
    /// Free blocks, linked through their first word.
    private var free: UnsafeMutableRawPointer?

    private static let maximum = 1024
    private static let fewestBlocks = 256
    private static let mostBlocks = 4096
    /// Arenas of others that no end of this process needs at the moment, kept for the next end.
    private static let idleKept = 8

    /// Fresh memory was to be had but for a descriptor.
    package private(set) var lacksDescriptor = false

    package init() {}

    /// Has a block ready for the next `take`; false where a descriptor is missing for that.
    package mutating func prepare() -> Bool {
        leaveToParent()
        return unsafe free != nil || hasFresh || grow() || !lacksDescriptor
    }

    /// What this process has not taken itself is not its own.
    private mutating func leaveToParent() {
        let me = unsafe process.descent
        if owner == me { return }
        owner = me
        unsafe next = nil
        unsafe end = nil
        unsafe free = nil
    }

    private var hasFresh: Bool { unsafe next != nil && next != end }

    /// A zeroed block; nil when no memory can be had.
    package mutating func take() -> SharedMemory? {
        leaveToParent()
        if let block = unsafe free {
            unsafe free = unsafe block.load(as: UnsafeMutableRawPointer?.self)
            unsafe memset(block, 0, Block.size)
            return use(unsafe SharedMemory(unsafe block))
        }
        if !hasFresh && !grow() { return nil }
        let block = unsafe next!
        unsafe next = unsafe block.advanced(by: Block.size)
        return use(unsafe SharedMemory(unsafe block))
    }

    private mutating func grow() -> Bool {
        var live = 0
        for index in 0..<count where unsafe arenas![index].owner == owner { unsafe live += arenas![index].live }
        let blocks = min(max(live, BlockArenas.fewestBlocks), BlockArenas.mostBlocks)
        let descriptor = makeSealedMemory(size: blocks * Block.size)
        lacksDescriptor = descriptor == -EMFILE
        guard descriptor >= 0 else { return false }
        guard let index = add(descriptor, size: blocks * Block.size) else {
            _ = sk_close(descriptor)
            return false
        }
        unsafe arenas![index].owner = owner
        unsafe arenas![index].lostBits = unsafe allocate((blocks + 63) / 64 * 8)?
            .bindMemory(to: UInt64.self, capacity: (blocks + 63) / 64)
        let base = unsafe arenas![index].base!
        // In this order: a signal handler may leave by longjmp at any time.
        unsafe next = nil
        fullFence()
        unsafe end = unsafe base.advanced(by: blocks * Block.size)
        fullFence()
        unsafe next = unsafe base
        return true
    }

    /// Only for a block that this process took and never shared.
    package mutating func give(_ block: SharedMemory) {
        guard owns(block) else { return }
        unsafe push(block.base)
    }

    private mutating func push(_ block: UnsafeMutableRawPointer) {
        unsafe block.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
        unsafe free = unsafe block
    }

    /// For a block that this process needs no more and that others have held.
    package mutating func lose(_ block: SharedMemory) {
        guard let index = find(block), unsafe arenas![index].owner == process.descent,
            let offset = unsafe arenas![index].offset(of: block)
        else { return }
        unsafe arenas![index].setLost(true, at: offset)
        let arena = unsafe arenas![index]
        if arena.lost == arena.size / Block.size && arena.live == 0 { renew(index) }
    }

    /// Fresh memory at the same addresses: a thread may still look there.
    private mutating func renew(_ index: Int) {
        let old = unsafe arenas![index]
        let descriptor = makeSealedMemory(size: old.size)
        guard descriptor >= 0 else { return }
        let base = unsafe sk_mmap(
            old.base, old.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, descriptor, 0)
        guard unsafe base == old.base, let base = unsafe base, let identity = MemoryIdentity(descriptor) else {
            _ = sk_close(descriptor)
            return
        }
        unsafe process.noteHidden?(old.descriptor, false)
        _ = sk_close(old.descriptor)
        unsafe process.noteHidden?(descriptor, true)
        unsafe arenas![index].descriptor = descriptor
        unsafe arenas![index].identity = identity
        for offset in stride(from: 0, to: old.size, by: Block.size) {
            unsafe arenas![index].setLost(false, at: offset)
        }
        for offset in stride(from: 0, to: old.size, by: Block.size) { unsafe push(base.advanced(by: offset)) }
    }

    /// Whether this process took the block; then its memory stays mapped.
    package func owns(_ block: SharedMemory) -> Bool {
        guard let index = find(block) else { return false }
        return unsafe arenas![index].owner == process.descent
    }

    // MARK: Ends that are handed on

    /// Where a block lies: what another process needs to map it. nil where it can't be handed on.
    package func place(of block: SharedMemory) -> (descriptor: Int32, offset: Int)? {
        guard let index = find(block), let offset = unsafe arenas![index].offset(of: block),
            unsafe arenas![index].descriptor >= 0
        else { return nil }
        return unsafe (arenas![index].descriptor, offset)
    }

    /// The block of an end that another process handed on: mapped once, after the memory was checked. The
    /// caller keeps its own descriptor.
    package mutating func adopt(_ descriptor: Int32, offset: Int) -> SharedMemory? {
        guard offset >= 0, offset % Block.size == 0, let identity = MemoryIdentity(descriptor) else { return nil }
        var index = 0
        while index < count, unsafe arenas![index].base == nil || arenas![index].identity != identity { index += 1 }
        if index == count {
            guard let size = sealedSize(of: descriptor), size % Block.size == 0, size > 0,
                case let kept = hiddenCopy(of: descriptor), kept >= 0
            else { return nil }
            guard let added = add(kept, size: size) else {
                _ = sk_close(kept)
                return nil
            }
            index = added
        }
        guard unsafe offset < arenas![index].size else { return nil }
        unsafe arenas![index].setLost(false, at: offset)
        return use(unsafe SharedMemory(unsafe arenas![index].base!.advanced(by: offset)))
    }

    private func use(_ block: SharedMemory) -> SharedMemory {
        if let index = find(block) { unsafe arenas![index].live += 1 }
        return block
    }

    /// An end of this process needs the block no more.
    package mutating func release(_ block: SharedMemory) {
        if let index = find(block) { unsafe arenas![index].live -= 1 }
    }

    /// The program took the number `from`; what lay there is at `to` now.
    package mutating func moved(_ from: Int32, to: Int32) {
        for index in 0..<count where unsafe arenas![index].descriptor == from {
            unsafe arenas![index].descriptor = to
        }
    }

    /// For a relay that has been forked: no memory of its maker's connections is held on to.
    package mutating func unmapAll() {
        for index in 0..<count {
            if let base = unsafe arenas![index].base { unsafe _ = sk_munmap(base, arenas![index].size) }
        }
        self = BlockArenas()
    }

    // MARK: The list of arenas

    private func find(_ block: SharedMemory) -> Int? {
        // The newest first: short connections live there.
        var index = count - 1
        while index >= 0 {
            if unsafe arenas![index].offset(of: block) != nil { return index }
            index -= 1
        }
        return nil
    }

    private mutating func add(_ descriptor: Int32, size: Int) -> Int? {
        guard let index = vacancy(), let identity = MemoryIdentity(descriptor),
            let base = unsafe map(size: size, shared: true, descriptor: descriptor)
        else { return nil }
        // Before the first lock of an end.
        sk_find_robust_list()
        unsafe arenas![index] = Arena(base: base, size: size, descriptor: descriptor, identity: identity)
        unsafe process.noteHidden?(descriptor, true)
        return index
    }

    /// An unused entry. What others made and no end here needs is unmapped, but for a few.
    private mutating func vacancy() -> Int? {
        if unsafe arenas == nil {
            guard let memory = unsafe allocate(BlockArenas.maximum * MemoryLayout<Arena>.stride) else { return nil }
            unsafe arenas = unsafe memory.bindMemory(to: Arena.self, capacity: BlockArenas.maximum)
        }
        var vacant: Int? = nil
        var idle = 0
        for index in 0..<count {
            let arena = unsafe arenas![index]
            if unsafe arena.base == nil {
                vacant = index
            } else if unsafe arena.live == 0 && arena.owner != process.descent {
                idle += 1
                if idle <= BlockArenas.idleKept { continue }
                unsafe _ = sk_munmap(arena.base, arena.size)
                unsafe process.noteHidden?(arena.descriptor, false)
                _ = sk_close(arena.descriptor)
                unsafe arenas![index] = Arena()
                vacant = index
            }
        }
        if let vacant { return vacant }
        guard count < BlockArenas.maximum else { return nil }
        count += 1
        return count - 1
    }
}

/// Values of one type, recycled and never unmapped: a thread that lost a race with a close may still look
/// at one. Call under the process lock.
@safe
package struct Cells<Value> {
    /// Free cells. The link lies behind the value, so that a late look finds the value as it was.
    private var free: UnsafeMutableRawPointer?
    private static var link: Int { (MemoryLayout<Value>.size + 7) & ~7 }
    private static var stride: Int { (link + 8 + 63) & ~63 }
    private static var cellsAtOnce: Int { max(4096 / stride, 1) }

    package init() {}

    package mutating func take(_ value: Value) -> UnsafeMutablePointer<Value>? {
        if unsafe free == nil {
            guard let memory = unsafe allocate(Self.stride * Self.cellsAtOnce) else { return nil }
            for index in 0..<Self.cellsAtOnce { unsafe push(memory.advanced(by: index * Self.stride)) }
        }
        let cell = unsafe free!
        unsafe free = unsafe cell.load(fromByteOffset: Self.link, as: UnsafeMutableRawPointer?.self)
        let place = unsafe cell.bindMemory(to: Value.self, capacity: 1)
        unsafe place.initialize(to: value)
        return unsafe place
    }

    package mutating func give(_ cell: UnsafeMutablePointer<Value>) { unsafe push(UnsafeMutableRawPointer(cell)) }

    private mutating func push(_ cell: UnsafeMutableRawPointer) {
        unsafe cell.storeBytes(of: free, toByteOffset: Self.link, as: UnsafeMutableRawPointer?.self)
        unsafe free = unsafe cell
    }
}
