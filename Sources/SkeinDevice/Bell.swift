import CSystem
import Glibc

/// A counter of the kernel's that epoll can watch: how one thread wakes another.
package struct Bell: ~Copyable, Sendable {
    package let descriptor: Int32

    /// `isSemaphore`: each ring wakes one thread that waits, and stays until one has come.
    package init(isSemaphore: Bool = false) {
        // EFD_CLOEXEC, and EFD_SEMAPHORE or EFD_NONBLOCK.
        let made = sk_syscall6(Int(SYS_eventfd2), 0, 0o2000000 | (isSemaphore ? 1 : 0o4000), 0, 0, 0, 0)
        precondition(made >= 0, "the system has no eventfd for us")
        descriptor = Int32(made)
    }

    deinit { _ = sk_close(descriptor) }

    package func ring() {
        var one: UInt64 = 1
        _ = unsafe sk_write(descriptor, &one, 8)
    }

    /// Takes one ring, and waits for it, of a semaphore; else all that there are.
    package func take() {
        var count: UInt64 = 0
        while unsafe sk_read(descriptor, &count, 8) == -Int(EINTR) {}
    }
}
