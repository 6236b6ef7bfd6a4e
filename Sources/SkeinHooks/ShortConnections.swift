import CSystem

// A process that hands its connections on to workers pays for each about what ten requests save. Where they
// turn out to be short, its listener is TCP's from then on: such a program is never slower than without us.

/// The connections last handed on, by their private blocks, in which their ends can be read.
@safe
private struct HandedOn {
    static let window = 256
    /// How many of the oldest are judged, and how many of these must be short.
    static let judged = 64
    static let shortEnough = 48
    /// Judged first when the oldest have had time to end, and then now and then.
    static let beginning = 96
    static let interval = 16
    /// Bytes both ways; a dozen small requests.
    static let shortAtMost: UInt64 = 4096

    private var blocks = InlineArray<256, UInt>(repeating: 0)
    private var count = 0
    private var owner: UInt32 = 0

    mutating func add(_ block: SharedMemory) {
        if unsafe owner != process.descent { unsafe (owner, count) = (process.descent, 0) }
        blocks[count % HandedOn.window] = UInt(bitPattern: unsafe block.base)
        count += 1
    }

    var areShort: Bool {
        guard count >= HandedOn.beginning, count % HandedOn.interval == 0 else { return false }
        var short = 0
        let oldest = max(count - HandedOn.window, 0)
        for index in oldest..<oldest + HandedOn.judged {
            let base = unsafe UnsafeMutableRawPointer(bitPattern: blocks[index % HandedOn.window])!
            let block = unsafe SharedMemory(unsafe base)
            // Zeros are fresh memory in place of it.
            if block.load32(Block.holders) == 0 && block.load32(Block.family) != 0
                && block.load64(Block.head) &+ block.load64(Block.tail) <= HandedOn.shortAtMost
            {
                short += 1
            }
        }
        return short >= HandedOn.shortEnough
    }
}

nonisolated(unsafe) private var handedOn = HandedOn()

/// Notes that an accepted connection has been handed on by SCM_RIGHTS; leaves its listener to TCP where such
/// connections are short.
func noteHandedOn(_ end: Endpoint) {
    let areShort = withProcessLock { () -> Bool in
        // A block of this process's own, which is never unmapped.
        guard end.end == 1, unsafe process.blocks.owns(end.block) else { return false }
        unsafe handedOn.add(end.block)
        return unsafe handedOn.areShort
    }
    guard areShort, unsafe !rules.isStrict else { return }
    let port = end.block.load32(Block.localPort)
    for number in 0..<programEnd {
        guard let socket = unsafe listedSocket(number), unsafe socket.pointee.hidden >= 0,
            unsafe !socket.pointee.isSTP && !socket.pointee.hiddenIsShut,
            unsafe UInt32(socket.pointee.bound4or6.port) == port
        else { continue }
        unsafe beginLeaving(socket, for: .shortHandedOn)
    }
}
