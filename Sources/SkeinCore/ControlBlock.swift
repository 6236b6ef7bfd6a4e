/// The socket control block: what its owner says of one socket, in 256 bytes that nobody else writes.
///
/// Words are little-endian at fixed offsets, and hold no pointer and no number that means anything only
/// inside the table, so that a table on a medium can have the same records.
extension SocketTable {
    package static let recordSize = 256

    /// Words of a record. `checksum` covers `described`; the counters behind it change while it stands.
    package enum Record {
        package static let checksum = 0
        /// When the owner started, in the kernel's ticks since its boot, and which process that is, as it sees itself.
        package static let startTime = 8
        package static let owner = 16
        package static let state = 20
        package static let role = 24
        package static let descriptor = 28
        package static let carrier = 32
        /// `Reason`: why the carrier is not memory.
        package static let reason = 36
        package static let family = 40
        package static let localPort = 44
        package static let localAddress = 48
        package static let peerAddress = 64
        package static let peerPort = 80
        /// Where the bytes lie: slot in the pool, the slot's generation, the pool's inode.
        package static let slot = 84
        package static let generation = 88
        package static let pool = 96
        package static let program = 104
        package static let programSize = 16
        package static let described = startTime..<120
        package static let bytesIn = 128
        package static let bytesOut = 136
        package static let sleeps = 144
        /// Bells rung for sleepers of the other end, and waits that looking at the ring ended.
        package static let bells = 152
        package static let spins = 160
    }

    package enum State {
        package static let free: UInt32 = 0
        /// An STP socket that is neither connected nor listening.
        package static let unconnected: UInt32 = 1
        package static let listening: UInt32 = 2
        package static let connected: UInt32 = 3
    }

    /// Which end of a connection the socket is.
    package enum Role {
        package static let none: UInt32 = 0
        package static let client: UInt32 = 1
        package static let server: UInt32 = 2
    }

    package enum Carrier {
        package static let memory: UInt32 = 1
        package static let tcp: UInt32 = 2
    }

    /// A sum over the words of `Record.described`, which `word` reads by their offsets. Tells a whole record
    /// from one that is just being written, and from noise; it is no protection against forgery.
    @inline(__always) package static func checksum(_ word: (Int) -> UInt64) -> UInt32 {
        var sum: UInt64 = 0x534b_4549_4e21
        var offset = Record.described.lowerBound
        while offset < Record.described.upperBound {
            sum = (sum ^ word(offset)) &* 0x9e37_79b9_7f4a_7c15
            sum ^= sum >> 32
            offset &+= 8
        }
        // Zeroed memory is no valid record.
        return UInt32(truncatingIfNeeded: sum) | 1
    }

    /// Writes the checksum, after the last change of what it covers: readers believe the record from then on.
    package static func seal(_ record: SharedMemory) {
        record.release32(Record.checksum, checksum { record.load64($0) })
    }

    /// Changes one word of a described record: the socket goes on under another descriptor, or got a port.
    package static func change(_ record: SharedMemory, _ offset: Int, to value: UInt32) {
        record.store32(Record.checksum, 0)
        record.store32(offset, value)
        seal(record)
    }

    /// What `describe` writes.
    package struct Description {
        package var state = State.connected
        package var role = Role.none
        package var descriptor: Int32 = -1
        package var carrier = Carrier.memory
        package var reason = Reason.none
        package var local = Address()
        package var peer = Address()
        package var pool: UInt64 = 0
        package var slot: UInt32 = 0
        package var generation: UInt32 = 0

        package init(state: UInt32, descriptor: Int32) {
            self.state = state
            self.descriptor = descriptor
        }
    }

    /// Says what the socket of a claimed record is. Its counters stay as they are.
    package func describe(_ record: SharedMemory, _ description: Description) {
        record.store32(Record.checksum, 0)
        record.store32(Record.owner, UInt32(bitPattern: owner))
        record.store64(Record.startTime, startTime)
        record.store32(Record.state, description.state)
        record.store32(Record.role, description.role)
        record.store32(Record.descriptor, UInt32(bitPattern: description.descriptor))
        record.store32(Record.carrier, description.carrier)
        record.store32(Record.reason, description.reason.rawValue)
        record.setAddress(
            description.peer, family: Record.family, host: Record.peerAddress, port: Record.peerPort)
        record.setAddress(
            description.local, family: Record.family, host: Record.localAddress, port: Record.localPort)
        record.store64(Record.pool, description.pool)
        record.store32(Record.slot, description.slot)
        record.store32(Record.generation, description.generation)
        unsafe record.store64(Record.program, process.programName.0)
        unsafe record.store64(Record.program + 8, process.programName.1)
        SocketTable.seal(record)
    }
}
