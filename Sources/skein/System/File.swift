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

    /// Fills `range` of the buffer from its beginning with what lies at `offset`. Returns how much; 0 at the end.
    func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            let room = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[range])
            var count: Int
            repeat {
                count = unsafe pread(descriptor, room.baseAddress, room.count, off_t(offset))
            } while count < 0 && errno == EINTR
            return count
        }
        if count < 0 { throw SystemError.last }
        return count
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
