import SkeinCore

/// One socket as `skein ls` shows it: what its record says, and what its memory or the kernel adds.
struct ListedSocket {
    let record: SocketRecord
    /// The kernel's number of it.
    let inode: UInt64
    /// `Layout.version` of its library: only equal ones meet in memory.
    let layout: UInt32
    /// In netstat's words where it has one.
    private(set) var state: String
    private(set) var local: Address
    /// Nil for a socket without one.
    private(set) var peer: Address?
    /// Nil where nobody counts them for us.
    private(set) var bytesIn: UInt64?
    private(set) var bytesOut: UInt64?
    /// Bells rung for sleepers of the other end, and waits of this one that looking ended; nil for TCP.
    var bells: UInt64? { record.isOnMemory ? record.bells : nil }
    var spins: UInt64? { record.isOnMemory ? record.spins : nil }
    /// Bytes that have come and were not read here; bytes sent and not read there. Nil where we can't look.
    private(set) var waitingIn: UInt64?
    private(set) var waitingOut: UInt64?

    var process: Process { record.process }
    var role: String {
        switch record.role {
        case .client: "client"
        case .server: "server"
        case .none: record.state == .listening ? "listener" : "unconnected"
        }
    }
    var carrier: String { record.isOnMemory ? "memory" : "tcp" }

    /// Why it is not on memory; nil when it is.
    var reason: String? {
        if record.isOnMemory { return nil }
        return Reason(rawValue: record.reason).map { "\($0.text)" } ?? "reason \(record.reason) of another version"
    }

    init(_ record: SocketRecord, inode: UInt64, layout: UInt32) {
        self.record = record
        self.inode = inode
        self.layout = layout
        local = record.local
        peer = record.state == .connected ? record.peer : nil
        switch record.state {
        case .unconnected: state = "unconnected"
        case .listening: state = "listening"
        case .connected: state = "established"
        }
        guard record.isOnMemory else { return }
        bytesIn = record.bytesIn
        bytesOut = record.bytesOut
        if record.state == .connected { return }
        waitingIn = 0
        waitingOut = 0
    }

    /// What the memory that both ends share says now, where it can be read, and whether the other end is gone.
    mutating func add(_ slot: Slot?, hungUp: Bool) {
        let end = record.role == .client ? 0 : 1
        if let slot {
            waitingIn = slot.waiting(for: end)
            waitingOut = slot.waiting(for: 1 - end)
            state = slot.state(of: end)
        }
        if !hungUp { return }
        waitingOut = 0
        state = state == "fin_wait" || state == "closing" ? "closing" : state == "reset" ? "reset" : "close_wait"
    }

    /// What the kernel says of a TCP socket.
    mutating func add(_ socket: KernelSockets.TCPSocket?, _ counters: KernelCounters.Pair?) {
        guard let socket else {
            state = "closed"
            return
        }
        state = socket.state
        local = socket.local
        if socket.isListening {
            waitingIn = 0
            waitingOut = 0
            return
        }
        peer = socket.peer
        // The kernel counts the peer's end of file as a byte.
        let end: UInt64 = state == "close_wait" || state == "closing" ? 1 : 0
        waitingIn = max(socket.waitingIn, end) - end
        waitingOut = socket.waitingOut
        bytesIn = counters.map { max($0.bytesIn, end) - end }
        bytesOut = counters?.bytesOut
    }
}
