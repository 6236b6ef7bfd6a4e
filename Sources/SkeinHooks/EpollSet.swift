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
    /// Registrations of this set in others of this process.
    var registrations: Int32 = 0
    var members: UnsafeMutablePointer<Member>? = nil
    var capacity = 0
    /// Members in use lie below this index.
    var limit = 0
    /// Members whose number has been closed since.
    var strays = 0
    /// Unused members below `limit`, and hidden ones, each chained through `Member.next`; -1 ends a chain.
    private var firstFree: Int32 = -1
    private(set) var firstHidden: Int32 = -1
    /// By number: one more than the index of the first member that was registered by it. The rest is chained.
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

let epollOneShot: UInt32 = 1 << 30
let epollEdge: UInt32 = 1 << 31
private let epollExclusive: UInt32 = 1 << 28
/// IN, OUT, ERR, HUP, WAKEUP, ET: what goes with EPOLLEXCLUSIVE.
private let epollWithExclusive: UInt32 = epollExclusive | epollEdge | 1 << 29 | 0x1d
/// Marks events of the kernel's set that are ours: never the upper half of a pointer or a small number.
let token: UInt64 = 0x534b_4e45_0000_0000

extension EpollSet {
    // MARK: Registrations

    /// The registration of a number for what it stands for, of which `word` is the entry.
    func find(_ descriptor: Int32, _ word: UInt) -> Int? {
        guard descriptor >= 0, Int(descriptor) < indexCount else { return nil }
        var index = unsafe Int(indices![Int(descriptor)]) - 1
        while index >= 0 {
            if unsafe members![index].file == word & ~Kind.bits { return index }
            index = unsafe Int(members![index].next)
        }
        return nil
    }

    /// The first registration from `start` on of what the entry names, by whatever number.
    func find(_ word: UInt, from start: Int = 0) -> Int? {
        for index in start..<limit where unsafe members![index].file == word & ~Kind.bits { return index }
        return nil
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
        let number = Int(member.descriptor)
        unsafe members![index] = member
        unsafe members![index].next = unsafe indices![number] - 1
        unsafe indices![number] = Int32(index) + 1
    }

    private mutating func free(_ index: Int) {
        let member = unsafe members![index]
        if member.kind != .unused && member.kind != .hidden { unchain(index) }
        if member.isStray { strays -= 1 }
        unsafe members![index] = Member()
        unsafe members![index].next = firstFree
        firstFree = Int32(index)
    }

    private func unchain(_ index: Int) {
        let (number, next) = unsafe (Int(members![index].descriptor), members![index].next)
        var before = unsafe Int(indices![number]) - 1
        if before == index { return unsafe indices![number] = next + 1 }
        while unsafe members![before].next != Int32(index) { before = unsafe Int(members![before].next) }
        unsafe members![before].next = next
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
        for index in 0..<limit {
            disarm(index)
            unsafe members![index].local?.pointee.registrations -= 1
            countNesting(index, -1)
        }
        if let memory = unsafe members {
            unsafe _ = sk_munmap(memory, capacity * (MemoryLayout<Member>.stride + 4))
        }
        if let memory = unsafe indices { unsafe _ = sk_munmap(memory, indexCount * 4) }
        unsafe members = nil
        unsafe indices = nil
        (capacity, limit, watchedCount, indexCount) = (0, 0, 0, 0)
        (firstFree, firstHidden, strays) = (-1, -1, 0)
    }

    /// EPOLL_CTL_ADD of a descriptor of ours, whose entry is `word`. 0 or minus the errno.
    mutating func add(_ descriptor: Int32, _ word: UInt, _ events: UInt32, _ data: UInt64) -> Int {
        if events & epollExclusive != 0, events & ~epollWithExclusive != 0 || kind(word) == .epoll {
            return -Int(EINVAL)
        }
        if find(descriptor, word) != nil { return -Int(EEXIST) }
        guard let index = newMember(for: descriptor) else { return -Int(ENOMEM) }
        var member = Member()
        member.descriptor = descriptor
        member.file = word & ~Kind.bits
        member.events = events
        member.data = data
        member.twin = Int32(index)
        var result = 0
        switch kind(word) {
        case .endpoint: member.kind = .endpoint
        case .epoll:
            member.kind = .nested
            member.registered = descriptor
            result = control(1, descriptor, pollIn | events & epollEdge, mark(index))
        default:
            member.kind = .stream
            result = control(1, descriptor, events, data)
        }
        guard result == 0 else {
            free(index)
            return result
        }
        install(member, at: index)
        begin(index)
        return 0
    }

    private mutating func begin(_ index: Int) {
        let member = unsafe members![index]
        if let local = unsafe member.local {
            joinTwins(index)
            unsafe local.pointee.registrations += 1
            watch(index)
            wakeSleepers(index)
        } else if unsafe member.inner != nil {
            countNesting(index, 1)
            watch(index)
        } else if let socket = unsafe member.socket, unsafe socket.pointee.hidden >= 0 {
            unsafe addHidden(index, socket.pointee.hidden)
        }
    }

