import CSystem

/// Where private blocks come from: memory that forked children share and nobody else maps.
/// A block is used again only by the process that took it, once no other process ever held it. One that others
/// have held is lost: they may look at it for as long as they live. When all blocks of a page are lost, fresh
/// memory takes its place here, and the old one goes with the last who maps it.
@safe
package struct BlockArena {
    private var next: UnsafeMutableRawPointer?
    private var left = 0
    /// The process that takes from here, by its `descent`.
    private var owner: UInt32 = 0
    /// Free blocks, linked through their first word.
    private var free: UnsafeMutableRawPointer?

    private static let blocksAtOnce = 256
    private static let pageSize = 4096
    private static let blocksOfPage = BlockArena.pageSize / Block.size

    /// Memory that blocks are taken from, and how many of each of its pages are lost.
    @safe private struct Chunk {
        let base: UnsafeMutableRawPointer
        let next: UnsafeMutablePointer<Chunk>?
        var lost = InlineArray<16, UInt8>(repeating: 0)
    }
    private var chunks: UnsafeMutablePointer<Chunk>?
    private var chunkCells = Cells<Chunk>()

    package init() {}

    package mutating func take() -> SharedMemory? {
        let me = unsafe process.descent
        if owner != me {
            owner = me
            unsafe next = nil
            left = 0
            unsafe free = nil
            unsafe chunks = nil
        }
        if let block = unsafe free {
            unsafe free = unsafe block.load(as: UnsafeMutableRawPointer?.self)
            unsafe memset(block, 0, Block.size)
            return unsafe SharedMemory(unsafe block)
        }
        if left == 0 {
            guard let fresh = unsafe map(size: Block.size * BlockArena.blocksAtOnce, shared: true) else { return nil }
            if let chunk = unsafe chunkCells.take(Chunk(base: fresh, next: chunks)) { unsafe chunks = unsafe chunk }
            unsafe next = unsafe fresh
            left = BlockArena.blocksAtOnce
        }
        let block = unsafe next!
        unsafe next = unsafe block.advanced(by: Block.size)
        left -= 1
        return unsafe SharedMemory(unsafe block)
    }

    /// Only for a block that this process took and never shared.
    package mutating func give(_ block: SharedMemory) {
        guard unsafe owner == process.descent else { return }
        unsafe push(block.base)
    }

    private mutating func push(_ block: UnsafeMutableRawPointer) {
        unsafe block.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
        unsafe free = unsafe block
    }

    /// For a block that this process needs no more and that others have held.
    package mutating func lose(_ block: SharedMemory) {
        guard unsafe owner == process.descent else { return }
        var link = unsafe chunks
        while let chunk = unsafe link {
            let distance = unsafe block.base - chunk.pointee.base
            if distance >= 0 && distance < Block.size * BlockArena.blocksAtOnce {
                let page = distance / BlockArena.pageSize
                unsafe chunk.pointee.lost[page] += 1
                if unsafe Int(chunk.pointee.lost[page]) == BlockArena.blocksOfPage { unsafe renew(chunk, page) }
                return
            }
            unsafe link = unsafe chunk.pointee.next
        }
    }

    private mutating func renew(_ chunk: UnsafeMutablePointer<Chunk>, _ page: Int) {
        let place = unsafe chunk.pointee.base.advanced(by: page * BlockArena.pageSize)
        let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
        // Fails where the system's pages are larger.
        guard unsafe sk_mmap(place, BlockArena.pageSize, PROT_READ | PROT_WRITE, flags, -1, 0) == place else { return }
        unsafe chunk.pointee.lost[page] = 0
        for index in 0..<BlockArena.blocksOfPage { unsafe push(place.advanced(by: index * Block.size)) }
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
