import CSystem

// The runtime folder: what makes processes one host. `/run/skein`, made by root, in which each user has a
// folder that it alone writes; or the folder of SKEIN_DIR; or, where neither is, one of the user's own in /tmp.

/// Finds the runtime folder and keeps its path and identity. A folder that others could tamper with is not
/// used. Its absence (`process.folderError`) keeps no connection from working.
package func findRuntimeFolder() {
    var path = Text()
    var folder: Int
    if let given = unsafe sk_environment("SKEIN_DIR"), unsafe given[0] != 0 {
        unsafe path.append(cString: given)
        folder = open(path, following: true)
    } else {
        path = Text("/run/skein")
        folder = open(path, following: true)
        if unsafe folder < 0 && process.effectiveUser == 0 { folder = make(path, mode: 0o1777) }
        if folder < 0 {
            path = Text("/tmp/skein-")
            unsafe path.append(decimal: UInt64(process.effectiveUser))
            folder = open(path, following: false)
            if folder == -Int(ENOENT) { folder = make(path, mode: 0o700) }
        }
    }
    guard folder >= 0 else { return unsafe process.folderError = Int32(-folder) }
    defer { _ = sk_close(Int32(folder)) }
    var status = stat()
    guard unsafe isTrustworthy(Int32(folder), user: process.effectiveUser, shared: true),
        unsafe sk_fstat(Int32(folder), &status) == 0
    else { return unsafe process.folderError = EPERM }
    if unsafe path.withCString({ unsafe $0[0] }) != 47 { path = absolutePath(of: Int32(folder)) }
    unsafe process.folderDevice = UInt64(status.st_dev)
    unsafe process.folderInode = UInt64(status.st_ino)
    unsafe process.folderOwner = status.st_uid
    unsafe process.folderPath = path
    unsafe process.folderError = 0
}

/// A descriptor of the folder of that user below the runtime folder, which is made where there is none; or
/// minus the errno. Everything is checked anew: the process may have another user or another root by now.
package func openOwnFolder(of user: UInt32) -> Int {
    if unsafe process.folderError != 0 { return unsafe -Int(process.folderError) }
    let folder = unsafe open(process.folderPath, following: true)
    guard folder >= 0 else { return folder }
    defer { _ = sk_close(Int32(folder)) }
    guard isTrustworthy(Int32(folder), user: user, shared: true) else { return -Int(EPERM) }
    var status = stat()
    guard unsafe sk_fstat(Int32(folder), &status) == 0, unsafe UInt64(status.st_ino) == process.folderInode,
        unsafe UInt64(status.st_dev) == process.folderDevice
    else { return -Int(ESTALE) }
    var name = Text()
    name.append(decimal: UInt64(user))
    var mine = open(name, below: Int32(folder), following: false)
    if mine == -Int(ENOENT) { mine = make(name, below: Int32(folder), mode: 0o755) }
    guard mine >= 0 else { return mine }
    guard isTrustworthy(Int32(mine), user: user, shared: false) else {
        _ = sk_close(Int32(mine))
        return -Int(EPERM)
    }
    return mine
}

private func open(_ path: Text, below folder: Int32 = -100, following: Bool) -> Int {
    let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (following ? 0 : O_NOFOLLOW)
    return unsafe path.withCString { unsafe sk_openat(folder, $0, flags, 0) }
}

/// A program may go to another folder; the path must not follow it there.
private func absolutePath(of folder: Int32) -> Text {
    var link = Text("/proc/self/fd/")
    link.append(decimal: UInt64(folder))
    var target = InlineArray<256, UInt8>(repeating: 0)
    var path = Text()
    unsafe withUnsafeMutableBytes(of: &target) { bytes in
        let name = unsafe bytes.baseAddress!.assumingMemoryBound(to: CChar.self)
        let count = unsafe link.withCString { unsafe sk_readlinkat(-100, $0, name, 255) }
        if count > 0 { unsafe path.append(cString: name) }
    }
    return path
}

/// Makes the folder unless another process was faster, and opens it. Where all may write, the umask doesn't narrow it.
private func make(_ path: Text, below folder: Int32 = -100, mode: UInt32) -> Int {
    let made = unsafe path.withCString { unsafe sk_mkdirat(folder, $0, mode) }
    guard made == 0 || made == -Int(EEXIST) else { return made }
    let opened = open(path, below: folder, following: false)
    if made == 0 && opened >= 0 && mode & 0o1000 != 0 { _ = sk_fchmod(Int32(opened), mode) }
    return opened
}

/// The user's own, and writable by nobody else; or, `shared`, root's or the user's with the sticky bit.
private func isTrustworthy(_ folder: Int32, user: UInt32, shared: Bool) -> Bool {
    var status = stat()
    guard unsafe sk_fstat(folder, &status) == 0 else { return false }
    if status.st_uid == user && status.st_mode & 0o022 == 0 { return true }
    return shared && (status.st_uid == 0 || status.st_uid == user) && status.st_mode & 0o1000 != 0
}
