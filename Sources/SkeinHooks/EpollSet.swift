import CSystem

/// An epoll set with endpoints or listeners in it. The kernel's set holds, for each endpoint, its Unix
/// socket (bells, hang-up); what is reported is computed from the rings.
///
/// An endpoint is *watched here* while it is busy: every wait looks at its ring, and it is armed only for
/// the time of a sleep. One that stayed idle over many sleeps is left armed and looked at no more, until
/// its bell comes through the kernel; so a wait costs what is busy, not what is connected.
@safe
struct EpollSet {
    /// A `Lock`, at the beginning.
    var lockWords: UInt64 = 0
    /// The lock's while a fork holds it.
    var forkGeneration: UInt32 = 0
    /// The next of the process's sets.
    var next: UnsafeMutablePointer<EpollSet>? = nil
    var descriptor: Int32
    /// Descriptors of this process that are this set.
    var references: Int32 = 1
    var members: UnsafeMutablePointer<Member>? = nil
    var capacity = 0
    /// Members in use lie below this index.
    var limit = 0
    /// Endpoints among the members.
    var endpoints = 0
    /// Indices of the members watched here.
    var watched: UnsafeMutablePointer<Int32>? = nil
    var watchedCount = 0
    /// Where the next look begins, so that a small `maxevents` starves nobody.
    var cursor = 0
    var lastKernelLook: UInt64 = 0
    var spin = Spin()
    /// Threads asleep in the kernel on this set.
    var sleeping = 0
    /// An endpoint that others share: another's drain may swallow our bell, so nobody sleeps long.
    var inCompany = false
    /// A bell was left to another sleeper: the next wait lets that one run first.
    var pauses = false

    /// The process that made it. A forked child shares the kernel's set and must take nothing out of it.
    var owner: Int32 = unsafe process.processIdentifier
    var isOurs: Bool { unsafe owner == process.processIdentifier }

    init(descriptor: Int32) { self.descriptor = descriptor }
}

/// One registration.
@safe
struct Member {
    enum Kind: UInt8 { case unused, stream, endpoint, hidden, nested }
    var kind: Kind = .unused
    var descriptor: Int32 = -1
    var events: UInt32 = 0
    var data: UInt64 = 0
    var local: UnsafeMutablePointer<LocalState>? = nil
    /// A one-shot that has been reported.
    var disabled = false
    var armed = false
    var isWatched = false
    /// Out of the kernel's set, because a hang-up would be reported without end.
    var outOfKernel = false
    /// The number under which the kernel's set has it, -1 before the first sleep: what is busy needs no kernel.
    var registered: Int32 = -1
    /// Sleeps since it was last ready.
    var idle: UInt16 = 0
    /// Edge-triggered: nothing has been reported since it was added or changed.
    var fresh = true
    var seenTail: UInt64 = 0
    var seenBits: UInt32 = 0
}

let epollOneShot: UInt32 = 1 << 30
let epollEdge: UInt32 = 1 << 31
let epollExclusive: UInt32 = 1 << 28
/// Marks events of the kernel's set that are ours: never the upper half of a pointer or a small number.
private let token: UInt64 = 0x534b_4e45_0000_0000

extension EpollSet {
    private static let idleSleeps: UInt16 = 16

    // MARK: Registrations

    func find(_ descriptor: Int32) -> Int? {
        for index in 0..<limit
        where unsafe members![index].descriptor == descriptor && members![index].kind != .unused
            && members![index].kind != .hidden
        {
            return index
        }
        return nil
    }

    private mutating func newMember() -> Int? {
        for index in 0..<limit where unsafe members![index].kind == .unused { return index }
        if limit == capacity {
            guard grow() else { return nil }
        }
        unsafe members![limit] = Member()
        limit += 1
        return limit - 1
    }

    /// Doubles the room. Not by malloc: a fork waits for our lock, and may hold malloc's then.
    private mutating func grow() -> Bool {
        let entry = MemoryLayout<Member>.stride + 4
        let larger = max(capacity * 2, 4096 / entry)
        guard let memory = unsafe allocate(larger * entry) else { return false }
        let list = unsafe memory.advanced(by: larger * MemoryLayout<Member>.stride)
        if let before = unsafe members {
            unsafe memcpy(memory, before, limit * MemoryLayout<Member>.stride)
            unsafe memcpy(list, watched!, watchedCount * 4)
            unsafe _ = sk_munmap(before, capacity * entry)
        }
        unsafe members = unsafe memory.bindMemory(to: Member.self, capacity: larger)
        unsafe watched = unsafe list.bindMemory(to: Int32.self, capacity: larger)
        capacity = larger
        return true
    }

