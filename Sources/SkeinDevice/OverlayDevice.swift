import CSystem
import Synchronization

/// A device over another one that is only read: what is written lies on a device of its own.
///
/// Which blocks were written is kept in memory: the changes are gone with this object.
public final class OverlayDevice: Device {
    /// Bytes of a block: what is copied when a part of it is written.
    private static let block: UInt64 = 4096

    private let base: IOP
    private let changes: IOP
    private let written: BlockMap
    /// Held while blocks are written that were not written before.
    private let lock = Mutex(())
    public let length: DeviceLength
    public let features: DeviceFeatures

    /// `changes` must be as large as the base, and its content doesn't count but for the blocks that are `written`, a bit for each.
    public init(base: any Device, changes: any Device, written blocks: [UInt64] = []) throws(DeviceFault) {
        self.base = IOP(base)
        self.changes = IOP(changes)
        guard self.changes.length.bytes >= self.base.length.bytes else {
            throw DeviceFault("\(changes.description) is smaller than \(base.description)")
        }
        guard self.changes.features.contains(.writable) else {
            throw DeviceFault("\(changes.description) can't be written")
        }
        length = DeviceLength(self.base.length.bytes)
        written = BlockMap(count: Int((length.bytes + OverlayDevice.block - 1) / OverlayDevice.block), blocks)
        features = self.base.features.intersection([.memory]).union(.writable)
    }

    public var description: String { "overlay of \(base.device.description)" }

    public func parcel() throws(DeviceFault) -> DeviceParcel { try parcel(.overlay) }

    /// Base, changes, and which blocks are whose.
    func parcel(_ kind: DeviceParcel.Kind) throws(DeviceFault) -> DeviceParcel {
        DeviceParcel(kind, numbers: written.all, parts: [try base.device.parcel(), try changes.device.parcel()])
    }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: OverlayDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: OverlayDevice.self) { $0.perform(&$1) } })
    }

    public func attempt(_ message: inout Message) -> Answer { send(&message, mayWait: false) { $0.attempt(&$1) } }
    public func perform(_ message: inout Message) -> Answer { send(&message, mayWait: true) { $0.perform(&$1) } }

    private func send(_ message: inout Message, mayWait: Bool, _ send: (IOP, inout Message) -> Answer) -> Answer {
        switch message.operation {
        case .read, .status: return look(message, send)
        case .write, .zeroes: return change(&message, mayWait, send)
        case .flush: return send(changes, &message)
        case .trim, .cache: return .done
        case .resize: return .failed(EOPNOTSUPP)
        }
    }

    /// Asks the changes for what was written and the base for the rest.
    private func look(_ message: Message, _ send: (IOP, inout Message) -> Answer) -> Answer {
        var done: UInt64 = 0
        while done < message.length {
            let position = message.offset + done
            let first = Int(position / OverlayDevice.block)
            let isWritten = written.contains(first)
            var next = first + 1
            let last = Int((message.offset + message.length - 1) / OverlayDevice.block)
            while next <= last && written.contains(next) == isWritten { next += 1 }
            let count = min(UInt64(next) * OverlayDevice.block, message.offset + message.length) - position
            var part = message.part(done, count: count, at: position)
            let answer = send(isWritten ? changes : base, &part)
            if answer != .done { return answer }
            done += count
            // A list without room ends in the middle.
            if let extents = unsafe message.extents, unsafe extents.pointee.length < done { return .done }
        }
        return .done
    }

    private func change(_ message: inout Message, _ mayWait: Bool, _ send: (IOP, inout Message) -> Answer) -> Answer {
        guard message.length > 0 else { return .done }
        let first = Int(message.offset / OverlayDevice.block)
        let last = Int((message.offset + message.length - 1) / OverlayDevice.block)
        if (first...last).allSatisfy(written.contains) { return send(changes, &message) }
        if mayWait { return lock.withLock { _ in writeNew(&message, first...last, send) } }
        return lock.withLockIfAvailable { _ in writeNew(&message, first...last, send) } ?? .wouldWait
    }

    /// Writes blocks some of which were never written. Where only a part of such a block is, the rest of it comes from the base.
    private func writeNew(
        _ message: inout Message, _ blocks: ClosedRange<Int>, _ send: (IOP, inout Message) -> Answer
    ) -> Answer {
        for block in [blocks.lowerBound, blocks.upperBound] where !written.contains(block) && !covers(message, block) {
            let answer = copyUp(block, send)
            if answer != .done { return answer }
        }
        let answer = send(changes, &message)
        if answer == .done { for block in blocks { written.insert(block) } }
        return answer
    }

    private func covers(_ message: Message, _ block: Int) -> Bool {
        let start = UInt64(block) * OverlayDevice.block
        let end = min(start + OverlayDevice.block, length.bytes)
        return message.offset <= start && message.offset + message.length >= end
    }

    private func copyUp(_ block: Int, _ send: (IOP, inout Message) -> Answer) -> Answer {
        let start = UInt64(block) * OverlayDevice.block
        let count = min(OverlayDevice.block, length.bytes - start)
        return unsafe withUnsafeTemporaryAllocation(byteCount: Int(OverlayDevice.block), alignment: 4096) { memory in
            var reading = unsafe Message(.read, offset: start, length: count, data: memory.baseAddress)
            let read = send(base, &reading)
            if read != .done { return read }
            var writing = unsafe Message(.write, offset: start, length: count, data: memory.baseAddress)
            let answer = send(changes, &writing)
            if answer == .done { written.insert(block) }
            return answer
        }
    }
}

