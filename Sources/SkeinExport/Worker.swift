import CSystem
import Glibc
import SkeinDevice
import SkeinNBD
import Synchronization

/// One thread with its own connections, buffers and events. Nothing of it is shared with other workers; other
/// threads reach it through its mailbox alone.
@safe
final class Worker {
    /// What other threads ask of a worker.
    enum Order: Sendable {
        case adopt(Int32, Peer)
        /// End the connections of an export, after answering what has come.
        case drop(Export)
        /// Answer what has come, and end.
        case stop
        /// Take no more requests of clients that can be handed over, and report them once their devices have answered.
        case hold(HeldClients)
        /// Go on with them.
        case goOn
        /// They are another process's now: forget them, and end after the others.
        case part
        /// Go on with a client that another process has served.
        case resume(Int32, ConnectionState)
    }

    /// Where other threads leave orders.
    final class Mailbox: Sendable {
        private let orders = Mutex<[Order]>([])
        /// What the worker watches.
        let bell = Bell()
        /// Connections of the worker.
        let population = Atomic(0)
        let hasEnded = Atomic(false)
        /// The worker waits for a device: it takes no orders meanwhile.
        let isWaiting = Atomic(false)

        func send(_ order: Order) {
            orders.withLock { $0.append(order) }
            bell.ring()
        }

        func take() -> [Order] {
            bell.take()
            return orders.withLock { orders in
                let taken = orders
                orders = []
                return taken
            }
        }
    }

    static let inputSize = 256 << 10
    static let stagingSize = 512 << 10
    private static let eventLimit = 128
    /// Nanoseconds; a device that takes longer is waited for by helpers for a while.
    private static let longWait: UInt64 = 50_000_000
    private static let restOfCaution = 1000

    let catalogue: Catalogue
    let limits: Limits
    let admission: Admission
    private let log: ServerLog
    private let mailbox: Mailbox
    private let helpers: Helpers
    private let epoll: Int32
    private var events: [epoll_event]

    /// What connections share in turn. Nothing is in them between turns.
    let input: UnsafeMutableRawBufferPointer
    let staging: UnsafeMutableRawBufferPointer
    var staged = 0
    var loans = Loans()
    var buffers = BufferPool()
    var slots = SlotPool()
    let extents: UnsafeMutablePointer<ExtentList>

    /// When the request that is looked at was taken up, in nanoseconds of the monotonic clock.
    var clock: UInt64 = 0
    /// Nanoseconds of the monotonic clock, at the beginning of this round.
    private(set) var now: UInt64 = 0
    var connections: [Connection] = []
    /// Ended, with slots at the device.
    private(set) var departed: [Connection] = []
    private var ready: [Connection] = []
    private var next: [Connection] = []
    private var patience = Patience()
    /// Slots that helpers have.
    private var atDevice = 0
    /// Requests that helpers get before the worker waits for a device again.
    private var caution = 0
    private var nextCheck: UInt64 = 0
    /// Whether a connection may have a deadline.
    var hasDeadlines = false
    private var stopDeadline: UInt64?
    /// Clients that are to be handed over, and whether they were reported.
    var held: HeldClients?
    var hasReported = false
    /// It ends after its last client.
    var isParting = false