    /// The set is closed: lets go of every member and of the memory.
    mutating func removeAll() {
        for index in 0..<limit where unsafe members![index].kind == .endpoint { _ = remove(index, fromKernel: false) }
        if let memory = unsafe members {
            unsafe _ = sk_munmap(memory, capacity * (MemoryLayout<Member>.stride + 4))
        }
        unsafe members = nil
        capacity = 0
        limit = 0
        watchedCount = 0
    }

    /// EPOLL_CTL_ADD of a descriptor of ours. 0 or minus the errno.
    mutating func add(_ descriptor: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        if find(descriptor) != nil { return -Int(EEXIST) }
        guard let index = newMember() else { return -Int(ENOMEM) }
        var member = Member()
        member.descriptor = descriptor
        member.events = events
        member.data = data
        if let end = endpoint(descriptor) {
            member.kind = .endpoint
            unsafe member.local = unsafe end.local
            unsafe members![index] = member
            unsafe end.local.pointee.registrations += 1
            endpoints += 1
            watch(index)
            wakeSleepers(index)
            return 0
        }
        if unsafe epollSet(descriptor) != nil {
            member.kind = .nested
            let result = control(1, descriptor, pollIn, token | UInt64(index))
            guard result == 0 else { return result }
            unsafe members![index] = member
            watch(index)
            return 0
        }
        member.kind = .stream
        let result = control(1, descriptor, events, data)
        guard result == 0 else { return result }
        unsafe members![index] = member
        if let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.hidden >= 0 {
            unsafe addHidden(index, socket)
        }
        return 0
    }

    /// The hidden listener (and what waits beside it) reports under the visible one's data.
    mutating func addHidden(_ owner: Int, _ socket: UnsafeMutablePointer<StreamSocket>) {
        unsafe addHidden(owner, socket.pointee.hidden)
        for index in unsafe 0..<socket.pointee.pendingCount { unsafe addHidden(owner, socket.pointee.pending[index]) }
    }

    mutating func addHidden(_ owner: Int, _ hidden: Int32) {
        guard let index = newMember() else { return }
        let visible = unsafe members![owner]
        var member = Member()
        member.kind = .hidden
        member.descriptor = hidden
        member.events = visible.events
        member.data = visible.data
        member.seenTail = UInt64(UInt32(bitPattern: visible.descriptor))
        if control(1, hidden, visible.events, token | UInt64(index)) == 0 { unsafe members![index] = member }
    }

    /// A pending connection is accepted or dropped. Its socket may live on under another number, so the
    /// kernel would keep the registration.
    mutating func removeHidden(_ hidden: Int32) {
        for index in 0..<limit where unsafe members![index].kind == .hidden && members![index].descriptor == hidden {
            _ = control(2, hidden, 0, 0)
            unsafe members![index].kind = .unused
        }
    }

    mutating func modify(_ descriptor: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        guard let index = find(descriptor) else { return -Int(ENOENT) }
        if unsafe members![index].kind == .stream {
            let result = control(3, descriptor, events, data)
            if result != 0 { return result }
        }
        // While the old interest still says what was armed.
        if unsafe members![index].kind == .endpoint { disarm(index) }
        unsafe members![index].events = events
        unsafe members![index].data = data
        unsafe members![index].disabled = false
        unsafe members![index].fresh = true
        unsafe members![index].seenBits = 0
        if unsafe members![index].kind == .endpoint {
            watch(index)
            wakeSleepers(index)
        }
        for other in 0..<limit
        where unsafe members![other].kind == .hidden
            && members![other].seenTail == UInt64(UInt32(bitPattern: descriptor))
        {
            unsafe members![other].events = events
            unsafe members![other].data = data
            _ = unsafe control(3, members![other].descriptor, events, token | UInt64(other))
        }
        return 0
    }

    mutating func remove(_ descriptor: Int32, closing: Bool) -> Int {
        guard let index = find(descriptor) else { return -Int(ENOENT) }
        return remove(index, fromKernel: !closing)
    }

