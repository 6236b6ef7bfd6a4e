import SkeinCore

/// One user's socket table, read from its file: hostile input, since that user writes it as it pleases.
struct Table {
    /// What the table says of connections that are over, and counts of connections ever made.
    var totals = Totals()
    /// Records that some process claimed, living or not.
    var records: [SocketRecord] = []
    /// Records that make no sense and were left out.
    var nonsense = 0

    static let layoutVersion = Layout.version

    /// More than any table: what is beyond was not written by Skein.
    private static let sizeLimit = 64 << 20

    /// Why a table can't be used, and what to do about it.
    struct Unreadable: Error { let reason: String }

    init(_ file: borrowing File, user: UInt32) throws(Unreadable) {
        typealias Header = SocketTable.Header
        let head = file.read(at: 0, count: SocketTable.headerSize)
        guard head.count == SocketTable.headerSize else { throw Unreadable(reason: "is truncated (\(Table.remedy))") }
        guard head.word(Header.magic) == SocketTable.magic else {
            throw Unreadable(reason: "is no socket table (\(Table.remedy))")
        }
        let version: UInt32 = head.word(Header.version)
        guard version == Layout.version else {
            throw Unreadable(
                reason: "has layout \(version) and this command reads layout \(Layout.version); "
                    + "use the 'skein' of that version to see its sockets")
        }
        let count = Int(head.word(Header.recordCount, as: UInt32.self))
        guard head.word(Header.recordSize) == UInt32(SocketTable.recordSize), count > 0,
            count <= Table.sizeLimit / SocketTable.recordSize
        else { throw Unreadable(reason: "has a damaged header (\(Table.remedy))") }
        let body = file.read(at: SocketTable.headerSize, count: count * SocketTable.recordSize)
        guard body.count == count * SocketTable.recordSize else {
            throw Unreadable(reason: "is truncated (\(Table.remedy))")
        }
        totals = Totals(header: head)
        readRecords(body, count: count, user: user)
    }

    private static let remedy = "remove it; running programs keep theirs, and the next to start makes a new one"

    private mutating func readRecords(_ body: Bytes, count: Int, user: UInt32) {
        for index in 0..<count {
            let offset = index * SocketTable.recordSize
            let owner: UInt32 = body.word(offset + SocketTable.Record.owner)
            // Claimed but not filled in yet: a role of 0.
            guard owner != 0, body.word(offset + SocketTable.Record.role) != UInt32(0) else { continue }
            if let record = SocketRecord(body, at: offset, user: user) {
                records.append(record)
            } else {
                nonsense += 1
            }
        }
    }
}

/// The sums that `skein ls --json` ends with.
struct Totals {
    var memoryConnections: UInt64 = 0
    var tcpConnections: UInt64 = 0
    var bytesIn: UInt64 = 0
    var bytesOut: UInt64 = 0

    init() {}

    init(header: Bytes) {
        memoryConnections = header.word(SocketTable.Header.memoryConnections)
        tcpConnections = header.word(SocketTable.Header.tcpConnections)
        bytesIn = header.word(SocketTable.Header.bytesIn)
        bytesOut = header.word(SocketTable.Header.bytesOut)
    }

    /// Wraps around rather than trap: a hostile table may say anything.
    mutating func add(_ other: Totals) {
        memoryConnections &+= other.memoryConnections
        tcpConnections &+= other.tcpConnections
        bytesIn &+= other.bytesIn
        bytesOut &+= other.bytesOut
    }
}
