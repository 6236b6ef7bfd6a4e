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
    /// Unused members below `limit`, and hidden ones, each chained through `Member.next`; -1 ends a chain.
    private var firstFree: Int32 = -1
    private(set) var firstHidden: Int32 = -1
    /// By descriptor: one more than the index of the member that the program knows by it.
    private var indices: UnsafeMutablePointer<Int32>? = nil
    private var indexCount = 0
    /// Indices of the members watched here.
    var watched: UnsafeMutablePointer<Int32>? = nil
    var watchedCount = 0
    /// Where the next look begins, so that a small `maxevents` starves nobody.
    var cursor = 0
    var lastKernelLook: UInt64 = 0
    var spin = Spin()
    /// Threads asleep in the kernel on this set.
    var sleeping = 0
    /// The worst that any watched endpoint is in.
    var company = Company.alone
    /// A bell was left to another sleeper: the next wait lets that one run first.
    var pauses = false

    /// The process that made it. A forked child shares the kernel's set and must take nothing out of it.
    var owner: UInt32 = unsafe process.descent
    var isOurs: Bool { unsafe owner == process.descent }

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
    /// Where it stands among the watched, -1 if it doesn't.
    var place: Int32 = -1
    var next: Int32 = -1
    /// Out of the kernel's set, because a hang-up would be reported without end.
    var outOfKernel = false
    /// The number under which the kernel's set has it, -1 before the first sleep: what is busy needs no kernel.
    var registered: Int32 = -1
    /// Sleeps since it was last ready.
    var idle: UInt16 = 0
    /// Edge-triggered: nothing has been reported since it was added or changed.
    var fresh = true
    /// A set within this one, edge-triggered: the kernel has reported it for something that is its own.
    var kernelEdge = false
    var seenTail: UInt64 = 0
    var seenBits: UInt32 = 0
}

let epollOneShot: UInt32 = 1 << 30
let epollEdge: UInt32 = 1 << 31
private let epollExclusive: UInt32 = 1 << 28
/// IN, OUT, ERR, HUP, WAKEUP, ET: what goes with EPOLLEXCLUSIVE.
private let epollWithExclusive: UInt32 = epollExclusive | epollEdge | 1 << 29 | 0x1d
/// Marks events of the kernel's set that are ours: never the upper half of a pointer or a small number.
let token: UInt64 = 0x534b_4e45_0000_0000

extension EpollSet {
    // MARK: Registrations

    func find(_ descriptor: Int32) -> Int? {
        guard descriptor >= 0, Int(descriptor) < indexCount, unsafe indices![Int(descriptor)] > 0 else { return nil }
        return unsafe Int(indices![Int(descriptor)]) - 1
    }

    private mutating func newMember() -> Int? {
        if firstFree >= 0 {
            let index = Int(firstFree)
            firstFree = unsafe members![index].next
            return index
        }
        if limit == capacity && !grow() { return nil }
        limit += 1
        return limit - 1
    }

    /// An unused member; nil as well where there is no memory to find it again by its descriptor.
    private mutating func newMember(for descriptor: Int32) -> Int? {
        if Int(descriptor) >= indexCount {
            let larger = max(indexCount * 2, (Int(descriptor) + 1024) & ~1023)
            guard let memory = unsafe allocate(larger * 4) else { return nil }
            if let before = unsafe indices {
                unsafe memcpy(memory, before, indexCount * 4)
                unsafe _ = sk_munmap(before, indexCount * 4)
            }
            unsafe indices = unsafe memory.bindMemory(to: Int32.self, capacity: larger)
            indexCount = larger
        }
        return newMember()
    }

    private mutating func install(_ member: Member, at index: Int) {
        unsafe members![index] = member
        unsafe indices![Int(member.descriptor)] = Int32(index) + 1
    }

    private mutating func free(_ index: Int) {
        let member = unsafe members![index]
        if member.kind != .unused && member.kind != .hidden { unsafe indices![Int(member.descriptor)] = 0 }
        unsafe members![index] = Member()
        unsafe members![index].next = firstFree
        firstFree = Int32(index)
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
        if let memory = unsafe indices { unsafe _ = sk_munmap(memory, indexCount * 4) }
        unsafe members = nil
        unsafe indices = nil
        (capacity, limit, watchedCount, indexCount) = (0, 0, 0, 0)
        (firstFree, firstHidden) = (-1, -1)
    }

    /// EPOLL_CTL_ADD of a descriptor of ours. 0 or minus the errno.
    mutating func add(_ descriptor: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        if events & epollExclusive != 0, unsafe events & ~epollWithExclusive != 0 || epollSet(descriptor) != nil {
            return -Int(EINVAL)
        }
        if find(descriptor) != nil { return -Int(EEXIST) }
        guard let index = newMember(for: descriptor) else { return -Int(ENOMEM) }
        let result = add(descriptor, events, data, at: index)
        if result != 0 { free(index) }
        return result
    }

