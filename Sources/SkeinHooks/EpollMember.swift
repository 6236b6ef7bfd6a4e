import CSystem
import Synchronization

/// One registration: a number, and what that stood for when it was registered. As in the kernel's set it lasts while
/// that does, though the number may be closed by then, or stand for something else.
@safe
struct Member {
    enum Kind: UInt8 { case unused, stream, endpoint, hidden, nested }
    var kind: Kind = .unused
    var descriptor: Int32 = -1
    /// What the number stood for: the address of its `LocalState`, `StreamSocket` or `EpollSet`.
    var file: UInt = 0
    var events: UInt32 = 0
    var data: UInt64 = 0
    /// The number has been closed since.
    var isStray = false
    /// A one-shot that has been reported.
    var disabled = false
    var armed = false
    /// Where it stands among the watched, -1 if it doesn't.
    var place: Int32 = -1
    /// The next that was registered by the same number, or is unused or hidden as this one; -1 ends the chain.
    var next: Int32 = -1
    /// An endpoint's next registration in the same set, around in a circle: its own index where there is no other.
    /// The kernel's set has the endpoint once, under the index of any of them.
    var twin: Int32 = -1
    /// A hidden listener's: the index of the visible one.
    var owner: Int32 = -1
    /// The number under which the kernel's set has an endpoint or a set, -1 for an endpoint before the first sleep: what
    /// is busy needs no kernel. It is an open one at all times, so that it can be taken out again.
    var registered: Int32 = -1
    /// Out of the kernel's set, because a hang-up would be reported without end.
    var outOfKernel = false
    /// Sleeps since it was last ready.
    var idle: UInt16 = 0
    /// Edge-triggered: nothing has been reported since it was added or changed.
    var fresh = true
    /// A set within this one, edge-triggered: the kernel has reported it for something that is its own.
    var kernelEdge = false
    var seenTail: UInt64 = 0
    var seenBits: UInt32 = 0
    /// `LocalState.roomEdges` at the last report of room.
    var seenRoom: UInt32 = 0

    var isOneShot: Bool { events & epollOneShot != 0 }

    var local: UnsafeMutablePointer<LocalState>? {
        unsafe kind == .endpoint ? UnsafeMutablePointer(bitPattern: file) : nil
    }
    var socket: UnsafeMutablePointer<StreamSocket>? {
        unsafe kind == .stream ? UnsafeMutablePointer(bitPattern: file) : nil
    }
    var inner: UnsafeMutablePointer<EpollSet>? {
        unsafe kind == .nested ? UnsafeMutablePointer(bitPattern: file) : nil
    }
}

// MARK: - Several registrations of one end

extension EpollSet {
    func joinTwins(_ index: Int) {
        let local = unsafe members![index].local!
        // Every number is another one's, but for those that have been closed.
        guard unsafe local.pointee.registrations > 0 && (local.pointee.descriptors > 1 || strays > 0) else { return }
        let file = unsafe members![index].file
        var other = find(file)
        if other == index { other = find(file, from: index + 1) }
        guard let other else { return }
        let twin = unsafe members![other]
        unsafe members![index].twin = twin.twin
        unsafe members![index].registered = twin.registered
        unsafe members![index].outOfKernel = twin.outOfKernel
        unsafe members![other].twin = Int32(index)
    }

    /// What the kernel's set has stands for the others from now on.
    func leaveTwins(_ index: Int, inKernel: Bool) {
        let member = unsafe members![index]
        if member.twin == Int32(index) { return }
        var before = Int(member.twin)
        while unsafe members![before].twin != Int32(index) { before = unsafe Int(members![before].twin) }
        unsafe members![before].twin = member.twin
        if inKernel && member.registered >= 0 { _ = control(3, member.registered, bells(before), mark(before)) }
    }

    /// Notes for all registrations of an end how the kernel's set has it.
    private func note(_ index: Int, registered: Int32, outOfKernel: Bool) {
        var other = index
        repeat {
            unsafe members![other].registered = registered
            unsafe members![other].outOfKernel = outOfKernel
            other = unsafe Int(members![other].twin)
        } while other != index
    }

