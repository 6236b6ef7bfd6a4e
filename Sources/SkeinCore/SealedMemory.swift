import CSystem

// Memory in a memfd that may go to another process: sealed, so that whoever maps it can't be sent a signal
// by whoever else has it.

private let sealed = Int(F_SEAL_SHRINK_ | F_SEAL_GROW_ | F_SEAL_SEAL_)

/// Which memfd it is: the kernel's word, which nobody can forge.
package struct MemoryIdentity: Equatable {
    package var device: UInt64 = 0
    package var inode: UInt64 = 0

    package init() {}

    /// nil for what is no open descriptor.
    package init?(_ descriptor: Int32) {
        var status = stat()
        guard unsafe sk_fstat(descriptor, &status) == 0 else { return nil }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
    }

    package static func == (one: MemoryIdentity, other: MemoryIdentity) -> Bool {
        one.inode == other.inode && one.device == other.device
    }
}

/// A sealed memfd of `size` zeroed bytes, hidden and close-on-exec; minus the errno when the system refuses.
package func makeSealedMemory(size: Int) -> Int32 {
    let made = unsafe sk_memfd_create("skein", UInt32(MFD_CLOEXEC | MFD_ALLOW_SEALING))
    guard made >= 0 else { return Int32(made) }
    let descriptor = hide(Int32(made))
    guard descriptor >= 0 else { return descriptor }
    // Past RLIMIT_FSIZE the growth of a memfd is a signal.
    guard fileSizeLimit() >= UInt64(size), sk_ftruncate(descriptor, size) == 0,
        sk_fcntl(descriptor, Int32(F_ADD_SEALS_), sealed) == 0
    else {
        _ = sk_close(descriptor)
        return -ENOMEM
    }
    return descriptor
}

/// The size of memory that another process sent; nil for what could be taken away from under a mapping.
package func sealedSize(of descriptor: Int32) -> Int? {
    var status = stat()
    var system = statfs()
    // Sealed against our writing, it could not be mapped either.
    guard unsafe sk_fstat(descriptor, &status) == 0,
        sk_fcntl(descriptor, Int32(F_GET_SEALS_), 0) & (sealed | F_SEAL_WRITES) == sealed,
        unsafe sk_fstatfs(descriptor, &system) == 0, system.f_type == 0x0102_1994 /* TMPFS_MAGIC */
    else { return nil }
    return Int(status.st_size)
}

// The C headers' macros and enumerations of these differ between systems' headers; the numbers do not.
let F_ADD_SEALS_ = 1033
private let F_GET_SEALS_ = 1034
let F_SEAL_SEAL_ = 1
let F_SEAL_SHRINK_ = 2
private let F_SEAL_GROW_ = 4
/// F_SEAL_WRITE and F_SEAL_FUTURE_WRITE.
private let F_SEAL_WRITES = 8 | 16
