import CNBD
import CSystem
import Glibc
import Synchronization

/// One connection to another NBD server. Any thread may have it do something; one thread, in `run`, sees to its socket.
@safe
final class RemoteLink: Sendable {
    /// What the server can do, and in which units it takes it.
    struct Abilities: Equatable, Sendable {
        var size: UInt64 = 0
        var isReadOnly = false
        var canFlush = false
        var canForceUnitAccess = false
        var canTrim = false
        var canZero = false
        var canFastZero = false
        var canCache = false
        var hasStatus = false
        /// Bytes that ranges consist of: a power of two.
        var unit: UInt64 = 1
        /// Bytes of data in one request.
        var most: UInt64 = 32 << 20
    }

    /// Seconds that the server may take to be connected to, and to answer.
    private static let patience = 30
    private static let millisecondsToConnect = 10_000
    static let context = "base:allocation"

    /// The library's own object, which has a lock of its own.
    @safe private struct Handle: @unchecked Sendable {
        let pointer: OpaquePointer
    }

    private let handle: Handle
    let abilities: Abilities
    private let wake: Int32
    /// Changes that were answered, and how many of them a flush has covered.
    private let changes = Atomic(0)
    private let flushed = Atomic(0)
    /// Requests that are out, and when the last of them was given or answered.
    private let outstanding = Mutex<(count: Int, since: UInt64)>((0, 0))

    /// Connects, or says why not.
    init(_ uri: String) throws(DeviceFault) {
        guard let made = unsafe nbd_create() else { throw DeviceFault("there is no memory for another connection") }
        unsafe handle = Handle(pointer: made)
        do throws(DeviceFault) {
            abilities = try unsafe RemoteLink.connect(made, uri)
        } catch {
            unsafe nbd_close(made)
            throw error
        }
        // EFD_CLOEXEC and EFD_NONBLOCK.
        wake = Int32(sk_syscall6(Int(SYS_eventfd2), 0, 0o2004000, 0, 0, 0, 0))
    }

    deinit {
        // The server is told, if it takes that at once.
        _ = unsafe nbd_aio_disconnect(handle.pointer, 0)
        unsafe nbd_close(handle.pointer)
        _ = sk_close(wake)
    }

    // MARK: - Connecting

    private static func connect(_ nbd: OpaquePointer, _ uri: String) throws(DeviceFault) -> Abilities {
        unsafe nbd_add_meta_context(nbd, context)
        unsafe nbd_set_uri_allow_local_file(nbd, true)
        unsafe nbd_set_pread_initialize(nbd, false)
        guard unsafe nbd_aio_connect_uri(nbd, uri) == 0 else { throw fault(uri) }
        let deadline = sk_now() + UInt64(millisecondsToConnect) * 1_000_000
        while unsafe nbd_aio_is_connecting(nbd) == 1 {
            let now = sk_now()
            guard now < deadline else { throw DeviceFault("\(uri) doesn't answer; is a server there?") }
            try unsafe wait(nbd, -1, milliseconds: Int32((deadline - now) / 1_000_000) + 1)
        }
        guard unsafe nbd_aio_is_ready(nbd) == 1 else { throw fault(uri) }
        return try unsafe abilities(of: nbd, uri)
    }

    private static func fault(_ uri: String) -> DeviceFault {
        let reason = unsafe nbd_get_error().map { unsafe String(cString: $0) } ?? "the server isn't there"
        return DeviceFault("\(uri) can't be had: \(reason)")
    }

