import SkeinCore

/// One socket as the table has it, checked.
struct SocketRecord {
    enum Role: String { case client, server, listener, unconnected }

    let process: Process
    /// Whose table the record stands in.
    let user: UInt32
    let program: String
    let descriptor: UInt32
    let role: Role
    let local: Address
    /// Nil for a socket without one.
    let peer: Address?
    let bytesIn: UInt64
    let bytesOut: UInt64

    /// How the connection stands, in netstat's words where it has one.
    var state: String {
        switch role {
        case .client, .server: "established"
        case .listener: "listening"
        case .unconnected: "unconnected"
        }
    }

    private static let families: Set = [2, 10, UInt32(Address.stpFamily)]

    /// Nil when the record makes no sense.
    init?(_ table: Bytes, at offset: Int, user: UInt32) {
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
        switch word(Record.role) {
        case SocketTable.Role.client: role = .client
        case SocketTable.Role.server: role = .server
        case SocketTable.Role.listener: role = .listener
        case SocketTable.Role.unconnected: role = .unconnected
        default: return nil
        }
        guard let owner = Int32(exactly: word(Record.owner)), SocketRecord.families.contains(word(Record.family)),
            word(Record.descriptor) <= UInt32(Int32.max),
            let local = address(Record.localAddress, Record.localPort)
        else { return nil }
        let peer = address(Record.peerAddress, Record.peerPort)
        let hasPeer = role == .client || role == .server
        if hasPeer && peer == nil { return nil }
        process = Process(owner)
        self.user = user
        self.local = local
        self.peer = hasPeer ? peer : nil
        descriptor = word(Record.descriptor)
        program = table.text(offset + Record.program, limit: Record.programSize)
        bytesIn = table.word(offset + Record.bytesIn)
        bytesOut = table.word(offset + Record.bytesOut)
    }

    /// Whether its owner lives and may write this table: a number may have gone to a process of another
    /// user since. The user of a table was the owner's effective one when it started.
    func mayBelong(to owner: Process.Standing) -> Bool {
        owner.isAlive && (owner.users.isEmpty || user == 0 || owner.users.contains(user))
    }
}
