import Glibc
import SkeinMedium

// The blocks that golden.py writes, from the same values.

package let medium = pattern(0x10)
package let writer = pattern(0x20)
package let reader = pattern(0x30)

/// 16 bytes that count up from `first`.
package func pattern(_ first: UInt8) -> Identifier { Identifier([UInt8](first..<first + 16), at: 0) }

/// A superblock; where there is a key check, of a sealed medium.
package func superblock(keyCheck: Identifier = .zero) throws -> Superblock {
    try Superblock(
        identity: medium, group: "accounts", sealing: keyCheck == .zero ? .checksum : .cipher,
        keyCheck: keyCheck, timeoutMilliseconds: 1500,
        geometry: Geometry(hosts: 3, ringUnits: 64, tableUnits: 2), made: 1_700_000_000)
}

package let lease = Lease(
    state: .alive, name: "höst", generation: 5, boot: pattern(0x40), machine: pattern(0x50), start: 123_456_789,
    verdicts: [
        Lease.Verdict(host: 0, incarnation: reader), Lease.Verdict(host: 2, incarnation: .zero),
    ])

package let row = Row(ringStart: 4711, ringUnits: 64, bell: 1 << 40, consumed: 99, seen: 98)

var socket: SocketRecord {
    var record = SocketRecord()
    record.bytesIn = 0x1111
    record.startTime = 0x2222
    record.owner = 3
    record.state = 2
    record.role = 1
    record.descriptor = 7
    record.carrier = SocketRecord.conduitCarrier
    record.reason = 9
    record.family = 0x5354
    record.localPort = 80
    record.localAddress = pattern(0x60)
    record.peerAddress = pattern(0x70)
    record.peerPort = 443
    record.slot = 12
    record.generation = 13
    record.pool = 14
    record.program = Identifier(Array("postgres".utf8) + [UInt8](repeating: 0, count: 8), at: 0)
    record.bytesOut = 0x3333
    return record
}

/// The golden vectors of blocks under this seal, whose names end with `suffix`.
package func goldenTests(_ seal: any Seal, suffix: String, folder: String) {
    let records = [SocketRecord](repeating: SocketRecord(), count: SocketRecord.perUnit - 1) + [socket]
    let content = DataBlock(consumed: 17, payload: (0..<5000).map { UInt8($0 * 7 % 251) })
    func compare(
        _ name: String, _ kind: BlockKind, _ reader: Identifier, place: UInt64, count: UInt64, _ body: [UInt8],
        _ isRight: ([UInt8]) -> Bool
    ) {
        let channel = BlockChannel(kind, medium: medium, writer: writer, reader: reader, seal: seal)
        let block = channel.block(place: place, count: count, body: body)
        let golden = compareGolden(name + suffix, block, in: folder)
        guard let opened = channel.open(golden, place: place) else { return check(false, "Swift opens the \(name)") }
        check(
            opened.header.count == count && isRight(opened.body),
            "Swift reads in the \(name)\(suffix) what Python wrote")
    }
    compare("lease", .lease, .zero, place: 513, count: 3, lease.body) { Lease(body: $0, hosts: 3) == lease }
    compare("row", .row, reader, place: 516, count: 4, row.body) { Row(body: $0) == row }
    compare("table", .table, .zero, place: 525, count: 5, SocketRecord.body(records)) {
        SocketRecord.records(body: $0) == records
    }
    compare("data", .data, reader, place: 1 << 33, count: 6, content.body) { DataBlock(body: $0) == content }
}

/// Compares with Python's, keeps ours for Python, and returns Python's.
package func compareGolden(_ name: String, _ block: [UInt8], in folder: String) -> [UInt8] {
    let golden = readFile("\(folder)/\(name).python")
    let differs = zip(golden, block).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    check(
        golden == block, "Swift writes the \(name) as Python does",
        saw: "\(block.count) bytes, not \(golden.count); the first that differs is \(String(describing: differs))")
    writeFile("\(folder)/\(name).swift", block)
    return golden
}

private func readFile(_ path: String) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY)
    defer { close(descriptor) }
    return unsafe [UInt8](unsafeUninitializedCapacity: 1 << 20) { memory, count in
        unsafe count = max(0, read(descriptor, memory.baseAddress, memory.count))
    }
}

private func writeFile(_ path: String, _ bytes: [UInt8]) {
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    let count = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
    precondition(close(descriptor) == 0 && count == bytes.count, "\(path) can be written")
}
