import CSystem

/// Where private blocks come from: memory that forked children share and nobody else maps.
/// A block is used again only by the process that took it, once no other process ever held it.
@safe
package struct BlockArena {
    private var next: UnsafeMutableRawPointer?
    private var left = 0
    private var owner: Int32 = 0
    /// Free blocks, linked through their first word.
    private var free: UnsafeMutableRawPointer?

    private static let blocksAtOnce = 256

    package init() {}

    package mutating func take() -> SharedMemory? {
        let me = unsafe process.processIdentifier
        if owner != me {
            owner = me
            unsafe next = nil
            left = 0
            unsafe free = nil
        }
        if let block = unsafe free {
            unsafe free = unsafe block.load(as: UnsafeMutableRawPointer?.self)
            unsafe memset(block, 0, Block.size)
            return unsafe SharedMemory(unsafe block)
        }
        if left == 0 {
            guard let fresh = unsafe map(size: Block.size * BlockArena.blocksAtOnce, shared: true) else { return nil }
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
        guard unsafe owner == process.processIdentifier else { return }
        unsafe block.base.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
        unsafe free = unsafe block.base
    }
}
