import CSkein
import CSystem
import Glibc

/// An epoll set whose members are known by a number of the caller's: the system's descriptors, and sockets of Skein, which
/// libskein.so's own epoll calls know.
@safe
final class Watcher {
    private let descriptor: Int32
    private var events: [epoll_event]

    init() {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(descriptor >= 0, "the system has no epoll set for us")
        unsafe events = unsafe [epoll_event](repeating: epoll_event(), count: 256)
    }

    deinit { close(descriptor) }

    /// Each change is reported once: the caller goes on until nothing moves. Closing a member takes it out of the set.
    func add(_ member: Int32, _ number: UInt64) {
        var event = unsafe epoll_event()
        unsafe event.data.u64 = number
        unsafe event.events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        let result = unsafe epoll_ctl(descriptor, EPOLL_CTL_ADD, member, &event)
        precondition(result == 0 || errno == ENOMEM || errno == ENOSPC, "a socket can be watched")
    }

    /// What has happened, after waiting for it so many nanoseconds at most.
    func wait(nanoseconds: UInt64) -> [(number: UInt64, isReadable: Bool, isWritable: Bool)] {
        var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        let limit = unsafe Int32(events.count)
        let count = unsafe events.withUnsafeMutableBufferPointer {
            unsafe epoll_pwait2(descriptor, $0.baseAddress, limit, &time, nil)
        }
        return unsafe events.prefix(max(0, Int(count))).map { event in
            let bits = unsafe event.events
            let isOver = bits & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
            return unsafe (
                event.data.u64, isOver || bits & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue) != 0,
                isOver || bits & EPOLLOUT.rawValue != 0
            )
        }
    }
}
