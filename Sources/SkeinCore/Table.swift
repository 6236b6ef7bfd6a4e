import CSystem

/// The socket table of one user in the host's runtime folder: fixed-size socket control blocks that
/// `skein ls` and `skein why` read. A record belongs to the process that claimed it; one whose owner
/// is gone is free. Nothing in the table is needed to carry data: without it connections still work.
@safe
package struct SocketTable {
    private var base: SharedMemory?
    private var count = 0
    private var cursor = 0
    /// Stands in where there is no table.
    private var spare: SharedMemory?

    package static let magic: UInt32 = 0x544e_4b53  // "SKNT"
    package static let headerSize = 4096
    package static let recordSize = 256
    package static let initialCount = 4096

    package init() {}

    package var isOpen: Bool { base != nil }
    /// The errno that kept the table from being made.
    package private(set) var error: Int32 = 0

    /// Words of the header.
    package enum Header {
        package static let magic = 0
        package static let version = 4
        package static let recordSize = 8
        package static let recordCount = 12
        package static let memoryConnections = 64
        package static let tcpConnections = 72
        package static let bytesIn = 80
        package static let bytesOut = 88
    }

    /// Words of a record. `owner` is claimed first and given up last.
    package enum Record {
        package static let owner = 0
        package static let role = 4
        package static let startTime = 8
        package static let descriptor = 16
        package static let carrier = 20
        package static let reason = 24
        package static let family = 28
        package static let localAddress = 32
        package static let peerAddress = 48
        package static let localPort = 64
        package static let peerPort = 68
        package static let peerProcess = 72
        package static let state = 76
        package static let bytesIn = 80
        package static let bytesOut = 88
        package static let bells = 96
        package static let sleeps = 104
        package static let program = 128
        package static let programSize = 16
    }

    package enum Role {
        package static let client: UInt32 = 1
        package static let server: UInt32 = 2
        package static let listener: UInt32 = 3
        /// An STP socket that is neither connected nor listening.
        package static let unconnected: UInt32 = 4
    }

    /// Opens or makes the table below `folder` (a descriptor of the user's own folder).
    package mutating func open(folder: Int32) {
        guard base == nil else { return }
        for attempt in 0..<3 {
            var opened = unsafe sk_openat(folder, "sockets", O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
            if opened == -Int(ENOENT) { opened = make(folder) }
            guard opened >= 0 else {
                error = Int32(-opened)
                return
            }
            let descriptor = Int32(opened)
            if mapChecked(descriptor) {
                _ = sk_close(descriptor)
                return
            }
            _ = sk_close(descriptor)
            // Truncated, noise, or of another version: processes that have it mapped keep theirs.
            if attempt < 2 { _ = unsafe sk_renameat(folder, "sockets", folder, "sockets.unreadable") }
        }
    }

    /// Makes a whole table under a name of its own, then renames it into place.
    private func make(_ folder: Int32) -> Int {
        var name = Text("sockets.")
        name.append(decimal: UInt64(UInt32(bitPattern: unsafe process.processIdentifier)))
        return unsafe name.withCString { text -> Int in
            let made = unsafe sk_openat(folder, text, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o644)
            guard made >= 0 else { return made }
            let descriptor = Int32(made)
            let size = SocketTable.headerSize + SocketTable.initialCount * SocketTable.recordSize
            // Allocated, not sparse: a full file system answers here, not by a signal at the first store.
            var header: (UInt32, UInt32, UInt32, UInt32) = (
                SocketTable.magic, Layout.version, UInt32(SocketTable.recordSize), UInt32(SocketTable.initialCount)
            )
            let allocated = sk_fallocate(descriptor, 0, 0, size)
            guard allocated == 0, unsafe sk_write(descriptor, &header, 16) == 16,
                unsafe sk_renameat(folder, text, folder, "sockets") == 0
            else {
                _ = unsafe sk_unlinkat(folder, text, 0)
                _ = sk_close(descriptor)
                return allocated < 0 ? allocated : -Int(ENOSPC)
            }
            return made
        }
    }

    private mutating func mapChecked(_ descriptor: Int32) -> Bool {
        var status = stat()
        guard unsafe sk_fstat(descriptor, &status) == 0,
            Int(status.st_size) >= SocketTable.headerSize + SocketTable.recordSize,
            let address = unsafe map(size: Int(status.st_size), shared: true, descriptor: descriptor)
        else { return false }
        let memory = unsafe SharedMemory(unsafe address)
        let records = Int(memory.load32(Header.recordCount))
        guard memory.load32(Header.magic) == SocketTable.magic, memory.load32(Header.version) == Layout.version,
            memory.load32(Header.recordSize) == UInt32(SocketTable.recordSize), records > 0,
            Int(status.st_size) >= SocketTable.headerSize + records * SocketTable.recordSize
        else {
            unsafe _ = sk_munmap(address, Int(status.st_size))
            return false
        }
        base = memory
        count = records
        return true
    }

    /// The totals of all processes that used this table.
    package func addToTotal(_ offset: Int, _ amount: UInt64) {
        if let base { base.add64(offset, amount) }
    }

    /// A record of this process, or the spare one where there is no table or no room.
    package mutating func claim() -> SharedMemory {
        let me = UInt32(bitPattern: unsafe process.processIdentifier)
        if let base {
            for step in 0..<count {
                let index = (cursor + step) % count
                let record = base.part(SocketTable.headerSize + index * SocketTable.recordSize)
                let owner = record.load32(Record.owner)
                if owner == me && record.load32(Record.role) != 0 { continue }
                if owner != 0 && (step < 64 || sk_kill(Int32(bitPattern: owner), 0) != -Int(ESRCH)) { continue }
                guard record.compareExchange32(Record.owner, owner, me) else { continue }
                cursor = index + 1
                record.zero(4, count: SocketTable.recordSize - 4)
                return record
            }
        }
        if let spare { return spare }
        guard let memory = unsafe allocate(4096) else {
            return unsafe SharedMemory(unsafe UnsafeMutableRawPointer(bitPattern: 4096)!)
        }
        let record = unsafe SharedMemory(unsafe memory)
        spare = record
        return record
    }

    package mutating func give(_ record: SharedMemory) {
        if let spare, unsafe spare.base == record.base { return }
        guard record.load32(Record.owner) == UInt32(bitPattern: unsafe process.processIdentifier) else { return }
        addToTotal(Header.bytesIn, record.load64(Record.bytesIn))
        addToTotal(Header.bytesOut, record.load64(Record.bytesOut))
        record.store32(Record.role, 0)
        record.release32(Record.owner, 0)
    }
}
