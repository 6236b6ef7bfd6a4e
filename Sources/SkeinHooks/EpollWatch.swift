import CSystem

// What a set looks at itself, what it leaves to the kernel, and what it reports.

extension EpollSet {
    private static let idleSleeps: UInt16 = 16

    // MARK: Watching and arming

    mutating func watch(_ index: Int) {
        if unsafe members![index].place >= 0 { return }
        unsafe members![index].place = Int32(watchedCount)
        unsafe members![index].idle = 0
        unsafe watched![watchedCount] = Int32(index)
        watchedCount += 1
    }

    mutating func unwatch(_ index: Int) {
        let place = unsafe Int(members![index].place)
        guard place >= 0 else { return }
        unsafe members![index].place = -1
        watchedCount -= 1
        if place == watchedCount { return }
        let last = unsafe watched![watchedCount]
        unsafe watched![place] = last
        unsafe members![Int(last)].place = Int32(place)
    }

    /// Another thread sleeps on this set already: it must see the bell, or what is ready now. A Unix
    /// socket can always be written to, so asking for that wakes it.
    func wakeSleepers(_ index: Int) {
        guard sleeping > 0 else { return }
        arm(index)
        if ready(index) == 0 { return }
        let all = pollIn | pollReadHangUp | pollOut
        if unsafe members![index].outOfKernel { return enterKernel(index, all) }
        _ = unsafe control(3, members![index].registered, all, mark(index))
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
        if let inner = unsafe members![index].inner { unsafe withLock(inner) { $0.armForOthers() } }
        guard let local = unsafe members![index].local else { return }
        if unsafe members![index].registered < 0 && !members![index].outOfKernel { enterKernel(index, bells(index)) }
        if unsafe members![index].armed { return }
        unsafe members![index].armed = true
        unsafe Endpoint(local).arm(Arms(interest: members![index].events))
    }

    func disarm(_ index: Int) {
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
        if let inner = unsafe member.inner {
            return unsafe withLock(inner) { $0.hasEvents() && isEdge(member, $0) } ? pollIn & member.events : 0
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
            || (bits & pollOut != 0
                && (end.local.pointee.wantsSpace || end.local.pointee.roomEdges != member.seenRoom))
        return edge ? bits : 0
    }

    /// Whether a set within this one has something to report that it had not when it was reported last.
    private func isEdge(_ member: Member, _ inner: EpollSet) -> Bool {
        if member.events & epollEdge == 0 || member.kernelEdge { return true }
        guard let arrivals = inner.arrivals() else { return false }
        return member.fresh || arrivals != member.seenTail
    }

    /// The kernel reports a set within this one: an edge, unless it is the bell of what was reported from memory.
    private func noticeNested(_ index: Int) {
        guard let inner = unsafe members![index].inner else { return }
        unsafe members![index].kernelEdge = unsafe withLock(inner) { $0.arrivals() == nil || !$0.hasBell() }
    }

    private func hasBell() -> Bool {
        for index in 0..<limit {
            let member = unsafe members![index]
            if let inner = unsafe member.inner, unsafe withLock(inner, { $0.hasBell() }) { return true }
            guard let local = unsafe member.local else { continue }
            var item = unsafe pollfd(fd: local.pointee.descriptor, events: Int16(POLLIN), revents: 0)
            var now = timespec(tv_sec: 0, tv_nsec: 0)
            if unsafe sk_ppoll(&item, 1, &now, nil) > 0 { return true }
        }
        return false
    }

    /// A number that changes with whatever comes to the ends in the set; nil where none is ready: what is ready then
    /// is something of the kernel's, of which the kernel reports the edges.
    private func arrivals() -> UInt64? {
        var sum: UInt64? = nil
        for index in 0..<limit {
            let member = unsafe members![index]
            // The rest is the kernel's: sockets of TCP, and places that nobody has.
            guard member.kind == .endpoint || member.kind == .nested, ready(index) != 0 else { continue }
            var own: UInt64? = nil
            if member.kind == .endpoint {
                let end = unsafe Endpoint(member.local!)
                own = end.peer.load64(Layout.tail) &* 31 &+ UInt64(end.readiness())
            } else if let inner = unsafe member.inner {
                own = unsafe withLock(inner) { $0.arrivals() }
            }
            if let own { sum = (sum ?? 1) &* 31 &+ own }
        }
        return sum
    }

    private func report(_ index: Int, _ bits: UInt32) {
        unsafe members![index].idle = 0
        unsafe members![index].fresh = false
        if unsafe members![index].isOneShot { unsafe members![index].disabled = true }
        if let inner = unsafe members![index].inner {
            unsafe members![index].kernelEdge = false
            unsafe members![index].seenTail = unsafe withLock(inner) { $0.arrivals() } ?? 0
            // The kernel would go on reporting it.
            if unsafe members![index].disabled {
                _ = unsafe control(3, members![index].registered, bells(index), mark(index))
            }
            return
        }
        let end = unsafe Endpoint(members![index].local!)
        unsafe members![index].seenTail = end.peer.load64(Layout.tail)
        // What has come by now the program finds when it reads to the end, as edge-triggering has it.
        unsafe members![index].seenBits = bits | end.readiness() & pollReadHangUp
        if bits & pollOut != 0 { unsafe members![index].seenRoom = end.noteRoom() }
    }

    func anyReady() -> Bool { firstReady() != nil }

    private func firstReady() -> Int? {
        for place in 0..<watchedCount {
            let index = unsafe Int(watched![place])
            if ready(index) != 0 { return index }
        }
        return nil
    }

    /// As `anyReady`, for a wait that looks: the member that ends it counts it.
    func endsSpin() -> Bool {
        guard let index = firstReady() else { return false }
        if let local = unsafe members![index].local { unsafe Endpoint(local).count(SocketTable.Record.spins) }
        return true
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
            if member.kind == .hidden || member.kind == .stream && member.isOneShot {
                unsafe reportListener(index, bits, events, &kept)
            } else if member.kind == .nested {
                noticeNested(index)
                watch(index)
            } else if member.kind == .endpoint {
                absorbEnd(index, bits)
            }
        }
        return kept
    }

