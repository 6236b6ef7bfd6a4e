import CSystem
import Synchronization

// The relay's own process, from its first instruction to its last. Nothing here comes from malloc: it was
// cloned from a process whose other threads may hold its locks.

/// Whether this process is a relay.
nonisolated(unsafe) private(set) var isRelay = false

func runRelay(channel: Int32, listener: Int32, identity: UInt32) -> Never {
    unsafe isRelay = true
    // Nothing else open: it must keep nobody's files or pipes alive.
    let (low, high) = channel < listener ? (channel, listener) : (listener, channel)
    if low > 0 { closeNumbers(0...Int(low) - 1) }
    if high > low + 1 { closeNumbers(Int(low) + 1...Int(high) - 1) }
    closeNumbers(Int(high) + 1...Int(UInt32.max))
    unsafe sk_become_background("skein-relay")
    sk_set_file_limit(1 << 16)
    // Its maker's limits of processor time, data and addresses are meant for that one.
    for resource: Int32 in [0, 2, 9] { sk_lift_limit(resource) }
    unsafe descriptorTable = nil
    forgetSets()
    forgetDeparted()
    unsafe process.pools.unmapAll()
    unsafe process.blocks.unmapAll()
    identifyProcess()
    unsafe process.spinPolicy = .off
    unsafe process.fixedDescriptorLimit = nil
    if let scratch = unsafe allocate(Scratch.size), case let epoll = hookEpollCreate1(Flag.closeOnExec), epoll >= 0 {
        var relay = unsafe RelayProcess(
            channel: channel, listener: listener, identity: identity, epoll: epoll, scratch: Scratch(base: scratch))
        relay.run()
    }
    _ = sk_close(listener)
    var rest = timespec(tv_sec: 0, tv_nsec: Int(departureTime))
    _ = unsafe sk_ppoll(nil, 0, &rest, nil)
    giveBackDeparted()
    sk_exit(0)
    fatalError()
}

/// The ends that are relayed, and who is served.
@safe
private struct RelayProcess {
    /// From the maker; -1 once that is gone.
    var channel: Int32
    /// For those who have received a stream and want the end itself.
    let listener: Int32
    /// Its name.
    let identity: UInt32
    let epoll: Int32
    let scratch: Scratch
    private var first: UnsafeMutablePointer<RelayedEnd>? = nil
    private var count = 0
    private var cells = Cells<RelayedEnd>()
    private let descriptorsAtMost = descriptorLimit()
    /// The last end was asked for by who had got its stream: the next one may be too, and is better not begun.
    private var expectsVisitor = false
    /// When ends that were put off are looked at, in nanoseconds of the monotonic clock; 0 where none waits.
    private var beginning: UInt64 = 0
    private var listensToMaker = true

    /// What an event's data says; ends and gates by their address, which has its low bits free.
    private enum Source {
        static let channel: UInt64 = 1
        static let listener: UInt64 = 2
        /// With the visitor's descriptor above the low eight bits.
        static let visitor: UInt64 = 3
        /// Beside the address of the end.
        static let gate: UInt64 = 4
        static let kinds: UInt64 = 7
    }

    /// Milliseconds between looks at ends that somebody else reads: no event tells when that one is gone.
    private static let rivalPatience: Int32 = 100
    /// Milliseconds for which an end waits for a visitor.
    private static let visitorPatience: Int32 = 5
    /// Descriptors that an end takes, with those of a message on its way.
    private static let descriptorsEach = 3

    init(channel: Int32, listener: Int32, identity: UInt32, epoll: Int32, scratch: Scratch) {
        self.channel = channel
        self.listener = listener
        self.identity = identity
        self.epoll = epoll
        self.scratch = scratch
        watch(channel, pollIn, Source.channel)
        watch(listener, pollIn, Source.listener)
    }

    mutating func run() {
        let events = 64
        var memory = InlineArray<128, UInt64>(repeating: 0)
        while channel >= 0 || count > 0 {
            if channel >= 0 && listensToMaker != hasRoom {
                listensToMaker = hasRoom
                watch(channel, pollIn, Source.channel, operation: hasRoom ? 1 : 2)
            }
            let patience =
                beginning != 0 ? RelayProcess.visitorPatience : hasRivals() ? RelayProcess.rivalPatience : -1
            let found = unsafe withUnsafeMutableBytes(of: &memory) {
                unsafe hookEpollWait(epoll, $0.baseAddress!, Int32(events), patience)
            }
            if found < 0 && sk_errno() != EINTR { return }
            if found == 0 { resumeRivals() }
            var callers = false
            for index in 0..<max(found, 0) {
                var data: UInt64 = 0
                unsafe withUnsafeBytes(of: &memory) {
                    unsafe _ = sk_event_get($0.baseAddress!, index, &data)
                }
                if data == Source.channel || data == Source.listener { callers = true } else { serve(data) }
            }
            // Last, so that no place is taken again while an event of this look may still name it.
            if callers {
                receiveEnds()
                receiveVisitors()
            }
            if beginning != 0 && sk_now() >= beginning { beginAll() }
        }
    }

