/// A device on its way to another process, which goes on with it: its kind, what it consists of, and its open files.
///
/// It is taken while no message is under way. Both processes have the files then, as they would after a fork.
public struct DeviceParcel: Sendable {
    public enum Kind: UInt8, Sendable {
        case file, concatenation, stripes, mirror, overlay, volatile, readOnlyView, remote
    }

    public let kind: Kind
    /// A path, or a URI.
    public let text: String
    /// What the kind keeps in numbers.
    public let numbers: [UInt64]
    /// Open files, which stay the sender's own.
    public let files: [Int32]
    public let parts: [DeviceParcel]

    public init(
        _ kind: Kind, text: String = "", numbers: [UInt64] = [], files: [Int32] = [], parts: [DeviceParcel] = []
    ) {
        self.kind = kind
        self.text = text
        self.numbers = numbers
        self.files = files
        self.parts = parts
    }

    /// Whether both processes may use the device at once: nothing of it is known to one of them alone.
    public var isShareable: Bool {
        switch kind {
        case .mirror, .overlay, .volatile: false
        case .file, .concatenation, .stripes, .readOnlyView, .remote: parts.allSatisfy(\.isShareable)
        }
    }

    /// The device, in the process that has received it. The files become its own.
    public func open() throws(DeviceFault) -> any Device {
        var devices: [any Device] = []
        for part in parts { devices.append(try part.open()) }
        switch (kind, devices.count) {
        case (.file, 0) where files.count == 1 && numbers.count == 1:
            return FileDevice(adopting: files[0], path: text, readOnly: numbers[0] != 0)
        case (.concatenation, _): return try ConcatenatedDevice(devices)
        case (.stripes, _) where numbers.count == 1 && numbers[0] > 0:
            return try StripedDevice(devices, unit: numbers[0])
        case (.mirror, _) where !numbers.isEmpty:
            return try MirrorDevice(devices, length: numbers[0], conditions: numbers.dropFirst())
        case (.overlay, 2): return try OverlayDevice(base: devices[0], changes: devices[1], written: numbers)
        case (.volatile, 2):
            return VolatileDevice(
                devices[0], try OverlayDevice(base: devices[0], changes: devices[1], written: numbers))
        case (.remote, 0): return try RemoteDevice(text, numbers)
        case (.readOnlyView, 1): return ReadOnlyView(devices[0])
        default: throw DeviceFault("a device of the server that runs can't be understood")
        }
    }
}