    /// One of a listener's two queues: the hidden one, or of a one-shot either. Nothing of a shot that was fired.
    private func reportListener(
        _ index: Int, _ bits: UInt32, _ events: UnsafeMutableRawPointer, _ kept: inout Int
    ) {
        let isHidden = unsafe members![index].kind == .hidden
        let owner = unsafe isHidden ? Int(members![index].owner) : index
        let visible = unsafe members![owner]
        if visible.disabled { return }
        var shown = bits
        if isHidden, let socket = unsafe visible.socket {
            let isShut = bits & pollHangUp != 0
            // A listener that was shut down is what the kernel says of it.
            if isShut && !isListening(number(of: owner)) { return }
            shown = bits & (pollIn | pollInNormal)
            if shown == 0 { return }
            unsafe socket.pointee.promised = sk_thread_id()
            if unsafe isShut && members![index].descriptor == socket.pointee.hidden {
                unsafe socket.pointee.hiddenIsShut = true
            }
        }
        unsafe keep(events, &kept, shown, visible.data)
        if visible.isOneShot { unsafe members![owner].disabled = true }
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
        let gone = pollHangUp | pollError | pollReadHangUp
        if said & gone != 0 {
            // The event may be of an end that had this place before.
            end.askKernel(descriptor)
            if !end.has(EndFlag.hungUp) { said &= ~gone }
        }
        _ = end.afterKernel(said)
        if said & gone != 0 {
            leaveKernel(index)
        } else if said & pollOut != 0 || end.has(EndFlag.deaf) {
            _ = control(3, member.registered, bells(index), mark(index))
        }
        var interest = Arms()
        var own = Arms()
        var other = index
        repeat {
            // Another thread that sleeps on this set still needs the bell.
            if sleeping == 0 { disarm(other) }
            watch(other)
            let twin = unsafe members![other]
            if twin.armed { own.formUnion(Arms(interest: twin.events)) }
            if !twin.disabled && twin.events & epollEdge == 0 { interest.formUnion(Arms(interest: twin.events)) }
            other = Int(twin.twin)
        } while other != index
        // One that leads to no event would wake every wait from now on.
        if said & pollIn != 0 && !isReady(index) {
            if !end.drain(descriptor, for: interest, own: own, isReady: { isReady(index) }) { pauses = true }
        }
    }

    /// Whether any registration of the member's end has something to report.
    private func isReady(_ index: Int) -> Bool {
        var other = index
        repeat {
            if ready(other) != 0 { return true }
            other = unsafe Int(members![other].twin)
        } while other != index
        return false
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
        company = .alone
        var place = 0
        while place < watchedCount {
            let index = unsafe Int(watched![place])
            arm(index)
            let found = companyOf(index)
            if found != .alone {
                company = max(company, found)
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

    private func companyOf(_ index: Int) -> Company {
        guard let local = unsafe members![index].local else { return .alone }
        return unsafe Endpoint(local).company(Arms(interest: members![index].events))
    }

    mutating func endSleep() {
        sleeping -= 1
        if sleeping > 0 { return }
        for place in 0..<watchedCount { unsafe disarm(Int(watched![place])) }
    }
}

extension Endpoint {
    /// Room is reported: that is one edge for every registration, whichever is reported first. How many there were.
    fileprivate func noteRoom() -> UInt32 {
        if unsafe local.pointee.wantsSpace {
            unsafe local.pointee.wantsSpace = false
            unsafe local.pointee.roomEdges &+= 1
        }
        return unsafe local.pointee.roomEdges
    }
}
