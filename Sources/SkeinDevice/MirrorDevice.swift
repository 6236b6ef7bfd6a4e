import CSystem
import Glibc
import Synchronization

/// Devices that all have the same content: it is there as long as one of them works.
///
/// A device that fails is left out from then on, and the request goes on with the others. `replace` puts another one
/// in its place and copies the content to it, while requests go on. One that only couldn't be reached gets the content by itself
/// when it is back.
public final class MirrorDevice: Device {
    /// Bytes that are copied at once; changes wait meanwhile.
    private static let copied = 1 << 20

    private enum Condition: UInt8 {
        case working
        /// It gets what is written, and isn't read yet.
        case rebuilding
        case failed
        /// It couldn't be reached, and gets the content when it is back.
        case lost
    }

    private struct Twin: Sendable {
        var device: IOP
        var condition = Condition.working
        /// Those that it had when it got the content.
        var outages: Int

        init(_ device: IOP, _ condition: Condition) {
            self.device = device
            self.condition = condition
            outages = device.device.presence.outages
        }

        /// Whether it couldn't be reached since.
        var wasAway: Bool { device.device.presence.outages != outages }
        var isInUse: Bool { condition == .working || condition == .rebuilding }
    }

    /// Taken for a moment, to see who is there.
    private let twins: Mutex<[Twin]>
    private let gate = ChangeGate()
    private let isRebuilding = Atomic(false)
    /// Whether somebody watches for lost parts.
    let isRecovering = Atomic(false)
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
                Twin(device, Condition(rawValue: UInt8(truncatingIfNeeded: condition)) ?? .failed)
            })
        self.length = DeviceLength(length)
        // A read may fail where all do.
        features = parts.features.subtracting(.memory)
        if conditions.contains(UInt64(Condition.lost.rawValue)) { recover() }
    }

    public var description: String {
        let names = twins.withLock { $0.map { "\($0.device.device.description) (\($0.condition))" } }
        return "mirror of \(names.joined(separator: " and "))"
    }

    public func parcel() throws(DeviceFault) -> DeviceParcel {
        let twins = twins.withLock { $0 }
        guard !twins.contains(where: { $0.condition == .rebuilding }) else {
            throw DeviceFault("\(description) is being rebuilt: try again later")
        }
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
        while let (found, device) = next(from: index, { $0.condition == .working }) {
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
        while let (found, device) = next(from: index, \.isInUse) {
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

    private func next(from index: Int, _ fits: (Twin) -> Bool) -> (Int, IOP)? {
        var isLost = false
        defer { if isLost { recover() } }
        return twins.withLock { twins in
            for index in twins.indices.dropFirst(index) where fits(twins[index]) {
                // One that was away may lack what was written to it and not flushed.
                if twins[index].wasAway && !isLast(index, twins) {
                    twins[index].condition = .lost
                    isLost = true
                } else {
                    return (index, twins[index].device)
                }
            }
            return nil
        }
    }

    /// Whether no other one has the content.
    private func isLast(_ index: Int, _ twins: [Twin]) -> Bool {
        twins[index].condition == .working && twins.count { $0.condition == .working } == 1
    }

    /// Those that are to get the content when they are back.
    var lostParts: [(index: Int, device: any Device)] {
        twins.withLock { twins in
            twins.indices.filter { twins[$0].condition == .lost }.map { ($0, twins[$0].device.device) }
        }
    }

    private func isWorking(_ index: Int) -> Bool { twins.withLock { $0[index].condition == .working } }

    /// Leaves a device out, unless it is the last one with the content or another has taken its place.
    private func fail(_ index: Int, _ device: IOP) {
        let isLost = twins.withLock { twins in
            guard twins[index].device.device === device.device, twins[index].isInUse else { return false }
            if isLast(index, twins) { return false }
            let isLost = twins[index].wasAway
            twins[index].condition = isLost ? .lost : .failed
            return isLost
        }
        if isLost { recover() }
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
            twins[index] = Twin(new, .rebuilding)
            return true
        }
        guard isOther else { throw DeviceFault("no other device of the mirror has its content") }
        do throws(DeviceFault) {
            try copyContent(to: new)
        } catch {
            fail(index, new)
            throw error
        }
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
        // What a flush has to tell of losses is of no account: everything is written anew.
        var flush = unsafe Message(.flush)
        _ = new.perform(&flush)
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
        guard new.perform(&flush) == .done else { throw DeviceFault("\(new.device.description) can't be flushed") }
    }
}

/// Lets any number of changes through, or one who copies.
struct ChangeGate: ~Copyable, Sendable {
    private static let closed = 1 << 32
    private static let yields = 100
    /// Changes inside; the bit above them is that of who copies.
    private let state = Atomic(0)

    borrowing func tryEnter() -> Bool {
        if state.add(1, ordering: .acquiring).newValue < ChangeGate.closed { return true }
        leave()
        return false
    }

    borrowing func enter() {
        var round = 0
        while !tryEnter() { rest(&round) }
    }

    borrowing func leave() { state.subtract(1, ordering: .releasing) }

    /// Waits until nobody is inside.
    borrowing func close() {
        state.add(ChangeGate.closed, ordering: .acquiring)
        var round = 0
        while state.load(ordering: .acquiring) != ChangeGate.closed { rest(&round) }
    }

    borrowing func open() { state.subtract(ChangeGate.closed, ordering: .releasing) }

    /// Who is waited for may be waiting for a network.
    private func rest(_ round: inout Int) {
        round += 1
        if round < ChangeGate.yields { sk_yield() } else { usleep(50) }
    }
}
