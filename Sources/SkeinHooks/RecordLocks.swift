import CSystem

/// Whether this process holds record locks (`fcntl`, `lockf`). They belong to its table of descriptors: a program that a thread
/// with one of its own executes hasn't got them. No where /proc doesn't say.
func holdsRecordLocks() -> Bool {
    let file = unsafe sk_openat(currentFolder, "/proc/locks", O_RDONLY | O_CLOEXEC, 0)
    guard file >= 0 else { return false }
    defer { _ = sk_close(Int32(file)) }
    var piece = InlineArray<512, UInt64>(repeating: 0)
    return unsafe withUnsafeMutableBytes(of: &piece) { bytes in
        // The process's number as /proc has it, in whatever pid namespace that is.
        let start = unsafe bytes.baseAddress!.assumingMemoryBound(to: CChar.self)
        let length = unsafe sk_readlinkat(currentFolder, "/proc/self", start, bytes.count)
        var own = Text()
        for index in 0..<max(length, 0) { own.append(byte: unsafe bytes[index]) }
        var lines = LockLines(process: own)
        while case let count = unsafe sk_read(Int32(file), bytes.baseAddress!, bytes.count), count > 0 {
            for index in 0..<count where unsafe lines.endsOwn(bytes[index]) { return true }
        }
        return false
    }
}

/// The lines of /proc/locks, byte for byte: `1: POSIX  ADVISORY  WRITE 1234 fe:00:42 0 EOF`.
private struct LockLines {
    let process: Text
    private var field = 0
    private var word = Text()
    private var isRecordLock = false

    init(process: Text) { self.process = process }

    /// Whether the byte ends a field that says that the process holds a record lock.
    mutating func endsOwn(_ byte: UInt8) -> Bool {
        guard byte == 32 || byte == 10 else {
            word.append(byte: byte)
            return false
        }
        defer { if byte == 10 { field = 0 } }
        if word.count == 0 { return false }
        // Who waits for a lock has an arrow before the word.
        if field == 1 { isRecordLock = word.isSame(as: Text("POSIX")) }
        let isOwn = field == 4 && isRecordLock && word.isSame(as: process)
        field += 1
        word = Text()
        return isOwn
    }
}

extension Text {
    fileprivate func isSame(as other: Text) -> Bool {
        unsafe withCString { one in unsafe other.withCString { unsafe strcmp(one, $0) == 0 } }
    }
}