    private mutating func serve(_ data: UInt64) {
        if data & Source.kinds == Source.visitor {
            _ = answer(Int32(truncatingIfNeeded: data >> 8))
            return
        }
        guard let relayed = unsafe UnsafeMutablePointer<RelayedEnd>(bitPattern: UInt(data & ~Source.kinds)),
            unsafe !relayed.pointee.isGone
        else { return }
        if data & Source.kinds == Source.gate { unsafe lookAtGate(relayed) }
        unsafe step(relayed)
    }

    private func watch(_ descriptor: Int32, _ events: UInt32, _ data: UInt64, operation: Int32 = 1) {
        var event = unsafe epoll_event()
        unsafe sk_event_set(&event, 0, events, data)
        unsafe _ = hookEpollControl(epoll, operation, descriptor, &event)
    }

    /// Closes what is watched. The kernel would tell of it for as long as anybody holds the same socket: all ends of one call
    /// have the same gate, and a child that the maker forked meanwhile has all that was on its way.
    private func forget(_ descriptor: Int32) {
        watch(descriptor, 0, 0, operation: 2)
        _ = sk_close(descriptor)
    }

    // MARK: Ends

    private mutating func step(_ relayed: UnsafeMutablePointer<RelayedEnd>) {
        guard unsafe relayed.pointee.hasBegun, unsafe !relayed.pointee.isGone else { return }
        let watchedRoom = unsafe relayed.pointee.wantsRoom
        switch unsafe relayed.pointee.step(scratch) {
        case .done: unsafe drop(relayed)
        case .broken: unsafe drop(relayed, isComplete: false)
        case .hasMore:
            // Said again as if it were news: others have their turn first.
            unsafe watch(relayed.pointee.stream, streamEvents, address(relayed), operation: 3)
            fallthrough
        case .waits:
            let wantsRoom = unsafe relayed.pointee.wantsRoom
            if wantsRoom != watchedRoom {
                unsafe watch(
                    relayed.pointee.bell, bellEvents | (wantsRoom ? pollOut : 0), address(relayed), operation: 3)
            }
        }
    }

    private var bellEvents: UInt32 { pollIn | pollReadHangUp | epollEdge }
    private var streamEvents: UInt32 { pollIn | pollOut | pollReadHangUp | epollEdge }

    private func address(_ relayed: UnsafeMutablePointer<RelayedEnd>) -> UInt64 {
        UInt64(UInt(bitPattern: relayed))
    }

    private mutating func add(_ end: RelayedEnd) {
        installEndpoint(end.end, end.bell)
        guard let relayed = unsafe cells.take(end) else {
            _ = hookClose(end.bell)
            _ = sk_close(end.stream)
            if end.gate >= 0 { _ = sk_close(end.gate) }
            return
        }
        unsafe relayed.pointee.next = unsafe first
        if let first = unsafe first { unsafe first.pointee.previous = unsafe relayed }
        unsafe first = unsafe relayed
        count += 1
        unsafe watch(end.bell, bellEvents, address(relayed))
        unsafe watch(end.stream, streamEvents, address(relayed))
        if end.gate >= 0 { unsafe watch(end.gate, pollIn, address(relayed) | Source.gate) }
        if end.gate < 0 && expectsVisitor {
            unsafe relayed.pointee.hasBegun = false
            unsafe putOff(relayed)
        }
        unsafe step(relayed)
    }

    /// Lets go of an end. One that isn't complete has cost bytes, and its peer sees a reset.
    private mutating func drop(_ relayed: UnsafeMutablePointer<RelayedEnd>, isComplete: Bool = true) {
        if isComplete { unsafe relayed.pointee.end.endRelaying(by: identity) }
        if let next = unsafe relayed.pointee.next { unsafe next.pointee.previous = unsafe relayed.pointee.previous }
        if let previous = unsafe relayed.pointee.previous {
            unsafe previous.pointee.next = unsafe relayed.pointee.next
        } else {
            unsafe first = unsafe relayed.pointee.next
        }
        count -= 1
        _ = unsafe hookClose(relayed.pointee.bell)
        unsafe forget(relayed.pointee.stream)
        if unsafe relayed.pointee.gate >= 0 { unsafe forget(relayed.pointee.gate) }
        unsafe relayed.pointee.free()
        unsafe relayed.pointee.isGone = true
        unsafe cells.give(relayed)
    }

