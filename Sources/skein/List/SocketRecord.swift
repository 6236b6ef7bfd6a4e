import SkeinCore

/// One socket as its owner's table has it, checked.
struct SocketRecord {
    enum Role { case none, client, server }
    enum State { case unconnected, listening, connected }

    let process: Process
    let program: String
    let descriptor: Int32
    let state: State
    let role: Role
    let isOnMemory: Bool
    /// Why it is not on memory, by its number: another version may know more reasons.
    let reason: UInt32
    let local: Address
    let peer: Address
    let bytesIn: UInt64
    let bytesOut: UInt64
    let bells: UInt64
    let spins: UInt64
    let place: Place

    /// Where the bytes of a connection lie.
    struct Place: Hashable {
        let pool: UInt64
        let slot: UInt32
        let generation: UInt32
    }

    private static let families: Set<UInt32> = [0, 2, 10, UInt32(Address.stpFamily)]

    /// Nil when the record makes no sense.
    init?(_ table: Bytes, at offset: Int, of process: Process) {
        typealias Record = SocketTable.Record
        func word(_ place: Int) -> UInt32 { table.word(offset + place) }
        func address(_ host: Int, _ port: Int) -> Address? {
            guard let port = UInt16(exactly: word(port)) else { return nil }
            var address = Address()
            address.family = UInt16(truncatingIfNeeded: word(Record.family))
            address.high = table.word(offset + host)
            address.low = table.word(offset + host + 8)
            address.port = port
            return address
        }
        guard word(Record.checksum) == SocketTable.checksum({ table.word(offset + $0) }),
            SocketRecord.families.contains(word(Record.family)),
            let descriptor = Int32(exactly: word(Record.descriptor)),
            let local = address(Record.localAddress, Record.localPort),
            let peer = address(Record.peerAddress, Record.peerPort)
        else { return nil }
        switch word(Record.state) {
        case SocketTable.State.unconnected: state = .unconnected
        case SocketTable.State.listening: state = .listening
        case SocketTable.State.connected: state = .connected
        default: return nil
        }
        switch word(Record.role) {
        case SocketTable.Role.none: role = .none
        case SocketTable.Role.client: role = .client
        case SocketTable.Role.server: role = .server
        default: return nil
        }
        if state == .connected && role == .none { return nil }
        switch word(Record.carrier) {
        case SocketTable.Carrier.memory: isOnMemory = true
        case SocketTable.Carrier.tcp: isOnMemory = false
        default: return nil
        }
        self.process = process
        self.descriptor = descriptor
        self.local = local
        self.peer = peer
        reason = word(Record.reason)
        program = table.text(offset + Record.program, limit: Record.programSize)
        bytesIn = table.word(offset + Record.bytesIn)
        bytesOut = table.word(offset + Record.bytesOut)
        bells = table.word(offset + Record.bells)
        spins = table.word(offset + Record.spins)
        place = Place(
            pool: table.word(offset + Record.pool), slot: word(Record.slot), generation: word(Record.generation))
    }
}
