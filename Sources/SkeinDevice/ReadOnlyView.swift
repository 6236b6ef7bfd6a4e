/// A device as those see it who may not change it.
public final class ReadOnlyView: Device {
    private let device: IOP

    public init(_ device: any Device) { self.device = IOP(device) }

    public var length: DeviceLength { device.length }
    public var features: DeviceFeatures { device.features.intersection([.memory]) }
    public var description: String { "\(device.device.description), read-only" }

    public func parcel() throws(DeviceFault) -> DeviceParcel {
        DeviceParcel(.readOnlyView, parts: [try device.device.parcel()])
    }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: ReadOnlyView.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: ReadOnlyView.self) { $0.perform(&$1) } },
            lend: { unsafe DeviceFunctions.lend($0, $1, $2, as: ReadOnlyView.self) })
    }

    public func attempt(_ message: inout Message) -> Answer {
        message.operation.isChange ? .failed(1) : device.attempt(&message)  // EPERM
    }

    public func perform(_ message: inout Message) -> Answer {
        message.operation.isChange ? .failed(1) : device.perform(&message)
    }

    public func lend(_ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer? { unsafe device.lend(offset, length) }
}

extension Message.Operation {
    /// Whether it changes the content or the size.
    var isChange: Bool {
        switch self {
        case .write, .trim, .zeroes, .resize: true
        case .read, .flush, .cache, .status: false
        }
    }
}