    /// `fromKernel` is false where the kernel drops the registration with the descriptor.
    private mutating func remove(_ index: Int, fromKernel: Bool) -> Int {
        let member = unsafe members![index]
        let number = member.kind == .endpoint ? member.registered : member.descriptor
        if fromKernel && !member.outOfKernel && number >= 0 {
            let result = control(2, number, 0, 0)
            if result != 0 { return result }
        }
        disarm(index)
        unwatch(index)
        if member.kind == .endpoint {
            unsafe member.local!.pointee.registrations -= 1
            endpoints -= 1
        }
        unsafe members![index].kind = .unused
        for other in 0..<limit
        where unsafe members![other].kind == .hidden
            && members![other].seenTail == UInt64(UInt32(bitPattern: member.descriptor))
        {
            // Other processes may hold the hidden listener: the kernel would keep the registration.
            if fromKernel || isOurs { _ = unsafe control(2, members![other].descriptor, 0, 0) }
            unsafe members![other].kind = .unused
        }
        while unsafe limit > 0 && members![limit - 1].kind == .unused { limit -= 1 }
        return 0
    }

    /// The process closes its last descriptor of an end. Where other processes hold the end the kernel
    /// would keep the registration, and its bells would wake this set without end.
    mutating func forget(_ local: UnsafeMutablePointer<LocalState>) {
        var index = 0
        while index < limit {
            if unsafe members![index].kind == .endpoint && members![index].local == local {
                let shared = unsafe Endpoint(local).has(EndFlag.forked) && isOurs
                if remove(index, fromKernel: shared) != 0 { _ = remove(index, fromKernel: false) }
            }
            index += 1
        }
    }

    private func control(_ operation: Int32, _ target: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        var event = unsafe epoll_event()
        unsafe sk_event_set(&event, 0, events, data)
        return unsafe sk_epoll_ctl(descriptor, operation, target, &event)
    }

    // MARK: Watching and arming

    private mutating func watch(_ index: Int) {
        if unsafe members![index].isWatched { return }
        unsafe members![index].isWatched = true
        unsafe members![index].idle = 0
        unsafe watched![watchedCount] = Int32(index)
        watchedCount += 1
    }

    private mutating func unwatch(_ index: Int) {
        guard unsafe members![index].isWatched else { return }
        unsafe members![index].isWatched = false
        for place in 0..<watchedCount where unsafe watched![place] == Int32(index) {
            watchedCount -= 1
            unsafe watched![place] = unsafe watched![watchedCount]
            return
        }
    }

    /// Another thread sleeps on this set already: it must see the bell, or what is ready now. A Unix
    /// socket can always be written to, so asking for that wakes it.
    private func wakeSleepers(_ index: Int) {
        guard sleeping > 0 else { return }
        arm(index)
        if ready(index) != 0 {
            _ = unsafe control(3, members![index].registered, pollIn | pollReadHangUp | pollOut, token | UInt64(index))
        }
    }

    /// An own shutdown has changed how the end stands. Returns how many arms of that kind it has from here.
    mutating func wakeSleepers(of local: UnsafeMutablePointer<LocalState>, _ kind: Arms) -> UInt32 {
        var count: UInt32 = 0
        for index in 0..<limit where unsafe members![index].kind == .endpoint && members![index].local == local {
            watch(index)
            wakeSleepers(index)
            if unsafe members![index].armed && Arms(interest: members![index].events).contains(kind) { count += 1 }
        }
        return count
    }

    private func arm(_ index: Int) {
        register(index)
        if unsafe members![index].kind == .nested {
            if let inner = unsafe epollSet(members![index].descriptor) { unsafe withLock(inner) { $0.armForOthers() } }
        }
        guard unsafe !members![index].armed, let local = unsafe members![index].local else { return }
        unsafe members![index].armed = true
        unsafe Endpoint(local).arm(Arms(interest: members![index].events))
    }

    /// Puts an endpoint into the kernel's set, by a number that it has now.
    private func register(_ index: Int) {
        guard unsafe members![index].kind == .endpoint, unsafe members![index].registered < 0,
            unsafe !members![index].outOfKernel
        else { return }
        let number = unsafe members![index].local!.pointee.descriptor
        let result = control(1, number, pollIn | pollReadHangUp, token | UInt64(index))
        // A forked sibling may have put it there already, under this same place in its copy of the set.
        if result == 0 || result == -Int(EEXIST) { unsafe members![index].registered = number }
    }

