/// Named offsets of everything that more than one process maps. Writer and reader both use these.
///
/// A slot holds one connection. Its control page has one line an end; the end alone writes it (the
/// peer's writes are hostile input). Positions are absolute byte counts since the connection began.
package enum Layout {
    /// Raised with each incompatible change of this file or of `Hello`; unequal versions use TCP.
    package static let version: UInt32 = 1

    // MARK: One end's line in the slot's control page

    package static let lineStride = 128
    /// Position up to which this end has written.
    package static let tail = 0
    /// Position up to which this end has read what the peer wrote.
    package static let head = 8
    /// `position << 1 | kind`: from that position on, this end's bytes lie in its ring of that kind.
    package static let placement = 16
    /// Bits of `EndState`.
    package static let state = 24
    package static let readSleepers = 28
    package static let writeSleepers = 32
    /// The processor this end last ran on, plus one.
    package static let processor = 36
    /// Changes after a kernel close, so that a spinning peer asks the kernel.
    package static let hint = 40
    /// What the program set as SO_RCVBUF: the peer lets no more be unread; 0 for nothing.
    package static let receiveLimit = 44
    /// One more than the position of the newest urgent byte that this end wrote; 0 for none.
    package static let urgent = 48
    /// Where this end's owner is signalled for urgent data: which socket (`HiddenName`), and what it wants to
    /// hear, 0 for nothing.
    package static let urgentCookie = 56
    package static let urgentSecret = 64
    /// Position up to which nothing but older urgent bytes lay before the peer when a newer one was written: these have no
    /// place in the stream any more; 0 for none.
    package static let overtaken = 72
    /// Why an agent has closed a connection that it didn't accept: an errno, 0 for nothing said.
    package static let refusal = 80

    // MARK: The slot

    package static let controlSize = 4096
    package static let smallCapacity = 16 << 10
    package static let largeCapacity = 1 << 20
    package static let slotStride = (64 << 10) + 2 * largeCapacity

    /// Offset in the slot of the ring that end `end` writes, `kind` 0 small or 1 large.
    @inline(__always) package static func ring(end: Int, kind: UInt32) -> Int {
        kind == 0 ? controlSize + end * smallCapacity : (64 << 10) + end * largeCapacity
    }
    @inline(__always) package static func capacity(_ kind: UInt32) -> Int {
        kind == 0 ? smallCapacity : largeCapacity
    }

    // MARK: The pool: a page of its own, then slots

    package static let poolHeader = 4096
    /// In the pool header, four bytes a slot and end: generation that the end has released.
    package static func released(slot: Int, end: Int) -> Int { slot * 8 + end * 4 }
    package static let poolMaximumSlots = 256
}

/// What an end says of itself in its line.
package enum EndState {
    /// It sends no more: end of file after the bytes up to its tail.
    package static let finished: UInt32 = 1
    /// It has reset the connection.
    package static let reset: UInt32 = 2
    /// It reads no more.
    package static let readShut: UInt32 = 4
    /// The program has accepted the connection; what STPconnect waits for.
    package static let accepted: UInt32 = 8
    /// A relay has it: an end that comes before this is taken back, or `finished` said, may have cost bytes, and is a
    /// reset.
    package static let relayed: UInt32 = 16
    /// Its last holder has closed it, and the slot is never used again.
    package static let vacated: UInt32 = 32
    /// SO_LINGER with no time: when its last holder goes, in whatever way, the connection is reset. Said beforehand: who
    /// is killed says nothing, and of several that go at once none knows that it is the last.
    package static let abortive: UInt32 = 64
    /// SO_OOBINLINE: it reads urgent bytes in their place in the stream.
    package static let urgentInline: UInt32 = 128
}

/// The private block of one end: shared by the processes that hold this end, never with the peer.
package enum Block {
    package static let size = MemoryLayout<Words>.size
    /// A copy of one has this type, so that it never falls behind the size.
    package typealias Words = InlineArray<40, UInt64>
    package static let readLock = 0
    package static let writeLock = 8
    package static let head = 24
    package static let tail = 32
    /// The peer's head as last read; never ahead of `tail`.
    package static let peerHead = 40
    /// What `Layout.placement` says, or is about to say.
    package static let placement = 48
    package static let flags = 56
    /// Processes that hold this end.
    package static let holders = 60
    package static let receiveTimeout = 64
    package static let sendTimeout = 72
    /// Bytes that may be unread at most: what the program set as SO_SNDBUF, and what the peer last said of
    /// its SO_RCVBUF; 0 where nobody set anything.
    package static let sendLimit = 80
    package static let family = 84
    package static let localAddress = 88
    package static let peerAddress = 104
    package static let localPort = 120
    package static let peerPort = 124
    /// `Option` values, four bytes each.
    package static let options = 128
    package static let smallWrites = 184
    /// Position + 1 of an urgent byte already taken out of band.
    package static let urgentSeen = 192
    package static let peerLimit = 204
    /// Held while somebody looks whether a bell says anything, and takes it out.
    package static let drainLock = 208
    /// Relays that have been handed this end and have not let go; the names of the first few of them, and whose they are.
    package static let relays = 216
    /// The interface, where the addresses are link-local.
    package static let scope = 220
    package static let relayNames = 256
    package static let relayUsers = 288
    package static let relayNamesKept = 8
    /// What STPsetopt sets, four bytes each: milliseconds, milliseconds, bits of `EndSetting`.
    package static let closeLimit = 240
    package static let giftLimit = 244
    package static let settings = 248
}

/// Bits of `Block.settings`.
package enum EndSetting {
    /// This end writes into its small ring only.
    package static let smallRing: UInt32 = 1
    package static let largeRing: UInt32 = 2
    /// STPconnect returns when the connection is queued, as TCP's does.
    package static let queuedConnect: UInt32 = 4
    /// The carrier was asked for by its name.
    package static let memoryCarrier: UInt32 = 8
    /// The agent's listener: who accepts there says later whether the connection is accepted.
    package static let answersLater: UInt32 = 16
}

/// Bits of `Block.flags`.
package enum EndFlag {
    package static let nonBlocking: UInt32 = 1
    package static let readShut: UInt32 = 2
    package static let writeShut: UInt32 = 4
    /// The kernel said that every holder of the other end is gone.
    package static let hungUp: UInt32 = 8
    /// A write after the peer closed was answered as TCP's reset answers it.
    package static let broken: UInt32 = 16
    /// The reset has been reported by a read or by SO_ERROR.
    package static let resetReported: UInt32 = 32
    /// A non-blocking connect has not been asked for its result yet.
    package static let connecting: UInt32 = 64
    /// The peer broke the protocol; the connection is treated as reset.
    package static let violated: UInt32 = 128
    /// More than one process has held this end, so nobody can tell when its slot is free.
    package static let forked: UInt32 = 256
    /// Both ends are STP sockets: a peer that has stopped reading refuses what is sent (TCP takes it).
    package static let refusesAfterShutdown: UInt32 = 512
    /// The client of an STP socket that has not accepted it yet, or of another host that hasn't.
    package static let unaccepted: UInt32 = 1024
    /// Given to another process and waiting to be taken; then taken: only closing is left.
    package static let given: UInt32 = 2048
    package static let taken: UInt32 = 4096
    /// A lone sleeper had to be woken by shutting the Unix socket for reading: no bell comes any more, and
    /// waits look again after a while.
    package static let deaf: UInt32 = 8192
    /// Handed on: processes that are no forks of each other hold this end, or did. Unlike after a fork each of
    /// them is counted, so the last one knows that it is.
    package static let passed: UInt32 = 16384
}
