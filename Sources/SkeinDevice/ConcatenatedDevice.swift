/// Devices one behind the other.
public final class ConcatenatedDevice: Device {
    private let parts: Parts
    /// Where each part begins, and the end of the last one.
    private let starts: [UInt64]
    public let length: DeviceLength
    public let features: DeviceFeatures

    /// The sizes are those of now.
    public init(_ devices: [any Device]) throws(DeviceFault) {
        parts = try Parts(devices)
        var starts: [UInt64] = [0]
        for device in parts.devices {
            let (end, overflow) = starts[starts.count - 1].addingReportingOverflow(device.length.bytes)
            guard !overflow else { throw DeviceFault("the devices are too large together") }
            starts.append(end)
        }
        self.starts = starts
        length = DeviceLength(starts[starts.count - 1])
        features = parts.features
    }

    public var description: String { parts.description("concatenation") }

    public func parcel() throws(DeviceFault) -> DeviceParcel {
        DeviceParcel(.concatenation, parts: try parts.parcels())
    }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: ConcatenatedDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: ConcatenatedDevice.self) { $0.perform(&$1) } })
    }

    public func attempt(_ message: inout Message) -> Answer { parts.send(&message, find) { $0.attempt(&$1) } }
    public func perform(_ message: inout Message) -> Answer { parts.send(&message, find) { $0.perform(&$1) } }

    private func find(_ position: UInt64) -> Parts.Place {
        var part = 0
        while position >= starts[part + 1] { part += 1 }
        return Parts.Place(part: part, offset: position - starts[part], run: starts[part + 1] - position)
    }
}