    private static func abilities(of nbd: OpaquePointer, _ uri: String) throws(DeviceFault) -> Abilities {
        let size = unsafe nbd_get_size(nbd)
        guard size >= 0 else { throw fault(uri) }
        var abilities = Abilities(size: UInt64(size))
        abilities.isReadOnly = unsafe nbd_is_read_only(nbd) == 1
        abilities.canFlush = unsafe nbd_can_flush(nbd) == 1
        abilities.canForceUnitAccess = unsafe nbd_can_fua(nbd) == 1
        abilities.canTrim = unsafe nbd_can_trim(nbd) == 1
        abilities.canZero = unsafe nbd_can_zero(nbd) == 1
        abilities.canFastZero = unsafe nbd_can_fast_zero(nbd) == 1
        abilities.canCache = unsafe nbd_can_cache(nbd) == 1
        abilities.hasStatus = unsafe nbd_can_meta_context(nbd, context) == 1
        let unit = unsafe nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM)
        let most = unsafe nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM)
        if unit > 1 { abilities.unit = UInt64(unit) }
        if most > 0 { abilities.most = min(abilities.most, max(UInt64(most), abilities.unit)) }
        return abilities
    }

    /// Waits until the socket, or the other descriptor, can be seen to, and sees to the socket.
    private static func wait(_ nbd: OpaquePointer, _ other: Int32, milliseconds: Int32) throws(DeviceFault) {
        let direction = unsafe nbd_aio_get_direction(nbd)
        var events: Int32 = 0
        if direction & UInt32(LIBNBD_AIO_DIRECTION_READ) != 0 { events |= POLLIN }
        if direction & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 { events |= POLLOUT }
        var entries = [
            pollfd(fd: unsafe nbd_aio_get_fd(nbd), events: Int16(events), revents: 0),
            pollfd(fd: other, events: Int16(POLLIN), revents: 0),
        ]
        guard unsafe poll(&entries, 2, milliseconds) > 0 else { return }
        if entries[1].revents != 0 {
            var count: UInt64 = 0
            _ = unsafe sk_read(other, &count, 8)
        }
        // What another thread has seen to meanwhile is no mistake.
        let found = Int32(entries[0].revents)
        if found & (POLLIN | POLLHUP | POLLERR) != 0 {
            _ = unsafe nbd_aio_notify_read(nbd)
        } else if found & POLLOUT != 0 {
            _ = unsafe nbd_aio_notify_write(nbd)
        }
    }

    // MARK: - The socket

    var isDead: Bool { unsafe nbd_aio_is_ready(handle.pointer) != 1 && nbd_aio_is_processing(handle.pointer) != 1 }

    /// Sees to the socket until the connection has ended, with every request answered. A server that owes an answer for too long is left.
    func run() {
        while !isDead {
            _ = try? unsafe RemoteLink.wait(handle.pointer, wake, milliseconds: 1000)
            let (count, since) = outstanding.withLock { $0 }
            if count > 0, sk_now() > since + UInt64(RemoteLink.patience) * 1_000_000_000 { end() }
        }
    }

    /// Ends the connection: what is outstanding fails.
    func end() {
        _ = unsafe shutdown(nbd_aio_get_fd(handle.pointer), Int32(SHUT_RDWR))
        ring()
    }

    private func ring() {
        var one: UInt64 = 1
        _ = unsafe sk_write(wake, &one, 8)
    }

    // MARK: - Requests

    /// What waits for one answer.
    @safe private struct Waiter {
        var isAnswered = sem_t()
        var error: Int32 = 0
    }

    /// Gives a request to the library by `issue`, and waits for the answer. Returns an errno, 0 for none; ENOTCONN where the
    /// connection has ended.
    func request(_ issue: (OpaquePointer, nbd_completion_callback) -> Int64) -> Int32 {
        let waiter = UnsafeMutablePointer<Waiter>.allocate(capacity: 1)
        unsafe waiter.initialize(to: Waiter())
        unsafe sem_init(&waiter.pointee.isAnswered, 0, 0)
        defer {
            unsafe sem_destroy(&waiter.pointee.isAnswered)
            unsafe waiter.deallocate()
        }
        note(1)
        defer { note(-1) }
        let answered = unsafe nbd_completion_callback(
            callback: { context, error in
                let waiter = unsafe context!.assumingMemoryBound(to: Waiter.self)
                unsafe waiter.pointee.error = unsafe error!.pointee
                unsafe sem_post(&waiter.pointee.isAnswered)
                // The library forgets the request.
                return 1
            }, user_data: waiter, free: nil)
        guard unsafe issue(handle.pointer, answered) >= 0 else {
            return isDead ? ENOTCONN : max(1, nbd_get_errno())
        }
        if unsafe nbd_aio_get_direction(handle.pointer) & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 { ring() }
        while unsafe sem_wait(&waiter.pointee.isAnswered) != 0 {}
        return unsafe waiter.pointee.error
    }

    /// Whether something was changed that may be lost with the server's memory.
    var hasUnflushed: Bool { changes.load(ordering: .acquiring) > flushed.load(ordering: .acquiring) }

    /// A change was answered that isn't durable.
    func noteChange() { changes.add(1, ordering: .releasing) }

    /// Covers by `flush` all changes that were answered before.
    func coverChanges(_ flush: () -> Answer) -> Answer {
        let count = changes.load(ordering: .acquiring)
        let answer = flush()
        if answer == .done { flushed.max(count, ordering: .releasing) }
        return answer
    }

    /// One request more, or one fewer. A server that answers anything has the whole time again for the rest.
    private func note(_ change: Int) {
        let now = sk_now()
        outstanding.withLock { outstanding in
            if change < 0 || outstanding.count == 0 { outstanding.since = now }
            outstanding.count += change
        }
    }
}