    private func countNesting(_ index: Int, _ one: Int32) {
        if let inner = unsafe members![index].inner { unsafe withLock(inner) { $0.registrations += one } }
    }

    /// The hidden listener reports under the visible one's data. Of a one-shot, the visible one is marked too: the
    /// first report of either is the shot.
    mutating func addHidden(_ owner: Int, _ hidden: Int32) {
        guard let index = newMember() else { return }
        let visible = unsafe members![owner]
        var member = Member()
        member.kind = .hidden
        member.descriptor = hidden
        member.events = visible.events
        member.data = visible.data
        member.owner = Int32(owner)
        guard control(1, hidden, visible.events, mark(index)) == 0 else { return free(index) }
        member.next = firstHidden
        firstHidden = Int32(index)
        unsafe members![index] = member
        if visible.isOneShot && stands(owner) { _ = control(3, visible.descriptor, visible.events, mark(owner)) }
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
            unsafe unmark(index, members![index].registered)
        }
    }

    private func unmark(_ index: Int, _ number: Int32) {
        let member = unsafe members![index]
        _ = control(3, number, member.disabled ? epollOneShot : member.events, member.data)
    }

    /// The hidden listener may live on in another process, so the kernel would keep the registration.
    mutating func removeHidden(_ hidden: Int32) {
        var index = firstHidden
        while index >= 0 {
            let member = unsafe members![Int(index)]
            let owner = Int(member.owner)
            if member.descriptor == hidden && member.isOneShot && stands(owner) {
                unsafe unmark(owner, members![owner].descriptor)
            }
            index = member.next
        }
        dropHidden(fromKernel: true) { $0.descriptor == hidden }
    }

    private func hidden(of owner: Int) -> Int? {
        var index = firstHidden
        while index >= 0 {
            if unsafe members![Int(index)].owner == Int32(owner) { return Int(index) }
            index = unsafe members![Int(index)].next
        }
        return nil
    }

    mutating func modify(_ descriptor: Int32, _ word: UInt, _ events: UInt32, _ data: UInt64) -> Int {
        if events & epollExclusive != 0 { return -Int(EINVAL) }
        guard let index = find(descriptor, word) else { return -Int(ENOENT) }
        let member = unsafe members![index]
        if member.events & epollExclusive != 0 { return -Int(EINVAL) }
        let hidden = member.kind == .stream ? hidden(of: index) : nil
        if member.kind == .stream {
            let isMarked = hidden != nil && events & epollOneShot != 0
            let result = control(3, descriptor, events, isMarked ? mark(index) : data)
            if result != 0 { return result }
        }
        // While the old interest still says what was armed.
        if member.kind == .endpoint { disarm(index) }
        unsafe members![index].events = events
        unsafe members![index].data = data
        unsafe members![index].disabled = false
        unsafe members![index].fresh = true
        unsafe members![index].seenBits = 0
        if member.kind == .endpoint {
            watch(index)
            wakeSleepers(index)
        }
        if member.kind == .nested { _ = control(3, member.registered, bells(index), mark(index)) }
        if let hidden {
            unsafe members![hidden].events = events
            unsafe members![hidden].data = data
            _ = unsafe control(3, members![hidden].descriptor, events, mark(hidden))
        }
        return 0
    }

    /// EPOLL_CTL_DEL. 0 or minus the errno.
    mutating func remove(_ descriptor: Int32, _ word: UInt) -> Int {
        guard let index = find(descriptor, word) else { return -Int(ENOENT) }
        return remove(index, fromKernel: true)
    }

    /// `fromKernel` is false where the kernel drops the registration with the descriptor.
    mutating func remove(_ index: Int, fromKernel: Bool) -> Int {
        let member = unsafe members![index]
        let number = member.kind == .stream ? member.descriptor : member.registered
        if fromKernel && number >= 0 && member.twin == Int32(index) {
            let result = control(2, number, 0, 0)
            if result != 0 { return result }
        }
        disarm(index)
        unwatch(index)
        if let local = unsafe member.local {
            leaveTwins(index, inKernel: fromKernel || isOurs)
            unsafe local.pointee.registrations -= 1
        }
        countNesting(index, -1)
        if member.kind == .stream {
            // Other processes may hold the hidden listener: the kernel would keep the registration.
            dropHidden(fromKernel: fromKernel || isOurs) { $0.owner == Int32(index) }
        }
        free(index)
        if let socket = unsafe member.socket, unsafe socket.pointee.hidden >= 0, let other = find(member.file) {
            unsafe addHidden(other, socket.pointee.hidden)
        }
        return 0
    }

    func control(_ operation: Int32, _ target: Int32, _ events: UInt32, _ data: UInt64) -> Int {
        var event = unsafe epoll_event()
        unsafe sk_event_set(&event, 0, events, data)
        return unsafe sk_epoll_ctl(descriptor, operation, target, &event)
    }
}