    init(_ catalogue: Catalogue, _ admission: Admission, _ limits: Limits, _ log: ServerLog, _ mailbox: Mailbox) {
        self.catalogue = catalogue
        self.admission = admission
        self.limits = limits
        self.log = log
        self.mailbox = mailbox
        helpers = Helpers(limit: 16) { mailbox.bell.ring() }
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "the system has no epoll set for us")
        unsafe events = unsafe [epoll_event](repeating: epoll_event(), count: Worker.eventLimit)
        unsafe input = UnsafeMutableRawBufferPointer.allocate(byteCount: Worker.inputSize, alignment: 4096)
        unsafe staging = UnsafeMutableRawBufferPointer.allocate(byteCount: Worker.stagingSize, alignment: 4096)
        unsafe extents = UnsafeMutablePointer<ExtentList>.allocate(capacity: 1)
        unsafe extents.initialize(to: ExtentList(capacity: Limit.extents))
        var event = unsafe epoll_event()
        unsafe event.events = EPOLLIN.rawValue
        _ = unsafe epoll_ctl(epoll, EPOLL_CTL_ADD, mailbox.bell.descriptor, &event)
    }

    deinit {
        helpers.end()
        _ = close(epoll)
        unsafe input.deallocate()
        unsafe staging.deallocate()
        unsafe extents.deinitialize(count: 1)
        unsafe extents.deallocate()
    }

    // MARK: - The loop

    /// Serves until it is stopped and its last connection has ended.
    func run() {
        now = sk_now()
        while !(stopDeadline != nil || isParting) || !connections.isEmpty || !departed.isEmpty {
            waitForEvents()
            swap(&ready, &next)
            for connection in next { serve(connection) }
            next.removeAll(keepingCapacity: true)
            if let held { report(to: held) }
            if now >= nextCheck { checkDeadlines() }
        }
        mailbox.hasEnded.store(true, ordering: .releasing)
    }

    private func waitForEvents() {
        var count: Int32 = 0
        if ready.isEmpty && atDevice == 0 {
            count = patience.wait(milliseconds: timeout) { milliseconds in
                unsafe epoll_wait(epoll, &events, Int32(Worker.eventLimit), milliseconds)
            }
        } else {
            // A device takes longer than it pays to look, and its helpers need the processor.
            count = unsafe epoll_wait(epoll, &events, Int32(Worker.eventLimit), ready.isEmpty ? timeout : 0)
        }
        now = sk_now()
        var isCalled = false
        for index in 0..<Int(max(0, count)) {
            if let pointer = unsafe events[index].data.ptr {
                let connection = unsafe Unmanaged<Connection>.fromOpaque(pointer).takeUnretainedValue()
                if unsafe events[index].events == EPOLLOUT.rawValue && !connection.hasUnsent {
                    watch(connection, output: false)
                } else {
                    enqueue(connection)
                }
            } else {
                isCalled = true
            }
        }
        // After the events, whose connections an order may end.
        if isCalled {
            takeOrders()
            collect()
        }
    }

    /// Deadlines are looked at once a second, while there are any.
    private var timeout: Int32 { hasDeadlines || stopDeadline != nil ? 1000 : -1 }

    /// Gives the connection a turn in the next round.
    func enqueue(_ connection: Connection) {
        guard !connection.isReady else { return }
        connection.isReady = true
        ready.append(connection)
    }

    private func serve(_ connection: Connection) {
        connection.isReady = false
        guard connection.place >= 0, held == nil || !connection.isMovable else { return }
        switch connection.turn() {
        case .idle: if connection.hasUnsent && !connection.isOutputWatched { watch(connection, output: true) }
        case .again: enqueue(connection)
        case .ended: end(connection)
        }
    }

    private func checkDeadlines() {
        nextCheck = now + 1_000_000_000
        let isOver = stopDeadline.map { now >= $0 } ?? false
        hasDeadlines = connections.contains { $0.deadline != nil }
        for connection in connections where isOver || connection.deadline.map({ now >= $0 }) ?? false {
            if held != nil && connection.isMovable { continue }
            if connection.phase == .negotiating || connection.phase == .securing {
                connection.fail("the client took too long to negotiate")
            }
            if isOver { connection.fail("the client took too long to take its replies") }
            end(connection)
        }
    }

    // MARK: - Connections

    private func takeOrders() {
        for order in mailbox.take() {
            switch order {
            case .adopt(let descriptor, let peer): adopt(descriptor, peer)
            case .resume(let descriptor, let state): adopt(descriptor, state.peer, state)
            case .hold(let clients):
                held = clients
                hasReported = false
            case .goOn: goOn()
            case .part: part()
            case .drop(let export):
                for connection in connections where connection.export === export {
                    connection.stop()
                    enqueue(connection)
                }
            case .stop:
                stopDeadline = now + UInt64(limits.stopSeconds) * 1_000_000_000
                for connection in connections {
                    connection.stop()
                    enqueue(connection)
                }
            }
        }
    }

    private func adopt(_ descriptor: Int32, _ peer: Peer, _ state: ConnectionState? = nil) {
        let connection = Connection(
            descriptor, peer, self, deadline: now + UInt64(limits.handshakeSeconds) * 1_000_000_000, resuming: state)
        hasDeadlines = true
        connection.place = connections.count
        connections.append(connection)
        watch(connection, output: false, by: EPOLL_CTL_ADD)
        if stopDeadline != nil { connection.stop() }
        log.connectionBegan(descriptor)
        enqueue(connection)
    }

    /// Room for output is watched only while somebody waits for it: a Unix socket tells of it whenever its client has
    /// taken something.
    private func watch(_ connection: Connection, output: Bool, by operation: Int32 = EPOLL_CTL_MOD) {
        var event = unsafe epoll_event()
        unsafe event.events = EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        if output { unsafe event.events |= EPOLLOUT.rawValue }
        unsafe event.data.ptr = unsafe Unmanaged.passUnretained(connection).toOpaque()
        connection.isOutputWatched = output
        if unsafe epoll_ctl(epoll, operation, connection.descriptor, &event) != 0 {
            connection.fail("it can't be watched")
        }
    }

    private func end(_ connection: Connection) {
        guard connection.place >= 0 else { return }
        log.connectionEnded(connection.descriptor, connection.fault ?? "it is done")
        forget(connection)
    }

    func forget(_ connection: Connection) {
        let last = connections.removeLast()
        if last !== connection {
            connections[connection.place] = last
            last.place = connection.place
        }
        connection.place = -1
        // Where another process has the socket too, closing it would leave this set's interest in it.
        _ = epoll_ctl(epoll, EPOLL_CTL_DEL, connection.descriptor, nil)
        connection.release()
        if connection.requestsInFlight > 0 { departed.append(connection) }
        shrinkWhereIdle()
        mailbox.population.subtract(1, ordering: .relaxed)
    }

    /// Memory is kept for the next request of those that are there.
    private func shrinkWhereIdle() { if connections.isEmpty && departed.isEmpty { buffers.shrink() } }

    // MARK: - What connections use

    /// Makes room for a reply of so many bytes behind what is staged.
    @inline(__always)
    func reserve(_ count: Int, for connection: Connection) {
        if staged + count > Worker.stagingSize { connection.flush() }
    }

    /// Where the next reply goes.
    @inline(__always)
    var stagingRoom: UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(rebasing: staging[staged...])
    }

    /// Has a request answered by somebody who may wait.
    func submit(_ slot: UnsafeMutablePointer<Slot>) {
        atDevice += 1
        unsafe helpers.submit(slot)
    }

    /// Waits for the device here, where that keeps nobody else waiting: to wake a helper, and to be woken by it, can take as
    /// long as a disk. Nil where a helper has to do it.
    func wait(for iop: IOP, _ message: inout Message) -> Answer? {
        guard connections.count == 1, departed.isEmpty, atDevice == 0, stopDeadline == nil else { return nil }
        guard caution == 0 else {
            caution -= 1
            return nil
        }
        let begin = Clock.now
        mailbox.isWaiting.store(true, ordering: .relaxed)
        let answer = iop.perform(&message)
        mailbox.isWaiting.store(false, ordering: .relaxed)
        if Clock.now - begin > Worker.longWait { caution = Worker.restOfCaution }
        return answer
    }

    /// Hands answers to their connections.
    private func collect() {
        var answered = helpers.collect()
        while let slot = unsafe answered.removeFirst() {
            atDevice -= 1
            let connection = unsafe slot.pointee.connection
            unsafe connection.complete(slot)
            if connection.place >= 0 {
                enqueue(connection)
            } else {
                connection.releaseAnswers()
                if connection.requestsInFlight == 0 { departed.removeAll { $0 === connection } }
                shrinkWhereIdle()
            }
        }
    }
}