    private func disarm(_ index: Int) {
        guard unsafe members![index].armed, let local = unsafe members![index].local else { return }
        unsafe members![index].armed = false
        unsafe Endpoint(local).disarm(Arms(interest: members![index].events))
    }

    /// Whoever sleeps on this set from outside (a set within a set, poll on the set) needs every bell.
    mutating func armForOthers() {
        for place in 0..<watchedCount { unsafe arm(Int(watched![place])) }
    }

    /// A forked child shares the kernel's set; what its parent armed stays the parent's.
    mutating func forgetArms() {
        lockWords = 0
        sleeping = 0
        for index in 0..<limit where unsafe members![index].kind == .endpoint {
            unsafe members![index].armed = false
            watch(index)
        }
    }

    // MARK: Looking

    /// The bits to report of a member now, 0 for none.
    private func ready(_ index: Int) -> UInt32 {
        let member = unsafe members![index]
        if member.disabled { return 0 }
        if member.kind == .nested {
            guard let inner = unsafe epollSet(member.descriptor) else { return 0 }
            return unsafe withLock(inner) { $0.hasEvents() } ? pollIn & member.events : 0
        }
        let end = unsafe Endpoint(member.local!)
        unsafe end.noticeHint(end.local.pointee.descriptor)
        let all = end.readiness()
        let bits = all & (member.events | pollError | pollHangUp)
        if bits == 0 || member.events & epollEdge == 0 { return bits }
        let edge =
            unsafe member.fresh || end.peer.load64(Layout.tail) != member.seenTail
            || bits & ~member.seenBits & ~pollOut != 0
            // The peer's end is an edge also for who asked for EPOLLIN alone.
            || all & ~member.seenBits & pollReadHangUp != 0
            || (bits & pollOut != 0 && member.local!.pointee.wantsSpace)
        return edge ? bits : 0
    }

    private func report(_ index: Int, _ bits: UInt32) {
        if unsafe members![index].kind == .nested {
            unsafe members![index].idle = 0
            return
        }
        let end = unsafe Endpoint(members![index].local!)
        unsafe members![index].idle = 0
        unsafe members![index].fresh = false
        unsafe members![index].seenTail = end.peer.load64(Layout.tail)
        // What has come by now the program finds when it reads to the end, as edge-triggering has it.
        unsafe members![index].seenBits = bits | end.readiness() & pollReadHangUp
        if bits & pollOut != 0 { unsafe members![index].local!.pointee.wantsSpace = false }
        if unsafe members![index].events & epollOneShot != 0 { unsafe members![index].disabled = true }
    }

    func anyReady() -> Bool {
        for place in 0..<watchedCount where unsafe ready(Int(watched![place])) != 0 { return true }
        return false
    }

    /// Fills `events` from the watched members; how many.
    mutating func collect(_ events: UnsafeMutableRawPointer, _ maximum: Int) -> Int {
        var found = 0
        if cursor >= watchedCount { cursor = 0 }
        let start = cursor
        for step in 0..<watchedCount {
            if found == maximum { break }
            var place = start + step
            if place >= watchedCount { place -= watchedCount }
            let index = unsafe Int(watched![place])
            let bits = ready(index)
            if bits == 0 { continue }
            unsafe sk_event_set(events, Int32(found), bits, members![index].data)
            report(index, bits)
            found += 1
            cursor = place + 1
        }
        return found
    }

    /// Takes the kernel's events in, in place: ours become watched (and are reported by `collect`), the
    /// rest stay. Returns how many stay.
    mutating func absorb(_ events: UnsafeMutableRawPointer, _ count: Int) -> Int {
        var kept = 0
        for place in 0..<count {
            var data: UInt64 = 0
            let bits = unsafe sk_event_get(events, Int32(place), &data)
            let index = Int(data & 0xffff_ffff)
            guard data & 0xffff_ffff_0000_0000 == token else {
                unsafe keep(events, &kept, bits, data)
                continue
            }
            // Never the program's business, even if the registration is gone.
            guard index < limit else { continue }
            let member = unsafe members![index]
            if member.kind == .hidden {
                let shown = bits & ~(pollOut | pollHangUp)
                if shown != 0 { unsafe keep(events, &kept, shown, member.data) }
            } else if member.kind == .nested {
                watch(index)
            } else if member.kind == .endpoint {
                absorbEnd(index, bits)
            }
        }
        return kept
    }

