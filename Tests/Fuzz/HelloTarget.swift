import CSystem
import Glibc
import SkeinCore

// A hello with any memory, and after it whatever the client writes into its slot: what an accepting process meets.

private struct Memory {
    let descriptor: Int32
    let isPool: Bool
}

/// Pools as they should be, and what is none: unsealed, of an odd size, sealed against writing, no memory at all.
private let memories: [Memory] = {
    identifyProcess()
    func make(_ slots: Int, size: Int = 0, seals: Int = 7) -> Memory {
        let descriptor = memfd_create("skein", 2 /* MFD_ALLOW_SEALING */)
        let size = Layout.poolHeader + slots * Layout.slotStride + size
        ftruncate(descriptor, size)
        _ = sk_fcntl(descriptor, 1033 /* F_ADD_SEALS */, seals)
        return Memory(descriptor: descriptor, isPool: seals == 7 && slots > 0 && size % 4096 == 0)
    }
    let plain = open("/dev/null", O_RDWR)
    return [
        make(1), make(3), make(2, size: 1), make(2, seals: 0), make(2, seals: 6), make(0),
        Memory(descriptor: plain, isPool: false),
    ]
}()

private let bounds: [Address] = {
    var any = Address.loopback(80)
    any.high = 0
    return [Address.loopback(80), any, any.mapped(), Address(stpPort: 80), Address()]
}()

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    let memory = memories[Int(choice) % memories.count]
    let bound = bounds[Int(choice >> 4) % bounds.count]
    var pair: (Int32, Int32) = (-1, -1)
    withUnsafeMutableBytes(of: &pair) {
        _ = sk_socketpair(AF_UNIX, 5 | 0o4000, 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
    }
    defer {
        close(pair.0)
        close(pair.1)
    }
    var hello = input.take(choice & 8 == 0 ? MemoryLayout<Hello>.size : Int(input.byte()))
    var sent = [memory.descriptor, pair.0, memory.descriptor]
    let descriptors = Int32(choice & 8 == 0 ? 1 : input.byte() & 3)
    _ = sk_send_descriptors(pair.0, &hello, hello.count, &sent, descriptors, 0)
    guard case .endpoint(let end) = acceptEnd(pair.1, hidden: pair.0, bound: bound) else { return 0 }
    require(memory.isPool, "no endpoint in memory that is no pool")
    end.local.pointee.descriptor = pair.1
    // Nobody has sent more than this.
    while !input.isEmpty { step(end, pair, &input) }
    end.release(connected: true)
    return 0
}

/// One thing that the client writes, and one that the server does.
private func step(_ end: Endpoint, _ pair: (Int32, Int32), _ input: inout Input) {
    let words = [
        Layout.tail, Layout.head, Layout.placement, Layout.state, Layout.hint, Layout.receiveLimit, Layout.urgent,
    ]
    let choice = input.byte()
    let line = choice & 64 == 0 ? end.peer : end.mine
    let place = words[Int(choice & 63) % words.count] & ~7
    line.store64(place, choice & 128 == 0 ? input.word() : line.load64(place) &+ UInt64(input.byte()))
    var bytes = [UInt8](repeating: 0, count: 3000)
    let action = input.byte()
    let peeks = action & 16 != 0
    switch action & 15 {
    case 0...3:
        let size = Int(input.byte()) * 11
        let count = bytes.withUnsafeMutableBytes { end.take(into: $0.baseAddress!, count: size, peek: peeks) }
        require(count <= size, "no more is taken than there is room for")
    case 4...6:
        let size = Int(input.byte()) * 11
        require(end.put(from: &bytes, count: size, urgent: peeks) <= size, "no more is put than there is")
    case 7: end.skipUrgent()
    case 8, 9: _ = end.takeUrgent(peek: peeks)
    case 10: require((0...2 << 20).contains(end.unsent()), "unsent")
    case 11: require((0...2 << 20).contains(end.writable()), "writable")
    case 12: _ = (end.atMark(), end.standsAtUrgent(), end.urgentWaits(), end.urgentFollows(3), end.isWritable())
    case 13: end.wakeAll(pair.1)
    case 14: _ = end.drain(pair.1, for: .reading, own: [], isReady: { end.isWritable() })
    default: end.noticeEnd(pair.1)
    }
    require((0...Layout.largeCapacity + Layout.smallCapacity).contains(end.readable()), "readable")
    _ = end.ending()
}
