import CSystem
import Glibc

/// An epoll set whose members are known by a number of the caller's.
@safe struct EventSet: ~Copyable {
    /// How a member is watched.
    enum Watch {
        /// For reading, and reported as long as there is something.
        case readable
        /// For reading and writing, and reported once for each change: the caller goes on until nothing moves.
        case changes
    }

    private let descriptor: Int32
    private var events: [epoll_event]

    init() throws(SystemError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        unsafe events = unsafe [epoll_event](repeating: epoll_event(), count: 256)
        if descriptor < 0 { throw SystemError.last }
    }

    deinit { if descriptor >= 0 { _ = close(descriptor) } }

    /// Closing a member takes it out of the set.
    func add(_ member: Int32, _ number: UInt64, _ watch: Watch) {
        var event = unsafe epoll_event()
        unsafe event.data.u64 = number
        switch watch {
        case .readable: unsafe event.events = EPOLLIN.rawValue
        case .changes: unsafe event.events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLET.rawValue
        }
        let result = unsafe epoll_ctl(descriptor, EPOLL_CTL_ADD, member, &event)
        precondition(result == 0 || errno == ENOMEM || errno == ENOSPC, "a socket can be watched")
    }

    func remove(_ member: Int32) {
        var none = unsafe epoll_event()
        _ = unsafe epoll_ctl(descriptor, EPOLL_CTL_DEL, member, &none)
    }

    /// The numbers of those that have an event, after waiting for one so long at most; -1 is without limit.
    mutating func wait(milliseconds: Int32) -> [UInt64] {
        let count = unsafe epoll_wait(descriptor, &events, Int32(events.count), milliseconds)
        return unsafe events.prefix(Int(max(count, 0))).map { unsafe $0.data.u64 }
    }
}