    /// Adds an event, or merges it with one of the same data: a listener has two queues.
    private func keep(_ events: UnsafeMutableRawPointer, _ kept: inout Int, _ bits: UInt32, _ data: UInt64) {
        for place in 0..<kept {
            var other: UInt64 = 0
            let before = unsafe sk_event_get(events, Int32(place), &other)
            if other == data && before & pollIn != 0 && bits & pollIn != 0 { return }
        }
        unsafe sk_event_set(events, Int32(kept), bits, data)
        kept += 1
    }

    private mutating func absorbEnd(_ index: Int, _ kernelSaid: UInt32) {
        let member = unsafe members![index]
        let end = unsafe Endpoint(member.local!)
        let descriptor = unsafe end.local.pointee.descriptor
        var said = kernelSaid
        if said & (pollHangUp | pollError) != 0 {
            // The event may be of an end that had this place before.
            end.askKernel(descriptor)
            if !end.has(EndFlag.hungUp) { said &= ~(pollHangUp | pollError) }
        }
        _ = end.afterKernel(said)
        if said & pollOut != 0 { _ = control(3, member.registered, pollIn | pollReadHangUp, token | UInt64(index)) }
        if said & (pollHangUp | pollError) != 0 || end.has(EndFlag.deaf) { leaveKernel(index) }
        // Another thread that sleeps on this set still needs the bell.
        if sleeping == 0 { disarm(index) }
        watch(index)
        // One that leads to no event would wake every wait from now on.
        if said & pollIn != 0 && ready(index) == 0 {
            let own = unsafe members![index].armed ? Arms(interest: member.events) : []
            if !end.drain(descriptor, for: member.disabled ? [] : Arms(interest: member.events), own: own) {
                pauses = true
            }
        }
    }

    private mutating func leaveKernel(_ index: Int) {
        if unsafe members![index].registered >= 0 { _ = unsafe control(2, members![index].registered, 0, 0) }
        unsafe members![index].outOfKernel = true
    }

    /// For a set inside another wait: whether its own wait would report anything. Takes no event.
    mutating func hasEvents() -> Bool {
        for index in 0..<limit where unsafe members![index].kind == .endpoint || members![index].kind == .nested {
            if ready(index) != 0 { return true }
        }
        // What the kernel says counts only once our own bells are out of the way.
        quieten()
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        var now = timespec(tv_sec: 0, tv_nsec: 0)
        if unsafe sk_ppoll(&item, 1, &now, nil) <= 0 { return false }
        return true
    }

    /// Takes bells that mean nothing any more out of the queues, and dead ends out of the kernel's set.
    private mutating func quieten() {
        for index in 0..<limit where unsafe members![index].kind == .endpoint && !members![index].outOfKernel {
            let end = unsafe Endpoint(members![index].local!)
            var item = unsafe pollfd(fd: end.local.pointee.descriptor, events: Int16(POLLIN), revents: 0)
            var now = timespec(tv_sec: 0, tv_nsec: 0)
            var bells = 0
            while bells < 64, ready(index) == 0, unsafe !members![index].outOfKernel,
                unsafe sk_ppoll(&item, 1, &now, nil) > 0
            {
                absorbEnd(index, UInt32(UInt16(bitPattern: item.revents)))
                bells += 1
            }
        }
    }

    // MARK: Around a sleep

    /// Arms what is watched; true when nothing came meanwhile and sleeping is right.
    mutating func prepareSleep() -> Bool {
        sleeping += 1
        inCompany = false
        var place = 0
        while place < watchedCount {
            let index = unsafe Int(watched![place])
            arm(index)
            if isInCompany(index) {
                inCompany = true
            } else if unsafe members![index].idle > EpollSet.idleSleeps && !members![index].outOfKernel
                && members![index].kind == .endpoint && ready(index) == 0
            {
                unwatch(index)
                continue
            }
            unsafe members![index].idle &+= 1
            place += 1
        }
        return !anyReady()
    }

    /// Whether somebody else of this end sleeps too, so that our bell may be swallowed.
    private func isInCompany(_ index: Int) -> Bool {
        guard let local = unsafe members![index].local else { return false }
        let end = unsafe Endpoint(local)
        return unsafe end.hasOtherSleepers(than: Arms(interest: members![index].events)) || end.has(EndFlag.deaf)
    }

    mutating func endSleep() {
        sleeping -= 1
        if sleeping > 0 { return }
        for place in 0..<watchedCount { unsafe disarm(Int(watched![place])) }
    }
}
