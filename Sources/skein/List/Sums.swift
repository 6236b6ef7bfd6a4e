import SkeinCore

/// The sums that `skein ls` ends with.
struct Sums {
    private(set) var memoryConnections: UInt64 = 0
    private(set) var tcpConnections: UInt64 = 0
    private(set) var bytesIn: UInt64 = 0
    private(set) var bytesOut: UInt64 = 0
    /// Connections that went over TCP, by the number of the reason.
    private(set) var fallBacks = [UInt64](repeating: 0, count: Sums.reasons)

    private typealias Offset = Totals
    private static let reasons = 24

    init() {}

    /// The counters that begin at `start`.
    init(_ bytes: Bytes, at start: Int) {
        memoryConnections = bytes.word(start + Offset.memoryConnections)
        tcpConnections = bytes.word(start + Offset.tcpConnections)
        bytesIn = bytes.word(start + Offset.bytesIn)
        bytesOut = bytes.word(start + Offset.bytesOut)
        fallBacks = (0..<UInt32(Sums.reasons)).map { bytes.word(start + Offset.fallBacks($0)) }
    }

    /// One user's, from its file.
    init(_ file: borrowing File) throws(Table.Unreadable) {
        let record = file.read(at: 0, count: Offset.Record.size)
        // Made, and not written yet.
        if record.count == 0 {
            self.init()
            return
        }
        guard record.count == Offset.Record.size, record.word(Offset.Record.magic) == Offset.magic,
            record.word(Offset.Record.checksum) == Offset.checksum({ record.word($0) })
        else {
            throw Table.Unreadable(reason: "is damaged; the next connection of its user begins it anew")
        }
        self.init(record, at: Offset.Record.counters)
    }

    /// Wraps around rather than trap: a hostile table may say anything.
    mutating func add(_ other: Sums) {
        memoryConnections &+= other.memoryConnections
        tcpConnections &+= other.tcpConnections
        bytesIn &+= other.bytesIn
        bytesOut &+= other.bytesOut
        for index in fallBacks.indices { fallBacks[index] &+= other.fallBacks[index] }
    }

    /// What an open connection has moved, which is in no total before it is closed.
    mutating func add(_ record: SocketRecord) {
        guard record.isOnMemory else { return }
        bytesIn &+= record.bytesIn
        bytesOut &+= record.bytesOut
    }

    /// Reasons that occurred, with the number of connections.
    var reasons: [(reason: Reason, count: UInt64)] {
        fallBacks.indices.compactMap { index in
            guard fallBacks[index] > 0, let reason = Reason(rawValue: UInt32(index)) else { return nil }
            return (reason, fallBacks[index])
        }
    }
}