    private mutating func add(_ descriptor: Int32, _ events: UInt32, _ data: UInt64, at index: Int) -> Int {
        var member = Member()
        member.descriptor = descriptor
        member.events = events
        member.data = data
        if let end = endpoint(descriptor) {
            member.kind = .endpoint
            unsafe member.local = unsafe end.local
            install(member, at: index)
            unsafe end.local.pointee.registrations += 1
            watch(index)
            wakeSleepers(index)
            return 0
        }
        if unsafe epollSet(descriptor) != nil {
            member.kind = .nested
            let result = control(1, descriptor, pollIn | events & epollEdge, token | UInt64(index))
            guard result == 0 else { return result }
            install(member, at: index)
            watch(index)
            return 0
        }
        member.kind = .stream
        let result = control(1, descriptor, events, data)
        guard result == 0 else { return result }
        install(member, at: index)
        if let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.hidden >= 0 {
            unsafe addHidden(index, socket.pointee.hidden)
        }
        return 0
    }

    /// The hidden listener reports under the visible one's data.
    mutating func addHidden(_ owner: Int, _ hidden: Int32) {
        guard let index = newMember() else { return }
        let visible = unsafe members![owner]
        var member = Member()
        member.kind = .hidden
        member.descriptor = hidden
        member.events = visible.events
        member.data = visible.data
        member.seenTail = UInt64(UInt32(bitPattern: visible.descriptor))
        guard control(1, hidden, visible.events, token | UInt64(index)) == 0 else { return free(index) }
        member.next = firstHidden
        firstHidden = Int32(index)
        unsafe members![index] = member
    }

    /// Hidden members of which `condition` holds leave the set; the kernel's too where `fromKernel` says so.
    private mutating func dropHidden(fromKernel: Bool, where condition: (Member) -> Bool) {
        var before: Int32 = -1
        var index = firstHidden
        while index >= 0 {
            let member = unsafe members![Int(index)]
            if condition(member) {
                if fromKernel { _ = control(2, member.descriptor, 0, 0) }
                if before < 0 { firstHidden = member.next } else { unsafe members![Int(before)].next = member.next }
                free(Int(index))
            } else {
                before = index
            }
            index = member.next
        }
    }

    /// The kernel's set reports the sets within as the program asked for, and no longer by our marks.
    func restoreNested() {
        for index in 0..<limit where unsafe members![index].kind == .nested {
            unsafe _ = control(3, members![index].descriptor, members![index].events, members![index].data)
        }
    }

    /// The hidden listener may live on in another process, so the kernel would keep the registration.
    mutating func removeHidden(_ hidden: Int32) {
        dropHidden(fromKernel: true) { $0.descriptor == hidden }
    }

    mutating func modify(_ descriptor: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        if events & epollExclusive != 0 { return -Int(EINVAL) }
        guard let index = find(descriptor) else { return -Int(ENOENT) }
        if unsafe members![index].events & epollExclusive != 0 { return -Int(EINVAL) }
        if unsafe members![index].kind == .stream {
            let result = control(3, descriptor, events, data)
            if result != 0 { return result }
        }
        if unsafe members![index].kind == .nested {
            _ = control(3, descriptor, pollIn | events & epollEdge, token | UInt64(index))
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
        var other = firstHidden
        while other >= 0 {
            let member = unsafe members![Int(other)]
            if member.seenTail == UInt64(UInt32(bitPattern: descriptor)) {
                unsafe members![Int(other)].events = events
                unsafe members![Int(other)].data = data
                _ = control(3, member.descriptor, events, token | UInt64(other))
            }
            other = member.next
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
        if member.kind == .endpoint { unsafe member.local!.pointee.registrations -= 1 }
        if member.kind == .stream {
            // Other processes may hold the hidden listener: the kernel would keep the registration.
            dropHidden(fromKernel: fromKernel || isOurs) {
                $0.seenTail == UInt64(UInt32(bitPattern: member.descriptor))
            }
        }
        free(index)
        return 0
    }

    /// The process closes its last descriptor of an end. Where other processes hold the end the kernel
    /// would keep the registration, and its bells would wake this set without end.
    mutating func forget(_ local: UnsafeMutablePointer<LocalState>, _ descriptor: Int32) {
        // By its last number as a rule; else by one that it had before.
        if let index = find(descriptor) { unsafe forget(local, at: index) }
        var index = 0
        while unsafe local.pointee.registrations > 0 && index < limit {
            unsafe forget(local, at: index)
            index += 1
        }
    }

    private mutating func forget(_ local: UnsafeMutablePointer<LocalState>, at index: Int) {
        guard unsafe members![index].kind == .endpoint && members![index].local == local else { return }
        let shared = unsafe Endpoint(local).has(EndFlag.forked | EndFlag.passed) && isOurs
        if remove(index, fromKernel: shared) != 0 { _ = remove(index, fromKernel: false) }
    }

    func control(_ operation: Int32, _ target: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        var event = unsafe epoll_event()
        unsafe sk_event_set(&event, 0, events, data)
        return unsafe sk_epoll_ctl(descriptor, operation, target, &event)
    }
}
