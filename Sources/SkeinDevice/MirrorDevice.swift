import CSystem
import Synchronization

/// Devices that all have the same content: it is there as long as one of them works.
///
/// A device that fails is left out from then on, and the request goes on with the others. `replace` puts another one
/// in its place and copies the content to it, while requests go on.
public final class MirrorDevice: Device {
    /// Bytes that are copied at once; changes wait meanwhile.
    private static let copied = 1 << 20

    private enum Condition: UInt8 {
        case working
        /// It gets what is written, and isn't read yet.
        case rebuilding
        case failed
    }

    private struct Twin: Sendable {
        var device: IOP
        var condition = Condition.working
    }

    /// Taken for a moment, to see who is there.
    private let twins: Mutex<[Twin]>
    private let gate = ChangeGate()
    private let isRebuilding = Atomic(false)
    public let length: DeviceLength
    public let features: DeviceFeatures

    /// The devices must have the same content. The smallest one gives the size.
    public convenience init(_ devices: [any Device]) throws(DeviceFault) {
        try self.init(
            devices, length: devices.map { $0.length.bytes }.min() ?? 0,
            conditions: devices.map { _ in UInt64(Condition.working.rawValue) })
    }

    /// As `parcel` has it: a device that failed may have become shorter.
    init(_ devices: [any Device], length: UInt64, conditions: some Collection<UInt64>) throws(DeviceFault) {
        let parts = try Parts(devices)
        guard devices.count == conditions.count else { throw DeviceFault("a mirror of unknown devices") }
        twins = Mutex(
            zip(parts.devices, conditions).map { device, condition in
                Twin(device: device, condition: Condition(rawValue: UInt8(truncatingIfNeeded: condition)) ?? .failed)
            })
        self.length = DeviceLength(length)
        // A read may fail where all do.
        features = parts.features.subtracting(.memory)
    }

    public var description: String {
        let names = twins.withLock { $0.map { "\($0.device.device.description) (\($0.condition))" } }
        return "mirror of \(names.joined(separator: " and "))"
    }

