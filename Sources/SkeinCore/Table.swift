import CSystem

/// The socket table of this process: a control block (`ControlBlock.swift`) for each of its sockets, in a
/// memfd of its own that `skein ls` and `skein why` find through /proc/PID/fd.
///
/// The kernel takes it back with the process, at whatever instruction that ends. No other process writes
/// it, and none can shrink it (it is sealed), so a store here is never a signal. Nothing in it is needed to
/// carry data: where no table can be had, connections work without.
///
/// Call what changes it under the process lock.
@safe
package struct SocketTable {
    package static let name: StaticString = "skein-sockets"
    package static let magic: UInt32 = 0x544e_4b53  // "SKNT"
    /// Raised with each incompatible change of `Header` or `Record`. A number of its own: processes whose
    /// `Layout.version` differs never meet in memory, but one `skein ls` shows both.
    package static let version: UInt32 = 2
    /// A page; records follow it.
    package static let headerSize = 4096
    /// Two million sockets.
    package static let maximumSize = 512 << 20

    /// Words of the header.
    package enum Header {
        package static let magic = 0
        package static let version = 4
        package static let recordSize = 8
        /// `Layout.version` of the library.
        package static let layout = 12
        package static let owner = 16
        /// The errno that kept the totals from being written to the runtime folder.
        package static let totalsError = 20
        package static let startTime = 24
        /// The runtime folder: which host the process belongs to. Zeros where it has none.
        package static let folderDevice = 32
        package static let folderInode = 40
        /// For `settle`: connections made and ended that the totals' file lacks, bytes at which it is to get
        /// them and those that it has, the time of the last attempt, how long to wait until the next.
        package static let events = 48
        package static let bytesLimit = 56
        package static let bytesWritten = 64
        package static let lastAttempt = 72
        package static let patience = 80
        package static let attempts = 88
        /// A thread is writing the totals.
        package static let settling = 92
        /// `Totals`, those that the file lacks.
        package static let totals = 128
    }

    /// The process that the table belongs to; 0 for no table.
    package private(set) var owner: Int32 = 0
    package private(set) var startTime: UInt64 = 0
    private var descriptor: Int32 = -1
    private var inode: UInt64 = 0
    /// Bytes of the memfd that hold the header and records.
    private var size = 0
    package private(set) var header: SharedMemory?
    /// Where the memfd is mapped. The first chunk is mapped whole before it is filled; each later one doubles
    /// the size.
    private var chunks: UnsafeMutablePointer<SharedMemory>?
    private var chunkCount = 0
    private static let firstSize = 16 << 10
    private static let firstChunk = 64 << 10
    private static let chunksAtMost = 16
    /// Free records, the one used last on top: it is still in the cache.
    private var free: UnsafeMutablePointer<SharedMemory>?
    private var freeCount = 0
    private var freeRoom = 0
    /// Stands in for a record where there is no table; nobody reads it.
    private var spare: SharedMemory?

    package init() {}

    // MARK: Records

    /// A record for a socket of this process; `describe` says which. A stand-in where there is no memory.
    package mutating func claim() -> SharedMemory {
        if unsafe owner != process.processIdentifier { detach().unmap() }
        guard freeCount > 0 || grow() else { return standIn() }
        freeCount -= 1
        let record = unsafe free![freeCount]
        clearCounters(record)
        return record
    }

    /// The socket is closed.
    package mutating func give(_ record: SharedMemory) {
        record.store32(Record.checksum, 0)
        record.store32(Record.state, State.free)
        guard holds(record) else { return }
        countBytes(record)
        guard freeCount < freeRoom else { return }
        unsafe free![freeCount] = record
        freeCount += 1
    }

    /// Whether it is a record of this table, and no stand-in.
    package func holds(_ record: SharedMemory) -> Bool {
        for index in 0..<chunkCount {
            let distance = unsafe record.base - chunks![index].base
            if distance >= 0 && distance < chunkLength(index) { return true }
        }
        return false
    }

    private func clearCounters(_ record: SharedMemory) {
        record.store64(Record.bytesIn, 0)
        record.store64(Record.bytesOut, 0)
        record.store64(Record.sleeps, 0)
        record.store64(Record.bells, 0)
        record.store64(Record.spins, 0)
    }

    private mutating func standIn() -> SharedMemory {
        if let spare { return spare }
        guard let memory = unsafe allocate(4096) else {
            return unsafe SharedMemory(unsafe UnsafeMutableRawPointer(bitPattern: 4096)!)
        }
        let record = unsafe SharedMemory(unsafe memory)
        spare = record
        return record
    }

    // MARK: Memory

    private mutating func grow() -> Bool {
        let next = size == 0 ? SocketTable.firstSize : max(size * 2, SocketTable.firstChunk)
        guard next <= SocketTable.maximumSize, unsafe process.maySetUp, size > 0 || descriptor >= 0 || make(),
            isStillOurs(), canGrow(to: next),
            // Allocated, not sparse: where there is no memory this answers, and no store is a signal later.
            sk_fallocate(descriptor, 0, size, next - size) == 0, mapUp(to: next), enlistFree(from: size, to: next)
        else { return false }
        let isFirst = size == 0
        size = next
        if isFirst { writeHeader() }
        return true
    }

    private mutating func make() -> Bool {
        let made = unsafe sk_memfd_create(SocketTable.name.utf8Start, UInt32(MFD_CLOEXEC | MFD_ALLOW_SEALING))
        guard made >= 0 else { return false }
        let hidden = hide(Int32(made))
        var status = stat()
        guard hidden >= 0, let memory = unsafe allocate(SocketTable.chunksAtMost * MemoryLayout<SharedMemory>.stride),
            sk_fcntl(hidden, Int32(F_ADD_SEALS_), Int(F_SEAL_SHRINK_ | F_SEAL_SEAL_)) == 0,
            unsafe sk_fstat(hidden, &status) == 0
        else {
            if hidden >= 0 { _ = sk_close(hidden) }
            return false
        }
        descriptor = hidden
        unsafe chunks = unsafe memory.bindMemory(to: SharedMemory.self, capacity: SocketTable.chunksAtMost)
        inode = UInt64(status.st_ino)
        unsafe owner = process.processIdentifier
        startTime = ownStartTime()
        unsafe process.noteHidden?(hidden, true)
        return true
    }

    /// A program may have closed the number past the hooks and use it for a file of its own.
    private func isStillOurs() -> Bool {
        var status = stat()
        return unsafe sk_fstat(descriptor, &status) == 0 && UInt64(status.st_ino) == inode && status.st_nlink == 0
    }

    /// Past RLIMIT_FSIZE a file's growth is a signal, also that of a memfd.
    private func canGrow(to bytes: Int) -> Bool { fileSizeLimit() >= UInt64(bytes) }

    private mutating func mapUp(to next: Int) -> Bool {
        let start = size < SocketTable.firstChunk ? 0 : size
        let length = max(next, SocketTable.firstChunk) - start
        if start == 0 && chunkCount == 1 { return true }
        guard let chunk = unsafe map(size: length, shared: true, descriptor: descriptor, offset: start) else {
            return false
        }
        unsafe chunks![chunkCount] = unsafe SharedMemory(unsafe chunk)
        if chunkCount == 0 { header = unsafe chunks![0] }
        chunkCount += 1
        return true
    }

    private func chunkLength(_ index: Int) -> Int { SocketTable.firstChunk << max(index - 1, 0) }

    /// Puts the records between two sizes on the list of free ones, which is empty: a larger list takes its place.
    private mutating func enlistFree(from: Int, to: Int) -> Bool {
        let room = (to - SocketTable.headerSize) / SocketTable.recordSize
        let stride = MemoryLayout<SharedMemory>.stride
        guard let memory = unsafe allocate(room * stride) else { return false }
        if let old = unsafe free { unsafe _ = sk_munmap(old, freeRoom * stride) }
        unsafe free = unsafe memory.bindMemory(to: SharedMemory.self, capacity: room)
        freeRoom = room
        let start = from < SocketTable.firstChunk ? 0 : from
        let chunk = unsafe chunks![chunkCount - 1]
        var offset = to - SocketTable.recordSize
        while offset >= max(from, SocketTable.headerSize) {
            unsafe free![freeCount] = chunk.part(offset - start)
            freeCount += 1
            offset -= SocketTable.recordSize
        }
        return true
    }

    private func writeHeader() {
        guard let header else { return }
        header.store32(Header.version, SocketTable.version)
        header.store32(Header.recordSize, UInt32(SocketTable.recordSize))
        header.store32(Header.layout, Layout.version)
        header.store32(Header.owner, UInt32(bitPattern: owner))
        header.store64(Header.startTime, startTime)
        unsafe header.store64(Header.folderDevice, process.folderDevice)
        unsafe header.store64(Header.folderInode, process.folderInode)
        header.store64(Header.bytesLimit, Totals.bytesWorthWriting)
        header.store64(Header.patience, Totals.patience)
        header.release32(Header.magic, SocketTable.magic)
    }

    /// The program took the number `from`; what lay there is at `to` now.
    package mutating func moved(_ from: Int32, to: Int32) {
        if descriptor == from { descriptor = to }
    }

    /// For a forked child: leaves it without a table, and returns its parent's, still mapped: ask that one which
    /// records it `holds`, then `unmap` it. No process keeps another's table.
    package mutating func detach() -> SocketTable {
        let parents = self
        self = SocketTable()
        return parents
    }

    package func unmap() {
        guard owner != 0 else { return }
        for index in 0..<chunkCount {
            unsafe _ = sk_munmap(chunks![index].base, chunkLength(index))
        }
        let stride = MemoryLayout<SharedMemory>.stride
        if let free = unsafe free { unsafe _ = sk_munmap(free, freeRoom * stride) }
        if let chunks = unsafe chunks { unsafe _ = sk_munmap(chunks, SocketTable.chunksAtMost * stride) }
        if isStillOurs() {
            unsafe process.noteHidden?(descriptor, false)
            _ = sk_close(descriptor)
        }
    }

    // MARK: Totals

    /// A connection over memory is made.
    package func countConnection() {
        guard let header else { return }
        header.add64(Header.totals + Totals.memoryConnections, 1)
        header.add64(Header.events, 1)
    }

    /// A connection is made over TCP although this end is under Skein.
    package func countFallBack(_ reason: Reason) {
        guard let header else { return }
        header.add64(Header.totals + Totals.tcpConnections, 1)
        header.add64(Header.totals + Totals.fallBacks(reason.rawValue), 1)
        header.add64(Header.events, 1)
    }

    private func countBytes(_ record: SharedMemory) {
        guard let header else { return }
        header.add64(Header.totals + Totals.bytesIn, record.load64(Record.bytesIn))
        header.add64(Header.totals + Totals.bytesOut, record.load64(Record.bytesOut))
        header.add64(Header.events, 1)
    }

    /// Counts what open connections have moved, for a process that ends.
    package func countOpenConnections() {
        for index in 0..<chunkCount {
            let chunk = unsafe chunks![index]
            let filled = index == 0 ? min(size, SocketTable.firstChunk) : chunkLength(index)
            for offset in stride(from: index == 0 ? SocketTable.headerSize : 0, to: filled, by: SocketTable.recordSize)
            {
                let record = chunk.part(offset)
                if record.load32(Record.state) == State.connected { countBytes(record) }
                clearCounters(record)
            }
        }
    }
}
