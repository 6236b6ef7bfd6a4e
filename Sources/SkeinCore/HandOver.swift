import CSystem

/// One packet, with descriptors: everything that a process of the same user needs to hold an end too, as a
/// forked child would. A program hands its end to its relay so, and a relay to who has received the
/// stream that stands for the end.
package struct HandOver {
    package static let magic: UInt32 = 0x4f48_4b53  // "SKHO"

    package var magic = HandOver.magic
    package var version = Layout.version
    package var end: Int32 = 0
    package var slot: Int32 = 0
    package var generation: UInt32 = 0
    /// Whose pool it is.
    package var user: UInt32 = 0
    /// Where the private block lies in its memory.
    package var block: UInt64 = 0
    /// The kernel's number (`SO_COOKIE`) of the stream that stands for the end; 0 for none.
    package var stream: UInt64 = 0

    package init() {}
}

extension Endpoint {
    /// What another process needs to hold this end too, and the descriptors of its memory: the pool's and that
    /// of the private block. nil where one of them isn't kept.
    package func handOver() -> (message: HandOver, pool: Int32, block: Int32)? {
        withProcessLock {
            let pool = unsafe process.pools[local.pointee.pool]
            guard pool.memory >= 0, let place = unsafe process.blocks.place(of: block) else { return nil }
            var message = HandOver()
            message.end = Int32(end)
            message.slot = unsafe local.pointee.slotIndex
            message.generation = unsafe local.pointee.generation
            message.user = unsafe pool.descriptor >= 0 ? process.effectiveUser : pool.user
            message.block = UInt64(place.offset)
            return (message, pool.memory, place.descriptor)
        }
    }
}

extension Endpoint {
    /// The end goes to the relay of that name and user.
    package func beginRelaying(by relay: UInt32, of user: UInt32) {
        block.add32(Block.relays, 1)
        for index in 0..<Block.relayNamesKept where nameRelay(index, 0, relay) {
            block.store32(Block.relayUsers + index * 4, user)
            break
        }
        mine.or32(Layout.state, EndState.relayed)
    }

    /// A relay lets go of it, and has lost no byte.
    package func endRelaying(by relay: UInt32) {
        for index in 0..<Block.relayNamesKept where nameRelay(index, relay, 0) { break }
        guard block.subtract32(Block.relays, 1) == 0 else { return }
        mine.clear32(Layout.state, EndState.relayed)
        // Another one may have begun meanwhile.
        if block.load32(Block.relays) != 0 { mine.or32(Layout.state, EndState.relayed) }
    }

    /// The name of one that has it, 0 for none, and whose process that is.
    package func relay(_ index: Int) -> (name: UInt32, user: UInt32) {
        (block.load32(Block.relayNames + index * 4), block.load32(Block.relayUsers + index * 4))
    }

    /// Nobody answers to that name.
    package func forgetRelay(_ relay: UInt32) {
        for index in 0..<Block.relayNamesKept { _ = nameRelay(index, relay, 0) }
    }

    private func nameRelay(_ index: Int, _ old: UInt32, _ new: UInt32) -> Bool {
        block.compareExchange32(Block.relayNames + index * 4, old, new)
    }
}

/// The end that a message hands on, with memory from those descriptors, which stay the caller's. Who calls
/// counts the holder. nil when something about it is wrong, or for want of memory.
package func adoptEnd(_ message: HandOver, pool memory: Int32, block: Int32) -> Endpoint? {
    guard message.magic == HandOver.magic, message.version == Layout.version, message.end == 0 || message.end == 1,
        let offset = Int(exactly: message.block)
    else { return nil }
    return withProcessLock {
        guard case .pool(let pool) = unsafe process.pools.adopt(memory, slot: message.slot, user: message.user),
            let block = unsafe process.blocks.adopt(block, offset: offset)
        else { return nil }
        let place = PoolSet.Place(pool: pool, slot: message.slot, generation: message.generation)
        guard let end = makeEndpoint(place, end: Int(message.end), block: block) else {
            unsafe process.blocks.release(block)
            return nil
        }
        unsafe process.pools.use(pool)
        return end
    }
}
