import CSystem

// Set-up of the library in a program: reads the environment, opens the table, finds the system's
// functions. Writes nothing to descriptors 0 to 2: those may be a connection.

@section(".init_array") @used
let initialise: @convention(c) () -> Void = { setUp() }

nonisolated(unsafe) private var isSetUp = false

func setUp() {
    if unsafe isSetUp { return }
    unsafe isSetUp = true
    unsafe realFunctions.find()
    guard sk_is_secure() == 0 else { return }
    readRules()
    if unsafe rules.offOrigin != nil {
        // Hidden listeners are shut then: nobody would accept from them.
        if isTranslating() { adoptHeirs() }
        return
    }
    identifyProcess()
    unsafe process.noteHidden = { if $1 { setEntry($0, nil, .hidden) } else { clearEntry($0) } }
    unsafe process.spinPolicy = rules.spin.policy
    openRuntimeFolder()
    unsafe rules.enabled = isTranslating()
    if unsafe rules.enabled { adoptHeirs() }
}

/// A program that links libskein.so and runs under the translating header has these hooks twice. Then
/// the library's, which know its STP sockets, translate too, and the header's pass everything on to them.
private func isTranslating() -> Bool {
    if translates { return unsafe sk_next_symbol("STPsocket") == nil }
    guard let list = unsafe sk_environment("LD_PRELOAD") else { return false }
    return unsafe strstr(list, "libskein-preload") != nil
}

/// The user's own folder below the host's runtime folder, with the user's socket table. Its absence
/// harms nothing but `skein ls`.
func openRuntimeFolder() {
    var path = Text()
    if let given = unsafe sk_environment("SKEIN_DIR") {
        unsafe path.append(cString: given)
    } else {
        path.append("/run/skein")
    }
    var folder = unsafe path.withCString { unsafe sk_openat(-100, $0, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) }
    if unsafe folder < 0 && sk_environment("SKEIN_DIR") == nil {
        if unsafe process.effectiveUser == 0 {
            folder = unsafe path.withCString { name in
                if unsafe sk_mkdirat(-100, name, 0o1777) < 0 { return -1 }
                let made = unsafe sk_openat(-100, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
                if made >= 0 { _ = sk_fchmod(Int32(made), 0o1777) }
                return made
            }
        }
    }
    if unsafe folder < 0 && sk_environment("SKEIN_DIR") == nil {
        path = Text("/tmp/skein-")
        unsafe path.append(decimal: UInt64(process.effectiveUser))
        folder = unsafe path.withCString { name in
            _ = unsafe sk_mkdirat(-100, name, 0o700)
            return unsafe sk_openat(-100, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
        }
    }
    guard folder >= 0 else { return unsafe process.folderError = Int32(-folder) }
    defer { _ = sk_close(Int32(folder)) }
    guard isTrustworthy(Int32(folder), shared: true) else { return unsafe process.folderError = EPERM }
    identifyFolder(Int32(folder))
    var own = Text()
    unsafe own.append(decimal: UInt64(process.effectiveUser))
    let mine = unsafe own.withCString { name -> Int in
        let made = unsafe sk_mkdirat(Int32(folder), name, 0o755)
        if made < 0 && made != -Int(EEXIST) { return made }
        return unsafe sk_openat(Int32(folder), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
    }
    guard mine >= 0 else { return unsafe process.folderError = Int32(-mine) }
    defer { _ = sk_close(Int32(mine)) }
    guard isTrustworthy(Int32(mine), shared: false) else { return unsafe process.folderError = EPERM }
    unsafe process.table.open(folder: Int32(mine))
    unsafe process.folderError = process.table.isOpen ? 0 : process.table.error
}

private func identifyFolder(_ folder: Int32) {
    var status = stat()
    guard unsafe sk_fstat(folder, &status) == 0 else { return }
    unsafe process.folderDevice = UInt64(status.st_dev)
    unsafe process.folderInode = UInt64(status.st_ino)
}

/// A folder that others could tamper with is not used: wrong owner, or writable without the sticky bit.
private func isTrustworthy(_ folder: Int32, shared: Bool) -> Bool {
    var status = stat()
    guard unsafe sk_fstat(folder, &status) == 0 else { return false }
    if unsafe status.st_uid == process.effectiveUser && status.st_mode & 0o022 == 0 { return true }
    return unsafe shared && (status.st_uid == 0 || status.st_uid == process.effectiveUser)
        && status.st_mode & 0o1000 != 0
}

/// The program's name in a control block, for `skein ls`.
func writeProgramName(_ record: SharedMemory) {
    unsafe record.store64(SocketTable.Record.program, process.programName.0)
    unsafe record.store64(SocketTable.Record.program + 8, process.programName.1)
}

/// A line in SKEIN_LOG for a connection that goes over TCP although both ends may be under Skein.
func logFallBack(_ descriptor: Int32, _ reason: Reason) {
    guard reason != .none else { return }
    var line = Text("skein: descriptor ")
    line.append(decimal: UInt64(descriptor))
    line.append(" goes over TCP: ")
    line.append(reason.text)
    line.append("\n")
    writeToLog(line)
}

/// Appends to the file that SKEIN_LOG names, if it names one.
func writeToLog<let size: Int>(_ line: FixedText<size>) {
    guard let path = unsafe sk_environment("SKEIN_LOG") else { return }
    let file = unsafe sk_openat(-100, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else { return }
    _ = unsafe line.withCString { unsafe sk_write(Int32(file), $0, line.count) }
    _ = sk_close(Int32(file))
}