    private func hasRivals() -> Bool {
        var link = unsafe first
        while let relayed = unsafe link {
            if unsafe relayed.pointee.incoming.isRival { return true }
            unsafe link = unsafe relayed.pointee.next
        }
        return false
    }

    private mutating func resumeRivals() {
        var link = unsafe first
        while let relayed = unsafe link {
            unsafe link = unsafe relayed.pointee.next
            guard unsafe relayed.pointee.incoming.isRival else { continue }
            unsafe relayed.pointee.resume()
            unsafe step(relayed)
        }
    }

    private mutating func putOff(_ relayed: UnsafeMutablePointer<RelayedEnd>) {
        unsafe relayed.pointee.isDue = true
        if beginning == 0 { beginning = sk_now() &+ UInt64(RelayProcess.visitorPatience) * 1_000_000 }
    }

    /// Nobody has asked for these in time, or who has got the end isn't the only one with its stream.
    private mutating func beginAll() {
        beginning = 0
        var link = unsafe first
        while let relayed = unsafe link {
            unsafe link = unsafe relayed.pointee.next
            guard unsafe relayed.pointee.isDue else { continue }
            if unsafe !relayed.pointee.hasBegun { expectsVisitor = false }
            unsafe relayed.pointee.isDue = false
            unsafe relayed.pointee.hasBegun = true
            unsafe step(relayed)
        }
    }

    /// What the maker said of an exec or a spawn, if it has said anything.
    private mutating func lookAtGate(_ relayed: UnsafeMutablePointer<RelayedEnd>) {
        var word: UInt8 = 0
        let gate = unsafe relayed.pointee.gate
        guard gate >= 0 else { return }
        // Looked at, not taken: other ends may wait for the same word.
        let said = unsafe sk_recvfrom(gate, &word, 1, Int32(truncatingIfNeeded: Flag.dontWait | Flag.peek))
        if said < 0 { return }
        if said == 1 && word == Gate.Word.neverMind { return unsafe drop(relayed) }
        // The exec has taken the maker's own descriptors, and with them its hold.
        if said == 0 { unsafe relayed.pointee.end.block.subtract32(Block.holders, 1) }
        forget(gate)
        unsafe relayed.pointee.gate = -1
        unsafe relayed.pointee.hasBegun = true
    }

    // MARK: The channel

    /// For one more end.
    private var hasRoom: Bool { (count + 8) * RelayProcess.descriptorsEach < descriptorsAtMost }

    /// Takes in what the maker has handed over. Where descriptors are short it waits in the channel.
    private mutating func receiveEnds() {
        while channel >= 0 && hasRoom {
            var message = HandOver()
            var descriptors = InlineArray<5, Int32>(repeating: -1)
            var received: Int32 = 0
            let size = unsafe withUnsafeMutableBytes(of: &descriptors) { numbers in
                unsafe sk_receive_descriptors(
                    channel, &message, MemoryLayout<HandOver>.size,
                    numbers.baseAddress!.assumingMemoryBound(to: Int32.self), 5, &received,
                    Int32(truncatingIfNeeded: Flag.dontWait))
            }
            if size == -Int(EAGAIN) || size == -Int(EINTR) { return }
            if size == MemoryLayout<HandOver>.size && received >= 4,
                let end = adoptEnd(message, pool: descriptors[2], block: descriptors[3])
            {
                _ = sk_close(descriptors[2])
                _ = sk_close(descriptors[3])
                add(
                    RelayedEnd(
                        end, bell: descriptors[0], stream: descriptors[1], streamCookie: message.stream,
                        gate: descriptors[4]))
                continue
            }
            for index in 0..<Int(received) { _ = sk_close(descriptors[index]) }
            if size > 0 { continue }
            forget(channel)
            channel = -1
        }
    }

    // MARK: Who has a stream and wants the end itself

    private mutating func receiveVisitors() {
        while true {
            let accepted = sk_accept4(listener, nil, nil, Flag.closeOnExec | Flag.nonBlock)
            guard accepted >= 0 else { return }
            let visitor = Int32(accepted)
            // Root has children that became another user, and goes on beside them.
            guard let peer = peerCredentials(visitor),
                unsafe peer.user == 0 || isSameUser(peer.user, process.effectiveUser)
            else {
                _ = sk_close(visitor)
                continue
            }
            // As a rule it has spoken already.
            if !answer(visitor) { watch(visitor, pollIn, UInt64(visitor) << 8 | Source.visitor) }
        }
    }

