import CSystem
import Glibc
import SkeinTransfer

/// A file in progress: beside its target until it is complete, under a name that only `skein receive` makes.
/// What is in it is always the beginning of what its sender sent.
final class PartFile {
    /// Why there can be none.
    enum Problem: Error {
        case system(String, SystemError)
        /// Something of that name is there that isn't ours to write into.
        case foreign(String)
        /// Another `skein receive` has it.
        case busy(String)
        /// The target is there now.
        case exists
        /// What is there now is no file.
        case irreplaceable(String)
    }

    let path: String
    private let descriptor: Int32
    /// Bytes in it.
    private(set) var size: UInt64
    /// From then on the name in progress is nobody's.
    private var isComplete = false

    /// The one for a target, with what an earlier try has left in it.
    init(for target: String) throws(Problem) {
        let path = target + Offer.partSuffix
        let (descriptor, status) = try PartFile.openLocked(path)
        guard status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid(), status.st_nlink == 1 else {
            _ = Glibc.close(descriptor)
            throw .foreign(path)
        }
        self.path = path
        self.descriptor = descriptor
        size = UInt64(status.st_size)
    }

    /// Closing lets the next one have it. An empty one has nothing to go on from.
    deinit {
        if !isComplete && size == 0 { _ = unsafe unlink(path) }
        _ = close(descriptor)
    }

    private static func openLocked(_ path: String) throws(Problem) -> (Int32, stat) {
        while true {
            let flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
            let descriptor = unsafe open(path, flags, 0o600)
            if descriptor < 0 { throw errno == ELOOP || errno == EISDIR ? .foreign(path) : .system(path, .last) }
            var ours = stat()
            var named = stat()
            if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
                let error = SystemError.last
                _ = close(descriptor)
                throw error.code == EWOULDBLOCK ? .busy(path) : .system(path, error)
            }
            // Who had it before may have made it the target in between: then it is not ours to change.
            if unsafe fstat(descriptor, &ours) == 0, unsafe lstat(path, &named) == 0, ours.st_ino == named.st_ino,
                ours.st_dev == named.st_dev
            {
                return (descriptor, ours)
            }
            _ = close(descriptor)
        }
    }

    /// The checksum of all that is in it.
    func checksum() throws(Problem) -> RunningChecksum {
        do {
            guard let checksum = try File(path, following: false).checksum(ofFirst: size) else {
                throw Problem.foreign(path)
            }
            return checksum
        } catch let error as SystemError {
            throw .system(path, error)
        } catch {
            throw .foreign(path)
        }
    }

    /// Free bytes of its file system for us; nil where that can't be told.
    var room: UInt64? {
        var status = statvfs()
        guard unsafe fstatvfs(descriptor, &status) == 0 else { return nil }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    /// Keeps the first `count` bytes.
    func cut(to count: UInt64) throws(Problem) {
        guard ftruncate(descriptor, off_t(count)) == 0, lseek(descriptor, off_t(count), SEEK_SET) >= 0 else {
            throw .system(path, .last)
        }
        size = count
    }

    /// Adds the bytes at the end.
    func append(_ bytes: Span<UInt8>) throws(Problem) {
        do {
            try writeAll(bytes, to: descriptor)
        } catch {
            throw .system(path, error)
        }
        size += UInt64(bytes.count)
    }

    /// Makes it the target, for good: what is there after a power failure is all of it or nothing.
    func become(_ target: String, mode: UInt16, replacing: Bool) throws(Problem) {
        let mask = umask(0)
        _ = umask(mask)
        guard fchmod(descriptor, mode_t(mode) & ~mask) == 0, fsync(descriptor) == 0 else { throw .system(path, .last) }
        // What has come there meanwhile, and is no file, is not replaced either.
        if let reason = Destination.Standing(of: target)?.irreplaceable(target) { throw .irreplaceable(reason) }
        let result = unsafe replacing ? rename(path, target) : PartFile.renameAside(path, target)
        if result != 0 { throw errno == EEXIST ? .exists : .system(target, .last) }
        isComplete = true
        let folder = unsafe open(skein.folder(of: target), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder >= 0 {
            _ = fsync(folder)
            _ = close(folder)
        }
    }

    /// rename that replaces nothing, also where the file system doesn't have that.
    private static func renameAside(_ path: String, _ target: String) -> Int32 {
        let result = unsafe path.withCString { path in
            unsafe target.withCString { target in
                // Glibc's module lacks renameat2; 1 is RENAME_NOREPLACE.
                sk_syscall6(
                    Int(SYS_renameat2), Int(AT_FDCWD), Int(bitPattern: path), Int(AT_FDCWD), Int(bitPattern: target), 1,
                    0)
            }
        }
        if result == -Int(EINVAL) { return unsafe link(path, target) == 0 ? unlink(path) : -1 }
        if result < 0 { errno = Int32(-result) }
        return result == 0 ? 0 : -1
    }
}

extension PartFile.Problem {
    /// What the sender is told.
    var reason: Refusal.Reason {
        switch self {
        case .exists, .irreplaceable: .exists
        case .system, .foreign, .busy: .failed
        }
    }

    /// What is wrong and what to do.
    var text: String {
        switch self {
        case .system(let path, let error): "\(path) can't be written: \(error.text)"
        case .foreign(let path): "\(path) is in the way and was not made by us; remove it"
        case .busy(let path): "another 'skein receive' writes \(path); wait for it or stop it"
        case .irreplaceable(let reason): reason
        case .exists: "the target came to be in the meantime; move it away, or use --force"
        }
    }
}
