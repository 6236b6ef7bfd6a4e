import Synchronization

/// A device as one with a write cache of its own, which is lost when the server is killed: what is written lies in memory until
/// a flush, or at once where that is asked for, brings it to the device below. With it a power cut can be rehearsed.
public final class VolatileDevice: Device {
    private let base: IOP
    private let cache: OverlayDevice
    private let gate = ChangeGate()
    /// Held by the one who closes the gate.
    private let settling = Mutex(())
    public let length: DeviceLength
    public let features: DeviceFeatures

    public convenience init(_ device: any Device) throws(DeviceFault) {
        self.init(
            device, try OverlayDevice(base: device, changes: FileDevice.memory(size: device.length.bytes)))
    }

    /// With what lies in the cache.
    init(_ device: any Device, _ cache: OverlayDevice) {
        base = IOP(device)
        self.cache = cache
        length = cache.length
        features = cache.features.intersection(base.features)
    }

    public var description: String { "\(base.device.description) behind a volatile cache" }

    public func parcel() throws(DeviceFault) -> DeviceParcel { try cache.parcel(.volatile) }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: VolatileDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: VolatileDevice.self) { $0.perform(&$1) } })
    }

    public func attempt(_ message: inout Message) -> Answer {
        if message.operation == .flush || message.options.contains(.durable) { return .wouldWait }
        guard message.operation.isChange else { return cache.attempt(&message) }
        guard gate.tryEnter() else { return .wouldWait }
        defer { gate.leave() }
        return cache.attempt(&message)
    }

    public func perform(_ message: inout Message) -> Answer {
        if message.operation == .flush { return settle(0..<length.bytes) }
        guard message.operation.isChange else { return cache.perform(&message) }
        let range = message.offset..<message.offset + message.length
        let answer = change(&message)
        return answer == .done && message.options.contains(.durable) ? settle(range) : answer
    }

    private func change(_ message: inout Message) -> Answer {
        gate.enter()
        defer { gate.leave() }
        return cache.perform(&message)
    }

    /// Brings a range to the device below.
    private func settle(_ range: Range<UInt64>) -> Answer {
        settling.withLock { _ in
            gate.close()
            defer { gate.open() }
            let answer = cache.settle(range)
            var flush = unsafe Message(.flush)
            return answer == .done ? base.perform(&flush) : answer
        }
    }
}