    // MARK: The kernel's registration

    /// What the kernel's set calls a member.
    func mark(_ index: Int) -> UInt64 { token | UInt64(index) }

    /// What the kernel's set is asked for of an end or a set.
    func bells(_ index: Int) -> UInt32 {
        let member = unsafe members![index]
        guard let local = unsafe member.local else { return member.disabled ? 0 : pollIn | member.events & epollEdge }
        // After a shutdown nothing but the hang-up is told there.
        return unsafe Endpoint(local).has(EndFlag.deaf) ? 0 : pollIn | pollReadHangUp
    }

    func enterKernel(_ index: Int, _ events: UInt32) {
        let number = unsafe stands(index) ? members![index].descriptor : members![index].local!.pointee.descriptor
        let result = control(1, number, events, mark(index))
        // A forked sibling may have put it there already, under this same place in its copy of the set.
        if result == 0 || result == -Int(EEXIST) { note(index, registered: number, outOfKernel: false) }
    }

    func leaveKernel(_ index: Int) {
        if unsafe members![index].registered >= 0 { _ = unsafe control(2, members![index].registered, 0, 0) }
        note(index, registered: -1, outOfKernel: true)
    }

    // MARK: Numbers that are closed

    /// Whether the member's number stands for what it stood for.
    func stands(_ index: Int) -> Bool {
        // Not by `entry`, which waits for who is getting that number just now.
        let word = unsafe descriptorTable![Int(members![index].descriptor)].load(ordering: .acquiring)
        return unsafe word & ~Kind.bits == members![index].file
    }

    /// A number of a listener that is registered.
    func number(of listener: Int) -> Int32 {
        let member = unsafe members![listener]
        if stands(listener) { return member.descriptor }
        return anotherDescriptor(of: member.file | Kind.listener.rawValue, than: member.descriptor)
    }

    /// A number is about to be closed, and others of the same go on: so do the registrations. What the kernel's set
    /// kept by the closed number, nobody could take out of it any more.
    mutating func closeNumber(_ descriptor: Int32, _ word: UInt) {
        let own = find(descriptor, word)
        if let own, unsafe !members![own].isStray {
            unsafe members![own].isStray = true
            strays += 1
        }
        guard kind(word) == .endpoint || kind(word) == .epoll, let index = own ?? find(word),
            unsafe members![index].registered == descriptor
        else { return }
        note(index, registered: -1, outOfKernel: false)
        watch(index)
        // What the parent has registered stays the parent's.
        guard isOurs else { return }
        let other = anotherDescriptor(of: word, than: descriptor)
        if control(1, other, bells(index), mark(index)) == 0 { note(index, registered: other, outOfKernel: false) }
        _ = control(2, descriptor, 0, 0)
    }

    /// The process closes its last descriptor of something. Where other processes hold that, the kernel would keep
    /// what is marked as ours, and report it without end.
    mutating func forget(_ descriptor: Int32, _ word: UInt) {
        if let index = find(descriptor, word) { forget(index) }
        var start = 0
        // By numbers that it had before. An end knows also of those that were lost past the hooks.
        while hasMore(word), let index = find(word, from: start) {
            forget(index)
            start = index + 1
        }
    }

    private func hasMore(_ word: UInt) -> Bool {
        guard kind(word) == .endpoint else { return strays > 0 }
        return unsafe UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!.pointee.registrations > 0
    }

    private mutating func forget(_ index: Int) {
        let member = unsafe members![index]
        var staysInKernel = true
        if let local = unsafe member.local {
            staysInKernel = unsafe Endpoint(local).has(EndFlag.forked | EndFlag.passed)
        } else if let socket = unsafe member.socket {
            staysInKernel = unsafe socket.pointee.hidden >= 0 && member.isOneShot && stands(index)
        }
        if remove(index, fromKernel: staysInKernel && isOurs) != 0 { _ = remove(index, fromKernel: false) }
    }
}
