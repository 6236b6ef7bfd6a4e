import SkeinCore

/// One process's socket table, read from its memory: hostile input, since that process writes it as it pleases.
struct Table {
    /// The process that made it, as that one sees itself.
    let owner: Int32
    /// `Layout.version` of its library.
    let layout: UInt32
    /// The runtime folder that makes the process's host; zeros where it has none.
    let folder: FolderIdentity
    /// Sums that the user's file doesn't have yet.
    let totals: Sums
    /// Why they can't be written; 0 when they can.
    let totalsError: Int32
    /// Of sockets that are open.
    private(set) var records: [SocketRecord] = []
    /// Records that make no sense and were left out.
    private(set) var nonsense = 0

    static let layoutVersion = Layout.version

    /// Why a table can't be used, and what to do about it.
    struct Unreadable: Error { let reason: String }

    init(_ file: borrowing File, of process: Process) throws(Unreadable) {
        typealias Header = SocketTable.Header
        let head = Table.header(of: file)
        guard head.count == SocketTable.headerSize, head.word(Header.magic) == SocketTable.magic else {
            throw Unreadable(reason: "has a damaged socket table, which is left out; its connections are not harmed")
        }
        let version: UInt32 = head.word(Header.version)
        guard version == SocketTable.version else {
            throw Unreadable(
                reason: "has a socket table of version \(version), and this command reads version "
                    + "\(SocketTable.version); use the 'skein' of that library to see its sockets")
        }
        owner = Int32(truncatingIfNeeded: head.word(Header.owner, as: UInt32.self))
        layout = head.word(Header.layout)
        folder = FolderIdentity(device: head.word(Header.folderDevice), inode: head.word(Header.folderInode))
        totals = Sums(head, at: Header.totals)
        totalsError = Int32(truncatingIfNeeded: head.word(Header.totalsError, as: UInt32.self))
        readRecords(file, of: process)
    }

    /// Its owner may be just making it, and lose the processor over that.
    private static func header(of file: borrowing File) -> Bytes {
        var head = Bytes([])
        for _ in 0..<patience {
            head = file.read(at: 0, count: SocketTable.headerSize)
            // Written last.
            if head.word(SocketTable.Header.magic) != UInt32(0) { break }
            pause(microseconds: 1000)
        }
        return head
    }

    /// Looks, a millisecond apart, at what may be in the middle of a change.
    private static let patience = 20
    /// Second looks that are left for the whole table: noise in all of it must not hold up who reads it.
    private var looks = 200

    private mutating func readRecords(_ file: borrowing File, of process: Process) {
        let block = 1 << 20
        var start = SocketTable.headerSize
        while start < SocketTable.maximumSize {
            let body = file.read(at: start, count: block)
            for offset in stride(from: 0, to: body.count - SocketTable.recordSize + 1, by: SocketTable.recordSize)
            where body.word(offset + SocketTable.Record.state) != SocketTable.State.free {
                if let record = SocketRecord(body, at: offset, of: process)
                    ?? again(file, at: start + offset, of: process)
                {
                    records.append(record)
                }
            }
            if body.count < block { return }
            start += block
        }
    }

    /// Looks at a record again. Without a checksum it is in the middle of a change, and no damage.
    private mutating func again(_ file: borrowing File, at offset: Int, of process: Process) -> SocketRecord? {
        var isSealed = true
        for round in 0..<Table.patience where (!isSealed || round < 3) && looks > 0 {
            looks -= 1
            let body = file.read(at: offset, count: SocketTable.recordSize)
            if body.word(SocketTable.Record.state) == SocketTable.State.free { return nil }
            if let record = SocketRecord(body, at: 0, of: process) { return record }
            isSealed = body.word(SocketTable.Record.checksum) != UInt32(0)
            pause(microseconds: 1000)
        }
        if isSealed { nonsense += 1 }
        return nil
    }
}

/// What tells one runtime folder, and so one host, from another.
struct FolderIdentity: Hashable {
    let device: UInt64
    let inode: UInt64
    static let none = FolderIdentity(device: 0, inode: 0)

    init(device: UInt64, inode: UInt64) {
        self.device = device
        self.inode = inode
    }

    /// Nil where there is no such folder.
    init?(of path: String) {
        guard let status = status(of: path) else { return nil }
        self.init(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }
}
