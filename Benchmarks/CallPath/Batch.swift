import Glibc
import SkeinDevice
import SkeinNBD

/// What a client has sent at once: requests as they lie in a worker's input.
struct Batch {
    static let count = 32
    static let length: UInt64 = 4096
    static let deviceSize: UInt64 = 64 << 20

    private(set) var bytes: [UInt8] = []

    init(_ command: Command) {
        var place: UInt64 = 12_345
        for cookie in 0..<Batch.count {
            place = place &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let offset = (place >> 20) % (Batch.deviceSize / Batch.length) * Batch.length
            put(Magic.request, 4)
            put(0, 2)
            put(command.rawValue, 2)
            put(UInt64(cookie), 8)
            put(offset, 8)
            put(Batch.length, 4)
        }
    }

    private mutating func put(_ word: some FixedWidthInteger, _ size: Int) {
        for shift in stride(from: 8 * (size - 1), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: UInt64(word) >> UInt64(shift)))
        }
    }
}

/// A way from requests to replies.
protocol Path {
    /// Answers all requests, into the path's own memory.
    mutating func answer(_ batch: Batch)
    /// The replies to them.
    mutating func answered(_ batch: Batch) -> [UInt8]
}

/// Memory where replies lie until they are sent.
let stagingSize = Batch.count * (Int(Batch.length) + Reply.largestHeader)

func rules(for device: any Device) -> RequestRules {
    let description = ExportDescription(
        name: "disk", size: device.length.bytes, flags: [.hasFlags, .flush, .forceUnitAccess, .cache])
    return RequestRules(Session(export: description, style: .structured, hasAllocationContext: true))
}

/// Gives every page its place.
func fill(_ device: FileDevice) {
    let piece = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { unsafe piece.deallocate() }
    unsafe piece.initializeMemory(as: UInt8.self, repeating: 7, count: 1 << 20)
    for offset in stride(from: 0, to: Batch.deviceSize, by: 1 << 20) {
        var message = unsafe Message(.write, offset: offset, length: 1 << 20, data: piece)
        precondition(device.perform(&message) == .done, "there is memory for the device")
    }
}