    /// Who holds the stream of an end may have the end, and its options. False where the visitor has said nothing
    /// yet; else it is closed.
    private mutating func answer(_ visitor: Int32) -> Bool {
        var request = StreamRequest()
        var shown: Int32 = -1
        var received: Int32 = 0
        let size = unsafe sk_receive_descriptors(
            visitor, &request, MemoryLayout<StreamRequest>.size, &shown, 1, &received,
            Int32(truncatingIfNeeded: Flag.dontWait))
        if size == -Int(EAGAIN) { return false }
        if received == 1 {
            if size == MemoryLayout<StreamRequest>.size, let wish = request.wish {
                serve(wish, request.option, shown, visitor)
            }
            _ = sk_close(shown)
        }
        _ = sk_close(visitor)
        return true
    }

    private mutating func serve(
        _ wish: StreamRequest.Wish, _ option: OptionValue, _ shown: Int32, _ visitor: Int32
    ) {
        // Its maker may have handed it over a moment ago.
        receiveEnds()
        if wish == .catchUp { return catchUp(shown, visitor) }
        guard let relayed = unsafe find(shown) else { return }
        if wish == .theEnd { return unsafe give(relayed, shown, to: visitor) }
        var answer = unsafe answerOption(wish, option, relayed.pointee.bell)
        _ = unsafe sk_sendto(
            visitor, &answer, MemoryLayout<OptionValue>.size, Int32(truncatingIfNeeded: Flag.dontWait | Flag.noSignal),
            nil, 0)
    }

    /// Gives the visitor the end that the shown stream stands for; nothing where that can't be.
    private mutating func give(_ relayed: UnsafeMutablePointer<RelayedEnd>, _ shown: Int32, to visitor: Int32) {
        expectsVisitor = true
        unsafe begin(relayed)
        if unsafe relayed.pointee.isGone { return }
        unsafe putOff(relayed)
        var unread: Int32 = 0
        guard unsafe sk_ioctl(shown, 0x541B /* FIONREAD */, &unread) == 0,
            unsafe relayed.pointee.settle(unread: Int(unread), scratch),
            let handOver = unsafe relayed.pointee.end.handOver()
        else { return }
        // The visitor counts itself while this hold still lasts.
        let descriptors: InlineArray<5, Int32> = [unsafe relayed.pointee.bell, handOver.pool, handOver.block, -1, -1]
        _ = send(handOver.message, over: visitor, descriptors, count: 3)
    }

    /// Puts into the ring what programs have written into the streams of an end before somebody else goes on there, and
    /// takes out what they have read. Answers whether there is something that the ring has no room for.
    private mutating func catchUp(_ bell: Int32, _ visitor: Int32) {
        guard let bell = cookie(of: bell) else { return }
        var leftovers: UInt32 = 0
        var link = unsafe first
        while let relayed = unsafe link {
            unsafe link = unsafe relayed.pointee.next
            guard unsafe relayed.pointee.bellCookie == bell else { continue }
            unsafe lookAtGate(relayed)
            if unsafe relayed.pointee.gate < 0 { unsafe relayed.pointee.hasBegun = true }
            // A queue holds less than this many steps move.
            for _ in 0..<64 where unsafe relayed.pointee.isBehind { unsafe step(relayed) }
            unsafe step(relayed)
            if unsafe relayed.pointee.isBehind { leftovers = 1 }
        }
        _ = unsafe sk_sendto(
            visitor, &leftovers, 4, Int32(truncatingIfNeeded: Flag.dontWait | Flag.noSignal), nil, 0)
    }

    private func find(_ shown: Int32) -> UnsafeMutablePointer<RelayedEnd>? {
        guard let cookie = cookie(of: shown) else { return nil }
        // The newest first: an end is asked for right after it has been handed over.
        var link = unsafe first
        while let relayed = unsafe link {
            if unsafe relayed.pointee.streamCookie == cookie { return unsafe relayed }
            unsafe link = unsafe relayed.pointee.next
        }
        return nil
    }

    /// Who shows the stream has it from an exec or a spawn that has happened, whatever the gate still says.
    private mutating func begin(_ relayed: UnsafeMutablePointer<RelayedEnd>) {
        unsafe lookAtGate(relayed)
        unsafe relayed.pointee.hasBegun = true
    }
}
