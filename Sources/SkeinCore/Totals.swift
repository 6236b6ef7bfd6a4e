import CSystem

/// What the processes of one user have done since ever: a record of counters in a file of the user's own
/// folder below the runtime folder, for `skein ls`. It outlives the processes, which socket tables don't.
///
/// A process adds what it has counted now and then (`settle`), by one write under a lock that dies with it.
/// The file is read and written, never mapped: whoever cuts it short or fills it with noise loses the
/// totals, and no program notices.
package enum Totals {
    // Counters of eight bytes, in a table's header and in the file.
    package static let memoryConnections = 0
    package static let tcpConnections = 8
    package static let bytesIn = 16
    package static let bytesOut = 24
    /// Connections that went over TCP for a `Reason`.
    package static func fallBacks(_ reason: UInt32) -> Int { 32 + 8 * Int(min(reason, 23)) }
    package static let count = 28

    /// Raised with each incompatible change, and part of the file's name: old and new lie side by side.
    package static let version: UInt32 = 1
    package static let namePrefix: StaticString = "totals-"
    package static let magic: UInt32 = 0x534e_4b53  // "SKNS"

    /// Words of the file's one record; the counters follow.
    package enum Record {
        package static let checksum = 0
        package static let magic = 4
        package static let counters = 32
        package static let size = 256
    }

    // When a process writes: see `settle`.
    package static let attemptsAtOnce: UInt32 = 16
    package static let bytesWorthWriting: UInt64 = 64 << 10
    /// Nanoseconds.
    package static let patience: UInt64 = 100_000_000
    package static let patienceAtMost: UInt64 = 3_600_000_000_000

    /// A sum over the whole record but itself, which `word` reads by offsets.
    package static func checksum(_ word: (Int) -> UInt64) -> UInt32 {
        var sum = word(0) >> 32
        for offset in stride(from: 8, to: Record.size, by: 8) {
            sum = (sum ^ word(offset)) &* 0x9e37_79b9_7f4a_7c15
            sum ^= sum >> 32
        }
        return UInt32(truncatingIfNeeded: sum) | 1
    }
}

extension SocketTable {
    /// Adds what was counted to the user's totals: the first times at once, later ten times a second at most,
    /// or when many bytes have come together. Call it without the process lock, where a program expects
    /// system calls: at connect, accept and close.
    @inline(__always) package func settle() {
        if let header, header.load32(Header.attempts) < Totals.attemptsAtOnce || isDue(header) { settleNow() }
    }

    private func isDue(_ header: SharedMemory) -> Bool {
        sk_now_coarsely() &- header.load64(Header.lastAttempt) >= header.load64(Header.patience)
            || pendingBytes(header) >= header.load64(Header.bytesLimit)
    }

    private func pendingBytes(_ header: SharedMemory) -> UInt64 {
        header.load64(Header.totals + Totals.bytesIn) &+ header.load64(Header.totals + Totals.bytesOut)
    }

    /// At once; `ending` where the process ends or becomes something else, and this is its last chance.
    @inline(never) package func settleNow(ending: Bool = false) {
        guard let header, header.load64(Header.events) > 0, unsafe !process.isConfined,
            unsafe owner == process.processIdentifier, header.compareExchange32(Header.settling, 0, 1)
        else { return }
        header.store64(Header.lastAttempt, sk_now_coarsely())
        header.store32(Header.attempts, min(header.load32(Header.attempts), Totals.attemptsAtOnce) &+ 1)
        let error = write(header, ending)
        header.store32(Header.totalsError, UInt32(bitPattern: error))
        // What can't be written is kept, and tried more and more seldom.
        let patience = error == 0 ? Totals.patience : min(header.load64(Header.patience) &* 2, Totals.patienceAtMost)
        header.store64(Header.patience, patience)
        header.release32(Header.settling, 0)
    }

    private func write(_ header: SharedMemory, _ ending: Bool) -> Int32 {
        let events = header.load64(Header.events)
        let bytes = pendingBytes(header)
        var amounts = InlineArray<28, UInt64>(repeating: 0)
        for index in 0..<Totals.count { amounts[index] = header.load64(Header.totals + 8 * index) }
        let error = addToTotals(amounts, ending: ending)
        if error != 0 {
            header.store64(Header.bytesLimit, max(bytes, Totals.bytesWorthWriting) &* 2)
            return error
        }
        for index in 0..<Totals.count { header.add64(Header.totals + 8 * index, 0 &- amounts[index]) }
        header.add64(Header.events, 0 &- events)
        header.add64(Header.bytesWritten, bytes)
        header.store64(
            Header.bytesLimit, max(header.load64(Header.bytesWritten) / 16, Totals.bytesWorthWriting))
        return 0
    }
}

/// Adds to the file of the current user, which is made where there is none. 0 or the errno; EEXIST where
/// something else has its name.
package func addToTotals(_ amounts: InlineArray<28, UInt64>, ending: Bool = false) -> Int32 {
    guard fileSizeLimit() >= UInt64(Totals.Record.size) else { return EFBIG }
    let user = sk_geteuid()
    let folder = openOwnFolder(of: user)
    guard folder >= 0 else { return Int32(-folder) }
    defer { _ = sk_close(Int32(folder)) }
    var name = Text(Totals.namePrefix)
    name.append(decimal: UInt64(Totals.version))
    // Never waits, whatever lies there: a FIFO for one.
    let flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY
    let opened = unsafe name.withCString { unsafe sk_openat(Int32(folder), $0, flags, 0o644) }
    if opened == -Int(EISDIR) || opened == -Int(ELOOP) || opened == -Int(ENXIO) { return EEXIST }
    guard opened >= 0 else { return Int32(-opened) }
    let file = Int32(opened)
    defer { _ = sk_close(file) }
    var status = stat()
    guard unsafe sk_fstat(file, &status) == 0, status.st_mode & 0o170000 == 0o100000 /* S_IFREG */,
        status.st_uid == user
    else {
        return EEXIST
    }
    guard lock(file, attempts: ending ? 4096 : 64) else { return EAGAIN }
    // A child that another thread forks meanwhile has the file open too, and would keep the lock.
    defer { _ = sk_flock(file, 8 /* LOCK_UN */) }
    var record = InlineArray<32, UInt64>(repeating: 0)
    return unsafe withUnsafeMutableBytes(of: &record) { bytes -> Int32 in
        let memory = unsafe SharedMemory(bytes.baseAddress!)
        let got = unsafe sk_pread(file, bytes.baseAddress!, Totals.Record.size, 0)
        if got != Totals.Record.size || memory.load32(Totals.Record.magic) != Totals.magic
            || memory.load32(Totals.Record.checksum) != Totals.checksum({ memory.load64($0) })
        {
            memory.zero(0, count: Totals.Record.size)
            memory.store32(Totals.Record.magic, Totals.magic)
        }
        for index in 0..<Totals.count { memory.add64(Totals.Record.counters + 8 * index, amounts[index]) }
        memory.store32(Totals.Record.checksum, Totals.checksum { memory.load64($0) })
        let written = unsafe sk_pwrite(file, bytes.baseAddress!, Totals.Record.size, 0)
        if written < 0 { return Int32(-written) }
        return written == Totals.Record.size ? 0 : ENOSPC
    }
}

/// Given up soon: its holder may have been stopped.
private func lock(_ file: Int32, attempts: Int) -> Bool {
    for _ in 0..<attempts {
        if sk_flock(file, 2 | 4 /* LOCK_EX | LOCK_NB */) == 0 { return true }
        sk_yield()
    }
    return false
}
