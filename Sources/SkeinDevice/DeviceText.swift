/// What a user calls a device: a path, `memory:SIZE`, or a kind with others in it, as `mirror:A,B`.
public struct DeviceText: Equatable, Sendable {
    /// As the user wrote it.
    public let text: String

    public init(_ text: String) { self.text = text }

    /// The path of a file or a block device; nil where it is another kind.
    public var path: String? {
        if uri != nil { return nil }
        return DeviceText.kinds.contains { text.hasPrefix("\($0):") } ? nil : text
    }

    private static let kinds = ["memory", "read-only", "overlay", "volatile", "concat", "stripe", "mirror", "nbd"]
    private static let schemes = ["nbd", "nbds", "nbd+unix", "nbds+unix"]

    /// The URI of an NBD server's export, as it is or behind `nbd:`; nil where it is another kind.
    private var uri: String? {
        let uri = text.hasPrefix("nbd:") && !text.hasPrefix("nbd://") ? String(text.dropFirst(4)) : text
        return DeviceText.schemes.contains { uri.hasPrefix("\($0)://") } ? uri : nil
    }

    /// Opens it, and all that is in it.
    public func open(readOnly: Bool) throws(DeviceFault) -> any Device {
        if let uri { return try RemoteDevice(uri: uri, readOnly: readOnly) }
        guard path == nil, let colon = text.firstIndex(of: ":") else {
            return try FileDevice(path: text, readOnly: readOnly)
        }
        let rest = text[text.index(after: colon)...]
        switch text[..<colon] {
        case "memory":
            guard let size = DeviceText.size(rest) else {
                throw DeviceFault("'\(text)' has no size; write it as memory:64M")
            }
            return try FileDevice.memory(size: size)
        case "nbd": throw DeviceFault("'\(text)' is no URI of an NBD server; write it as nbd://HOST/NAME")
        case "read-only": return ReadOnlyView(try DeviceText(String(rest)).open(readOnly: true))
        case "overlay":
            let base = try DeviceText(String(rest)).open(readOnly: true)
            return try OverlayDevice(base: base, changes: FileDevice.memory(size: base.length.bytes))
        case "volatile": return try VolatileDevice(try DeviceText(String(rest)).open(readOnly: readOnly))
        case "concat": return try ConcatenatedDevice(try parts(rest, readOnly))
        case "stripe": return try StripedDevice(try parts(rest, readOnly))
        default: return try MirrorDevice(try parts(rest, readOnly))
        }
    }

    private func parts(_ text: Substring, _ readOnly: Bool) throws(DeviceFault) -> [any Device] {
        var devices: [any Device] = []
        for part in text.split(separator: ",") { devices.append(try DeviceText(String(part)).open(readOnly: readOnly)) }
        guard devices.count > 1 else {
            throw DeviceFault("'\(self.text)' needs two devices or more; write it as mirror:A,B")
        }
        return devices
    }

    /// Bytes, as `64M` or `1048576` say; nil for anything else.
    public static func size(_ text: some StringProtocol) -> UInt64? {
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = text.last.flatMap { units[Character($0.uppercased())] }
        guard let number = UInt64(unit == nil ? text[...] : text.dropLast()) else { return nil }
        let (size, overflow) = number.multipliedReportingOverflow(by: unit ?? 1)
        return overflow || size > UInt64(Int64.max) ? nil : size
    }
}