    public func parcel() throws(DeviceFault) -> DeviceParcel {
        let twins = twins.withLock { $0 }
        var parts: [DeviceParcel] = []
        for twin in twins { parts.append(try twin.device.device.parcel()) }
        return DeviceParcel(
            .mirror, numbers: [length.bytes] + twins.map { UInt64($0.condition.rawValue) }, parts: parts)
    }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: MirrorDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: MirrorDevice.self) { $0.perform(&$1) } })
    }

    /// Devices that have the content and work.
    public var working: Int { twins.withLock { $0.count { $0.condition == .working } } }

    // MARK: - Messages

    public func attempt(_ message: inout Message) -> Answer {
        guard message.operation.isChange else { return ask(&message) { $0.attempt(&$1) } }
        guard gate.tryEnter() else { return .wouldWait }
        defer { gate.leave() }
        return change(&message) { $0.attempt(&$1) }
    }

    public func perform(_ message: inout Message) -> Answer {
        guard message.operation.isChange || message.operation == .flush else {
            return ask(&message) { $0.perform(&$1) }
        }
        gate.enter()
        defer { gate.leave() }
        return change(&message) { $0.perform(&$1) }
    }

    /// Asks one that works; the next one where it fails.
    private func ask(_ message: inout Message, _ send: (IOP, inout Message) -> Answer) -> Answer {
        if message.operation == .flush { return change(&message, send) }
        var index = 0
        var last = Answer.failed(EIO)
        while let (found, device) = next(from: index, { $0 == .working }) {
            var copy = message
            last = send(device, &copy)
            guard case .failed = last else { return last }
            fail(found, device)
            index = found + 1
        }
        return last
    }

    /// Sends it to all that are there. It is done when one that has the content has done it.
    private func change(_ message: inout Message, _ send: (IOP, inout Message) -> Answer) -> Answer {
        if message.operation == .resize { return .failed(EOPNOTSUPP) }
        var result: Answer?
        var failure = Answer.failed(EIO)
        var index = 0
        while let (found, device) = next(from: index, { $0 != .failed }) {
            index = found + 1
            var copy = message
            let answer = send(device, &copy)
            switch answer {
            case .done: result = .done
            case .wouldWait: return .wouldWait
            // What none of them can do is no fault of one.
            case .failed(EOPNOTSUPP): return answer
            case .failed:
                failure = answer
                if working > 1 || !isWorking(found) { fail(found, device) }
            }
        }
        return result ?? failure
    }

    private func next(from index: Int, _ fits: (Condition) -> Bool) -> (Int, IOP)? {
        twins.withLock { twins in
            twins.indices.dropFirst(index).first { fits(twins[$0].condition) }.map { ($0, twins[$0].device) }
        }
    }

    private func isWorking(_ index: Int) -> Bool { twins.withLock { $0[index].condition == .working } }

    /// Leaves a device out, unless it is the last one with the content or another has taken its place.
    private func fail(_ index: Int, _ device: IOP) {
        twins.withLock { twins in
            guard twins[index].device.device === device.device else { return }
            let isLast = twins[index].condition == .working && twins.count { $0.condition == .working } == 1
            if !isLast { twins[index].condition = .failed }
        }
    }

    // MARK: - Rebuilding

    /// Puts a device in the place of another, and returns when it has the content. Requests go on meanwhile.
    ///
    /// Throws where it is too small, where another rebuild is under way, or where one of the devices fails before the end.
    public func replace(_ index: Int, with device: any Device) throws(DeviceFault) {
        let new = IOP(device)
        guard new.length.bytes >= length.bytes else {
            throw DeviceFault("\(device.description) is too small: the mirror has \(length.bytes) bytes")
        }
        guard isRebuilding.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
            throw DeviceFault("the mirror is being rebuilt: replace one device after the other")
        }
        defer { isRebuilding.store(false, ordering: .releasing) }
        let isOther = twins.withLock { twins in
            guard twins.indices.contains(index),
                twins.indices.contains(where: { $0 != index && twins[$0].condition == .working })
            else { return false }
            twins[index] = Twin(device: new, condition: .rebuilding)
            return true
        }
        guard isOther else { throw DeviceFault("no other device of the mirror has its content") }
        try copyContent(to: new)
        let isComplete = twins.withLock { twins in
            guard twins[index].device.device === device, twins[index].condition == .rebuilding else { return false }
            twins[index].condition = .working
            return true
        }
        guard isComplete else { throw DeviceFault("\(device.description) failed while it was written") }
    }

    private func copyContent(to new: IOP) throws(DeviceFault) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: MirrorDevice.copied, alignment: 4096)
        defer { unsafe memory.deallocate() }
        var position: UInt64 = 0
        while position < length.bytes {
            let count = min(UInt64(MirrorDevice.copied), length.bytes - position)
            // No change comes between reading and writing, which would undo it.
            gate.close()
            defer { gate.open() }
            var reading = unsafe Message(.read, offset: position, length: count, data: memory)
            guard ask(&reading, { $0.perform(&$1) }) == .done else {
                throw DeviceFault("no device of the mirror can be read at \(position)")
            }
            var writing = unsafe Message(.write, offset: position, length: count, data: memory)
            guard new.perform(&writing) == .done else {
                throw DeviceFault("\(new.device.description) can't be written at \(position)")
            }
            position += count
        }
        var flush = unsafe Message(.flush)
        guard new.perform(&flush) == .done else { throw DeviceFault("\(new.device.description) can't be flushed") }
    }
}

/// Lets any number of changes through, or one who copies.
struct ChangeGate: ~Copyable, Sendable {
    private static let closed = 1 << 32
    /// Changes inside; the bit above them is that of who copies.
    private let state = Atomic(0)

    borrowing func tryEnter() -> Bool {
        if state.add(1, ordering: .acquiring).newValue < ChangeGate.closed { return true }
        leave()
        return false
    }

    borrowing func enter() { while !tryEnter() { rest() } }
    borrowing func leave() { state.subtract(1, ordering: .releasing) }

    /// Waits until nobody is inside.
    borrowing func close() {
        state.add(ChangeGate.closed, ordering: .acquiring)
        while state.load(ordering: .acquiring) != ChangeGate.closed { rest() }
    }

    borrowing func open() { state.subtract(ChangeGate.closed, ordering: .releasing) }

    private func rest() { sk_yield() }
}
