import CSystem
import Glibc
import SkeinMedium

/// A file or block device that has a medium, or is to have one. Reads and writes whole units past the page cache, and a
/// write is done when it lies on the device.
package final class MediumDevice {
    package enum Access {
        case reading
        case writing
        /// Writing, and nobody else may have the block device in use, as a mounted one is.
        case alone
    }

    package let path: String
    package let isBlockDevice: Bool
    /// Bytes of it.
    package private(set) var size: UInt64
    let file: UnitFile
    private var descriptor: Int32 { file.descriptor }

    /// Opens what is there.
    package convenience init(_ path: String, _ access: Access) throws(AgentFault) {
        try self.init(path, access, flags: 0)
    }

    /// Makes a file of that many bytes, all zeros. It must not be there.
    package convenience init(making path: String, size: UInt64) throws(AgentFault) {
        try self.init(path, .writing, flags: O_CREAT | O_EXCL)
        do throws(AgentFault) {
            try grow(to: size)
        } catch {
            unsafe unlink(path)
            throw error
        }
    }

    private init(_ path: String, _ access: Access, flags: Int32) throws(AgentFault) {
        var flags = flags | O_CLOEXEC | (access == .reading ? O_RDONLY : O_RDWR | O_DSYNC)
        var status = stat()
        let isThere = unsafe stat(path, &status) == 0
        let isBlockDevice = isThere && status.st_mode & S_IFMT == S_IFBLK
        guard !isThere || isBlockDevice || status.st_mode & S_IFMT == S_IFREG else {
            throw AgentFault("\(path) is no file and no block device")
        }
        if isBlockDevice && access == .alone { flags |= O_EXCL }
        // Some file systems have no way past the page cache: tmpfs, for one.
        var opened = unsafe open(path, flags | sk_open_direct(), 0o600)
        if opened < 0 && errno == EINVAL { opened = unsafe open(path, flags, 0o600) }
        guard opened >= 0 else { throw MediumDevice.fault(path, opening: errno) }
        file = UnitFile(descriptor: opened)
        self.path = path
        self.isBlockDevice = isBlockDevice
        size = UInt64(status.st_size)
        guard unsafe !isBlockDevice || sk_ioctl(opened, 0x8008_1272 /* BLKGETSIZE64 */, &size) == 0 else {
            let error = errno
            close(opened)
            throw MediumDevice.fault(path, opening: error)
        }
    }

    deinit { close(descriptor) }

    private static func fault(_ path: String, opening error: Int32) -> AgentFault {
        switch error {
        case ENOENT: AgentFault("there is no \(path): make a medium there with 'skein medium create \(path)'")
        case EEXIST: AgentFault("\(path) is there already")
        case EBUSY: AgentFault("\(path) is in use: unmount it, or take another device")
        case EROFS: AgentFault("\(path) is on a read-only file system, and a medium must be written")
        case EACCES, EPERM: AgentFault("\(path): \(text(error)): it must be readable and writable for this user")
        default: AgentFault("\(path) can't be opened: \(text(error))")
        }
    }

    /// Gives a file that many bytes, which are there then: none of them can fail for want of space later.
    package func grow(to bytes: UInt64) throws(AgentFault) {
        let error = posix_fallocate(descriptor, 0, off_t(bytes))
        guard error == 0 else {
            let hint = error == ENOSPC ? ": it needs \(bytes) bytes; ask for fewer hosts or a smaller --size" : ""
            throw AgentFault("\(path) can't be made larger: \(text(error))\(hint)")
        }
        size = max(size, bytes)
    }

    /// Reads `count` units from `unit` on.
    package func read(_ unit: UInt64, count: Int) throws(AgentFault) -> [UInt8] {
        try check(unit, count)
        let bytes = count * unitSize
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: unitSize)
        defer { unsafe buffer.deallocate() }
        let error = unsafe file.read(unit, into: buffer)
        guard error == 0 else { throw AgentFault(MediumDevice.failure(path, "reading", unit, error)) }
        return unsafe [UInt8](buffer)
    }

    /// What lies behind the last whole unit.
    package func tail() -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: unitSize, alignment: unitSize)
        defer { unsafe buffer.deallocate() }
        let end = off_t(size / UInt64(unitSize)) * off_t(unitSize)
        let count = unsafe pread(descriptor, buffer.baseAddress!, unitSize, end)
        return unsafe [UInt8](buffer.prefix(max(count, 0)))
    }

    /// Writes whole units from `unit` on.
    package func write(_ unit: UInt64, _ bytes: [UInt8]) throws(AgentFault) {
        try check(unit, bytes.count / unitSize)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: unitSize)
        defer { unsafe buffer.deallocate() }
        unsafe buffer.copyBytes(from: bytes)
        let error = unsafe file.write(unit, from: UnsafeRawBufferPointer(buffer))
        guard error == 0 else { throw AgentFault(MediumDevice.failure(path, "writing", unit, error)) }
    }

    /// What to say of a read or write that failed.
    static func failure(_ path: String, _ what: String, _ unit: UInt64, _ error: Int32) -> String {
        error == ENODATA ? "\(path) has become shorter" : "\(path): \(what) unit \(unit): \(text(error))"
    }

    private func check(_ unit: UInt64, _ count: Int) throws(AgentFault) {
        guard unit + UInt64(count) <= size / UInt64(unitSize) else {
            throw AgentFault(
                "\(path) has \(size) bytes, and the medium goes on behind them: is this the whole device?")
        }
    }
}

/// What an errno means.
func text(_ error: Int32) -> String { unsafe String(cString: strerror(error)) }
