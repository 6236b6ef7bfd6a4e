/// Devices that take turns: the first unit lies on the first, the second on the second, and so on.
public final class StripedDevice: Device {
    /// Bytes of a unit, unless another size is given.
    public static let unit: UInt64 = 64 << 10

    private let parts: Parts
    private let unit: UInt64
    public let length: DeviceLength
    public let features: DeviceFeatures

    /// As many whole units of each device are used as the smallest one has.
    public init(_ devices: [any Device], unit: UInt64 = StripedDevice.unit) throws(DeviceFault) {
        precondition(unit > 0, "a stripe has bytes")
        parts = try Parts(devices)
        self.unit = unit
        let units = (parts.devices.map { $0.length.bytes }.min() ?? 0) / unit
        guard units > 0 else { throw DeviceFault("each device of a striped array needs \(unit) bytes or more") }
        length = DeviceLength(units * unit * UInt64(parts.devices.count))
        features = parts.features
    }

    public var description: String { parts.description("stripes") }

    public func parcel() throws(DeviceFault) -> DeviceParcel {
        DeviceParcel(.stripes, numbers: [unit], parts: try parts.parcels())
    }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: StripedDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: StripedDevice.self) { $0.perform(&$1) } })
    }

    public func attempt(_ message: inout Message) -> Answer { parts.send(&message, find) { $0.attempt(&$1) } }
    public func perform(_ message: inout Message) -> Answer { parts.send(&message, find) { $0.perform(&$1) } }

    private func find(_ position: UInt64) -> Parts.Place {
        let (index, rest) = position.quotientAndRemainder(dividingBy: unit)
        let (row, part) = index.quotientAndRemainder(dividingBy: UInt64(parts.devices.count))
        return Parts.Place(part: Int(part), offset: row * unit + rest, run: unit - rest)
    }
}
