/// The socket control block on a medium: what the local record says of a socket (SkeinCore's `ControlBlock.swift`), in
/// 128 bytes. From byte 8 to byte 119 the fields are the local ones, at the same offsets.
///
/// It has no checksum of its own, since the block around it has one: the bytes received stand there instead. Sleeps,
/// bells and spins mean nothing to another host, and are left out.
package struct SocketRecord: Equatable, Sendable {
    package static let size = 128
    /// Records in one unit of the table.
    package static let perUnit = 31

    package enum Offset {
        package static let bytesIn = 0
        package static let startTime = 8
        package static let owner = 16
        package static let state = 20
        package static let role = 24
        package static let descriptor = 28
        package static let carrier = 32
        package static let reason = 36
        package static let family = 40
        package static let localPort = 44
        package static let localAddress = 48
        package static let peerAddress = 64
        package static let peerPort = 80
        package static let slot = 84
        package static let generation = 88
        package static let pool = 96
        package static let program = 104
        package static let bytesOut = 120
    }

    /// Bytes lie in a conduit: `pool` is the peer's host number, `slot` the low half of the filament's number, and
    /// `generation` that of the peer's incarnation. 1 is memory and 2 is TCP, as in the local table.
    package static let conduitCarrier: UInt32 = 3

    package var startTime: UInt64 = 0
    package var owner: UInt32 = 0
    /// 0 is a free record; the others are the local table's.
    package var state: UInt32 = 0
    package var role: UInt32 = 0
    package var descriptor: UInt32 = 0
    package var carrier: UInt32 = 0
    package var reason: UInt32 = 0
    package var family: UInt32 = 0
    package var localPort: UInt32 = 0
    package var localAddress = Identifier.zero
    package var peerAddress = Identifier.zero
    package var peerPort: UInt32 = 0
    package var slot: UInt32 = 0
    package var generation: UInt64 = 0
    package var pool: UInt64 = 0
    package var program = Identifier.zero
    package var bytesIn: UInt64 = 0
    package var bytesOut: UInt64 = 0

    package init() {}

    /// The record that begins at `offset` of a unit's body.
    package init(_ body: [UInt8], at offset: Int) {
        startTime = body.word(at: offset + Offset.startTime)
        owner = body.word(at: offset + Offset.owner)
        state = body.word(at: offset + Offset.state)
        role = body.word(at: offset + Offset.role)
        descriptor = body.word(at: offset + Offset.descriptor)
        carrier = body.word(at: offset + Offset.carrier)
        reason = body.word(at: offset + Offset.reason)
        family = body.word(at: offset + Offset.family)
        localPort = body.word(at: offset + Offset.localPort)
        localAddress = Identifier(body, at: offset + Offset.localAddress)
        peerAddress = Identifier(body, at: offset + Offset.peerAddress)
        peerPort = body.word(at: offset + Offset.peerPort)
        slot = body.word(at: offset + Offset.slot)
        generation = body.word(at: offset + Offset.generation)
        pool = body.word(at: offset + Offset.pool)
        program = Identifier(body, at: offset + Offset.program)
        bytesIn = body.word(at: offset + Offset.bytesIn)
        bytesOut = body.word(at: offset + Offset.bytesOut)
    }

    func write(to body: inout [UInt8], at offset: Int) {
        body.put(startTime, at: offset + Offset.startTime)
        body.put(owner, at: offset + Offset.owner)
        body.put(state, at: offset + Offset.state)
        body.put(role, at: offset + Offset.role)
        body.put(descriptor, at: offset + Offset.descriptor)
        body.put(carrier, at: offset + Offset.carrier)
        body.put(reason, at: offset + Offset.reason)
        body.put(family, at: offset + Offset.family)
        body.put(localPort, at: offset + Offset.localPort)
        body.put(localAddress, at: offset + Offset.localAddress)
        body.put(peerAddress, at: offset + Offset.peerAddress)
        body.put(peerPort, at: offset + Offset.peerPort)
        body.put(slot, at: offset + Offset.slot)
        body.put(generation, at: offset + Offset.generation)
        body.put(pool, at: offset + Offset.pool)
        body.put(program, at: offset + Offset.program)
        body.put(bytesIn, at: offset + Offset.bytesIn)
        body.put(bytesOut, at: offset + Offset.bytesOut)
    }

    /// The body of a unit of the table.
    package static func body(_ records: [SocketRecord]) -> [UInt8] {
        precondition(records.count == perUnit, "a unit of the table has all of its records")
        var body = [UInt8](repeating: 0, count: perUnit * size)
        for (index, record) in records.enumerated() { record.write(to: &body, at: index * size) }
        return body
    }

    /// The records of a unit of the table; none where its body is too short.
    package static func records(body: [UInt8]) -> [SocketRecord] {
        guard body.count >= perUnit * size else { return [] }
        return (0..<perUnit).map { SocketRecord(body, at: $0 * size) }
    }
}
