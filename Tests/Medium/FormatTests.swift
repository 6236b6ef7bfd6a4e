import MediumKit
import SkeinCore
import SkeinMedium

// What the format promises, and what becomes of blocks that no honest host writes.

func formatTests() {
    let offsets: [(Int, Int)] = [
        (SocketTable.Record.startTime, SocketRecord.Offset.startTime),
        (SocketTable.Record.owner, SocketRecord.Offset.owner),
        (SocketTable.Record.state, SocketRecord.Offset.state), (SocketTable.Record.role, SocketRecord.Offset.role),
        (SocketTable.Record.descriptor, SocketRecord.Offset.descriptor),
        (SocketTable.Record.carrier, SocketRecord.Offset.carrier),
        (SocketTable.Record.reason, SocketRecord.Offset.reason),
        (SocketTable.Record.family, SocketRecord.Offset.family),
        (SocketTable.Record.localPort, SocketRecord.Offset.localPort),
        (SocketTable.Record.localAddress, SocketRecord.Offset.localAddress),
        (SocketTable.Record.peerAddress, SocketRecord.Offset.peerAddress),
        (SocketTable.Record.peerPort, SocketRecord.Offset.peerPort),
        (SocketTable.Record.slot, SocketRecord.Offset.slot),
        (SocketTable.Record.generation, SocketRecord.Offset.generation),
        (SocketTable.Record.pool, SocketRecord.Offset.pool),
        (SocketTable.Record.program, SocketRecord.Offset.program),
    ]
    check(offsets.allSatisfy { $0 == $1 }, "a record on the medium has the local record's fields at their offsets")
    geometryTests()
    proofTests(ChecksumSeal(), other: nil)
}

private func geometryTests() {
    let geometry = Geometry()
    check(geometry.units, is: 116_424, "eight hosts with rings of the default size take 116,424 units")
    check(
        Geometry(hosts: 64).units, is: 512 + 64 + 4096 + 9216 + 64 * 126 * 1024, "64 hosts take what the formula says")
    let bytes = geometry.units * UInt64(unitSize)
    check(
        (try? Geometry(hosts: 8, fitting: bytes))?.ringUnits, is: 1024,
        "rings of the default size go where they just fit")
    check((try? Geometry(hosts: 8, fitting: bytes - 1))?.ringUnits, is: 1023, "and are smaller where they don't")
    check((try? Geometry(hosts: 2, fitting: 1 << 40))?.ringUnits, is: 1024, "and no larger on a large medium")
    let least = Geometry(hosts: 8, ringUnits: 64).units * UInt64(unitSize)
    check((try? Geometry(hosts: 8, fitting: least))?.ringUnits, is: 64, "the smallest medium has the smallest rings")
    do {
        _ = try Geometry(hosts: 8, fitting: least - 1)
        check(false, "a medium that is too small is refused")
    } catch {
        check(error, is: .tooSmall(has: least - 1, needs: least, hosts: 8), "a medium that is too small is refused")
        check("\(error)".contains("\(least)"), "with the bytes that it needs", saw: "\(error)")
    }
    var taken: Set<UInt64> = []
    var isApart = true
    for writer in 0..<4 {
        for reader in 0..<4 where reader != writer {
            for generation in [UInt64(6), 7] {
                let geometry = Geometry(hosts: 4, ringUnits: 64)
                let start = geometry.ring(from: writer, to: reader, generation: generation)
                let row = Row(ringStart: start, ringUnits: 64, bell: 0, consumed: 0, seen: 0)
                isApart = isApart && row.isSound(in: geometry, writer: writer, generation: generation)
                isApart = isApart && !row.isSound(in: geometry, writer: writer, generation: generation + 1)
                for unit in start..<start + 64 { isApart = taken.insert(unit).inserted && isApart }
            }
        }
    }
    check(isApart, "no two rings share a unit, and an incarnation's are not in the half of the one before")
}

func hostileFormatTests() {
    let channel = BlockChannel(.lease, medium: medium, writer: writer, seal: ChecksumSeal())
    check(channel.open([], place: 0) == nil, "nothing is no block")
    var huge = channel.block(place: 0, count: 1, body: [])
    huge.put(UInt32.max, at: 40)
    check(channel.open(huge, place: 0) == nil, "a length beyond the end is no block's")
    check(Lease(body: [], hosts: 8) == nil, "a lease of no bytes is none")
    var body = lease.body
    body.put(UInt16(9), at: 2)
    check(Lease(body: body, hosts: 8) == nil, "a lease has no more verdicts than hosts")
    body.put(UInt16(1), at: 2)
    body.put(UInt64(8), at: 120)
    check(Lease(body: body, hosts: 8) == nil, "and none of a host that can't be")
    body[1] = 65
    check(Lease(body: body, hosts: 8) == nil, "a name that is too long is none")
    let geometry = Geometry(hosts: 3, ringUnits: 64)
    for start in [0, geometry.units, UInt64.max, geometry.half(of: 1, generation: 0).upperBound - 63] {
        let row = Row(ringStart: start, ringUnits: 64, bell: 0, consumed: 0, seen: 0)
        check(!row.isSound(in: geometry, writer: 1, generation: 0), "a ring at unit \(start) isn't the writer's")
    }
    superblockTests()
}

private func superblockTests() {
    guard let unit = try? superblock().unit(place: 0, count: 7),
        let newer = try? superblock(keyCheck: reader).unit(place: 256, count: 8)
    else { return check(false, "a superblock can be made") }
    let zeros = [UInt8](repeating: 0, count: unitSize)
    func outcome(_ first: [UInt8], _ copy: [UInt8]) -> String {
        do {
            let read = try Superblock.read(first: first, copy: copy)
            return "\(read.count) \(read.isWhole)"
        } catch {
            return error.description
        }
    }
    check(outcome(unit, newer), is: "8 true", "of two superblocks the newer counts")
    check(outcome(unit, zeros), is: "7 false", "one that is left is enough")
    check(outcome(zeros, zeros), is: MediumFault.noMedium.description, "zeros are no medium")
    var torn = unit
    torn[70] ^= 1
    check(outcome(torn, zeros), is: MediumFault.brokenSuperblock.description, "a damaged superblock is named so")
    var next = unit
    next.put(UInt16(2), at: 4)
    check(outcome(next, next), is: MediumFault.format(major: 2).description, "a newer major version is refused")
    // What proves itself may still be nonsense: each field of the regions in turn.
    let channel = BlockChannel(.superblock, medium: .zero, writer: .zero, seal: ChecksumSeal())
    guard let body = channel.open(unit, place: 0)?.body else { return check(false, "a superblock opens") }
    for offset in [48, 72, 76] + Array(stride(from: 80, to: 152, by: 8)) {
        var wrong = body
        wrong.put(
            offset < 80 ? UInt64(UInt32.max) | UInt64(body.word(at: offset + 4) as UInt32) << 32 : .max, at: offset)
        let block = channel.block(place: 0, count: 1, body: wrong)
        check(outcome(block, zeros), is: MediumFault.geometry.description, "byte \(offset) can't say anything")
    }
    let minor = channel.block(place: 0, count: 1, body: body + [1, 2, 3])
    check(outcome(minor, zeros), is: "1 false", "fields that a newer minor version adds are left alone")
}
