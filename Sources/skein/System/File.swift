import CSystem
import Glibc

/// The errno of a failed system call.
struct SystemError: Error {
    let code: Int32
    /// The system's own words.
    var text: String { unsafe String(cString: strerror(code)) }

    /// Of the call that has just failed.
    static var last: SystemError { SystemError(code: errno) }
}

/// An open file, closed with the value. For files that somebody else may have made: opening never
/// waits (a FIFO in its place) and reading never maps (a file that shrinks is a signal to who maps it).
struct File: ~Copyable {
    private let descriptor: Int32

    /// Opens for reading. `following` false refuses a symbolic link as the last part.
    init(_ path: String, following: Bool = true) throws(SystemError) {
        let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (following ? 0 : O_NOFOLLOW)
        descriptor = unsafe open(path, flags)
        if descriptor < 0 { throw SystemError.last }
    }

    deinit { _ = close(descriptor) }

    /// What fstat(2) says.
    func status() throws(SystemError) -> stat {
        var status = stat()
        if unsafe fstat(descriptor, &status) != 0 { throw SystemError.last }
        return status
    }

    /// Up to `count` bytes from `offset`; fewer at the end of the file or where it can't be read.
    func read(at offset: Int, count: Int) -> Bytes {
        var storage = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let got = unsafe storage.withUnsafeMutableBytes { buffer in
                unsafe pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(offset + filled))
            }
            if got < 0 && errno == EINTR { continue }
            if got <= 0 { break }
            filled += got
        }
        storage.removeLast(count - filled)
        return Bytes(storage)
    }

    /// All of a file of /proc, whose size nobody knows beforehand, up to `limit` bytes.
    static func contents(_ path: String, limit: Int = 1 << 24) throws(SystemError) -> Bytes {
        let file = try File(path)
        var all: [UInt8] = []
        while all.count < limit {
            let part = file.read(at: all.count, count: 1 << 16)
            if part.count == 0 { break }
            all += part.storage
        }
        return Bytes(all)
    }
}

/// Bytes that may be hostile: every access is checked, words are little-endian as on both processors.
struct Bytes {
    let storage: [UInt8]
    var count: Int { storage.count }

    init(_ storage: [UInt8]) { self.storage = storage }

    /// Whether `size` bytes from `offset` are there.
    func holds(_ offset: Int, size: Int) -> Bool {
        offset >= 0 && size >= 0 && offset <= count && size <= count - offset
    }

    /// The integer at `offset`; 0 outside.
    func word<Word: FixedWidthInteger & UnsignedInteger>(_ offset: Int, as type: Word.Type = Word.self) -> Word {
        let size = Word.bitWidth / 8
        guard holds(offset, size: size) else { return 0 }
        var value: Word = 0
        for index in 0..<size { value |= Word(storage[offset + index]) << Word(8 * index) }
        return value
    }

    /// Text up to a zero byte or `limit` bytes; what is not UTF-8 is replaced.
    func text(_ offset: Int, limit: Int) -> String {
        guard offset >= 0, offset < count else { return "" }
        let end = offset + min(limit, count - offset)
        return String(decoding: storage[offset..<end].prefix { $0 != 0 }, as: UTF8.self)
    }

    /// All of it as text.
    var text: String { String(decoding: storage, as: UTF8.self) }

    func starts(with prefix: [UInt8]) -> Bool { storage.starts(with: prefix) }
}

/// What stat(2) says of a path; nil when it says nothing.
func status(of path: String, following: Bool = true) -> stat? {
    var status = stat()
    let result = unsafe following ? stat(path, &status) : lstat(path, &status)
    return result == 0 ? status : nil
}

/// Where a symbolic link points; nil when it is none or can't be read.
func target(ofLink path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let length = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe readlink(path, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    return length < 0 ? nil : String(decoding: buffer[..<length], as: UTF8.self)
}

/// The names in a folder, without the two dots.
func names(in folder: String) throws(SystemError) -> [String] {
    guard let stream = unsafe opendir(folder) else { throw SystemError.last }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { tuple in
            unsafe tuple.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

/// An extended attribute of what a path leads to; nil when there is none.
func attribute(_ name: String, of path: String) -> Bytes? {
    var buffer = [UInt8](repeating: 0, count: 256)
    let length = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe path.withCString { path in
            unsafe name.withCString { name in
                // Glibc's module lacks <sys/xattr.h>.
                sk_syscall6(
                    Int(SYS_getxattr), Int(bitPattern: path), Int(bitPattern: name), Int(bitPattern: bytes.baseAddress),
                    bytes.count, 0, 0)
            }
        }
    }
    return length < 0 ? nil : Bytes(Array(buffer[..<length]))
}

/// A variable of our environment; nil when it is unset or empty.
func environmentVariable(_ name: String) -> String? {
    guard let value = unsafe getenv(name), unsafe value.pointee != 0 else { return nil }
    return unsafe String(cString: value)
}

/// A path that stays right when the program changes its folder.
func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    return (target(ofLink: "/proc/self/cwd") ?? "") + "/" + path
}

/// What comes after the last slash.
func lastPart(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
}

/// The folder of a path.
func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