extension OverlayDevice {
    /// Bytes that are written back at once.
    private static let settled: UInt64 = 1 << 20

    /// Writes the changes of a range back to the base, whose they are from then on. No change may be under way.
    func settle(_ range: Range<UInt64>) -> Answer {
        guard !range.isEmpty else { return .done }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Int(OverlayDevice.settled), alignment: 4096)
        defer { unsafe memory.deallocate() }
        let limit = Int(OverlayDevice.settled / OverlayDevice.block)
        let end = Int((range.upperBound - 1) / OverlayDevice.block) + 1
        var first = Int(range.lowerBound / OverlayDevice.block)
        while first < end {
            var next = first
            while next < end && next - first < limit && written.contains(next) { next += 1 }
            if next == first {
                first += 1
                continue
            }
            let offset = UInt64(first) * OverlayDevice.block
            let count = min(UInt64(next) * OverlayDevice.block, length.bytes) - offset
            for (device, operation) in [(changes, Message.Operation.read), (base, .write)] {
                var message = unsafe Message(operation, offset: offset, length: count, data: memory)
                let answer = device.perform(&message)
                if answer != .done { return answer }
            }
            for block in first..<next { written.remove(block) }
            first = next
        }
        return .done
    }
}

/// A set of blocks that threads add to and look into at once.
@safe
final class BlockMap: Sendable {
    private let words: Words

    @safe private struct Words: @unchecked Sendable {
        let memory: UnsafeMutablePointer<Atomic<UInt64>>
        let count: Int
    }

    /// The blocks that are in it at first, a bit for each.
    init(count: Int, _ blocks: [UInt64] = []) {
        let words = count / 64 + 1
        let memory = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: words)
        for index in 0..<words {
            unsafe (memory + index).initialize(to: Atomic(index < blocks.count ? blocks[index] : 0))
        }
        self.words = unsafe Words(memory: memory, count: words)
    }

    deinit { unsafe words.memory.deallocate() }

    /// A bit for each block.
    var all: [UInt64] { (0..<words.count).map { unsafe words.memory[$0].load(ordering: .acquiring) } }

    func contains(_ block: Int) -> Bool {
        precondition(block >> 6 < words.count, "a block lies in the device")
        return unsafe words.memory[block >> 6].load(ordering: .acquiring) & (1 << UInt64(block & 63)) != 0
    }

    func remove(_ block: Int) {
        precondition(block >> 6 < words.count, "a block lies in the device")
        unsafe words.memory[block >> 6].bitwiseAnd(~(1 << UInt64(block & 63)), ordering: .releasing)
    }

    func insert(_ block: Int) {
        precondition(block >> 6 < words.count, "a block lies in the device")
        unsafe words.memory[block >> 6].bitwiseOr(1 << UInt64(block & 63), ordering: .releasing)
    }
}
