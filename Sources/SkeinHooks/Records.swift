import CSystem
import Synchronization

// The control blocks of the program's sockets: which get one, and what it says. Every socket that is on
// shared memory has one, and every one that could have been and is not, with the reason.

/// A connection that the kernel's TCP brought to a listener under Skein.
struct CarriedSocket {
    /// Descriptors of this process that are this socket.
    var descriptors: Int32 = 1
    var record: SharedMemory
    /// What the record says.
    var description: SocketTable.Description
}

nonisolated(unsafe) private var carriedSockets = Cells<CarriedSocket>()

extension Endpoint {
    /// Fills in this process's control block of the end.
    func describe(_ descriptor: Int32) {
        var description = SocketTable.Description(state: SocketTable.State.connected, descriptor: descriptor)
        description.role = end == 0 ? SocketTable.Role.client : SocketTable.Role.server
        description.local = localAddress
        description.peer = peerAddress
        unsafe description.pool = process.pools[local.pointee.pool].inode
        unsafe description.slot = UInt32(bitPattern: local.pointee.slotIndex)
        unsafe description.generation = local.pointee.generation
        unsafe process.table.describe(local.pointee.record, description)
    }
}

/// A TCP listener, with the reason where it has no hidden listener beside it.
func recordListener(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ bound: Address, _ reason: Reason
) {
    var description = SocketTable.Description(state: SocketTable.State.listening, descriptor: descriptor)
    description.local = bound
    unsafe socket.pointee.reason = reason
    unsafe record(socket, &description, reason)
}

/// An STP socket that is not connected.
func recordSTP(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ state: UInt32) {
    var description = SocketTable.Description(state: state, descriptor: descriptor)
    unsafe description.local = Address(stpPort: socket.pointee.stp.port)
    unsafe record(socket, &description, .none)
}

/// A connection that has begun over TCP although this end is under Skein.
func recordFallBack(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ peer: Address, _ reason: Reason
) {
    unsafe recordDialled(descriptor, socket, peer, reason)
    unsafe process.table.countFallBack(reason)
    unsafe process.table.settle()
}

/// One that memory alone could have made, and has not.
func recordFailure(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ peer: Address, _ reason: Reason
) {
    unsafe recordDialled(descriptor, socket, peer, reason)
    unsafe process.table.settle()
    logFailure(descriptor, reason)
}

private func recordDialled(
    _ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>, _ peer: Address, _ reason: Reason
) {
    var description = SocketTable.Description(state: SocketTable.State.connected, descriptor: descriptor)
    description.role = SocketTable.Role.client
    // Its own address is asked of the kernel by who wants to know, as long as that has one.
    description.local.family = peer.family
    description.peer = peer
    unsafe socket.pointee.reason = reason
    unsafe record(socket, &description, reason)
}

/// Whether a connect may go over memory: not on a listener, nor where TCP is under way or connected.
func mayConnect(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) -> Bool {
    guard unsafe socket.pointee.hidden < 0 else { return false }
    guard let record = unsafe socket.pointee.record else { return true }
    // After a connect over TCP that failed the kernel's socket is as new.
    var state: UInt8 = 0
    var length: UInt32 = 1
    guard unsafe sk_getsockopt(descriptor, 6 /* IPPROTO_TCP */, 11 /* TCP_INFO */, &state, &length) == 0,
        state == 7 /* TCP_CLOSE */
    else { return false }
    withProcessLock { unsafe process.table.give(record) }
    unsafe socket.pointee.record = nil
    return true
}

private func record(
    _ socket: UnsafeMutablePointer<StreamSocket>, _ description: inout SocketTable.Description, _ reason: Reason
) {
    if reason != .none {
        description.carrier = SocketTable.Carrier.tcp
        description.reason = reason
    }
    let record = unsafe socket.pointee.record ?? withProcessLock { unsafe process.table.claim() }
    unsafe socket.pointee.record = record
    unsafe socket.pointee.description = description
    unsafe process.table.describe(record, description)
}

/// A connection that came over TCP to a listener of ours, which has its addresses from the kernel.
func recordCarried(_ descriptor: Int32, _ reason: Reason) {
    unsafe process.table.countFallBack(reason)
    var description = SocketTable.Description(state: SocketTable.State.connected, descriptor: descriptor)
    description.role = SocketTable.Role.server
    description.carrier = SocketTable.Carrier.tcp
    description.reason = reason
    let made = unsafe withProcessLock {
        unsafe carriedSockets.take(CarriedSocket(record: process.table.claim(), description: description))
    }
    if let socket = unsafe made {
        unsafe process.table.describe(socket.pointee.record, description)
        unsafe setEntry(descriptor, socket, .carried)
    }
    unsafe process.table.settle()
}

/// One descriptor less: the record names another one, or goes with the last.
func departCarried(_ socket: UnsafeMutablePointer<CarriedSocket>, _ descriptor: Int32, _ word: UInt) {
    var none: Int32 = -1
    guard unsafe forget(descriptor, word, &socket.pointee.descriptors, &none, socket.pointee.record) else { return }
    withProcessLock {
        unsafe process.table.give(socket.pointee.record)
        unsafe carriedSockets.give(socket)
    }
    unsafe process.table.settle()
}

/// The record's descriptor is about to be closed while duplicates of it remain.
func moveRecord(_ record: SharedMemory, _ descriptor: Int32, _ word: UInt) {
    guard record.load32(SocketTable.Record.descriptor) == UInt32(bitPattern: descriptor) else { return }
    let other = anotherDescriptor(of: word, than: descriptor)
    SocketTable.change(record, SocketTable.Record.descriptor, to: UInt32(bitPattern: other))
}

/// A forked child's own control blocks, in a table of its own. What they say comes from this process alone: the
/// parent's may be given up, and be another socket's, while the child still looks.
func shareRecords() {
    guard let table = unsafe descriptorTable else { return }
    let parents = unsafe process.table.detach()
    for number in 0..<programEnd {
        let word = unsafe table[number].load(ordering: .relaxed)
        // What a duplicate has been given already is no record of the parent's.
        if word != 0 { replaceRecord(of: word, Int32(number), where: { parents.holds($0) }) }
    }
    parents.unmap()
}

private func replaceRecord(of word: UInt, _ descriptor: Int32, where isParents: (SharedMemory) -> Bool) {
    switch kind(word) {
    case .endpoint:
        let local = unsafe UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!
        guard unsafe isParents(local.pointee.record) else { return }
        unsafe local.pointee.record = unsafe process.table.claim()
        unsafe Endpoint(local).describe(local.pointee.descriptor)
    case .stream, .listener:
        let socket = unsafe UnsafeMutablePointer<StreamSocket>(bitPattern: word & ~Kind.bits)!
        guard let record = unsafe socket.pointee.record, isParents(record) else { return }
        unsafe socket.pointee.record = unsafe process.table.claim()
        unsafe socket.pointee.description.descriptor = descriptor
        unsafe process.table.describe(socket.pointee.record!, socket.pointee.description)
    case .carried:
        let socket = unsafe UnsafeMutablePointer<CarriedSocket>(bitPattern: word & ~Kind.bits)!
        guard unsafe isParents(socket.pointee.record) else { return }
        unsafe socket.pointee.record = unsafe process.table.claim()
        unsafe socket.pointee.description.descriptor = descriptor
        unsafe process.table.describe(socket.pointee.record, socket.pointee.description)
    case .epoll, .hidden, .arriving, .relayed, .none: break
    }
}
