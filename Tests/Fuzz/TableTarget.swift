import Glibc
import SkeinCore

// A process's socket table, and the slot of a connection, as `skein ls` reads them.

/// What stands in for the command's own: a number is all that a table keeps of its process, and nobody waits here.
struct Process {
    let identifier: Int32
}
func pause(microseconds: UInt32) {}
func status(of path: String) -> stat? { nil }

private let memory = memfd_create("table", 0)
private let path = "/proc/self/fd/\(memory)"

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    var image = input.rest()
    if choice & 1 != 0 { seal(&image) }
    ftruncate(memory, 0)
    _ = pwrite(memory, image, image.count, 0)
    guard let file = try? File(path) else { fatalError("the image can't be opened") }
    if let table = try? Table(file, of: Process(identifier: 1)) {
        var totals = table.totals
        for record in table.records {
            totals.add(record)
            require(record.state != .connected || record.role != .none, "a connection has a role")
            _ = Slot(record.place, in: path)?.waiting(for: 0)
        }
        _ = totals.reasons
    }
    for slot in 0..<2 {
        let place = SocketRecord.Place(pool: 1, slot: UInt32(slot), generation: 1)
        if let lines = Slot(place, in: path) {
            require(lines.waiting(for: 0) ?? 0 <= UInt64(Layout.largeCapacity + Layout.smallCapacity), "waiting")
            _ = lines.state(of: 1)
        }
    }
    return 0
}

/// Gives the header its magic number and each record its checksum, so that the rest is read at all.
private func seal(_ image: inout [UInt8]) {
    let head = [UInt32](arrayLiteral: SocketTable.magic, SocketTable.version)
    image += [UInt8](repeating: 0, count: max(0, SocketTable.headerSize - image.count))
    for (index, word) in head.enumerated() { put(word, into: &image, at: 4 * index) }
    var start = SocketTable.headerSize
    while start + SocketTable.recordSize <= image.count {
        let bytes = Bytes(Array(image[start..<start + SocketTable.recordSize]))
        put(SocketTable.checksum { bytes.word($0) }, into: &image, at: start)
        start += SocketTable.recordSize
    }
}

private func put(_ word: UInt32, into image: inout [UInt8], at offset: Int) {
    for index in 0..<4 { image[offset + index] = UInt8(truncatingIfNeeded: word >> UInt32(8 * index)) }
}
