import SkeinDevice

/// One device that a user names: `[NAME=]DEVICE`.
public struct DeviceSpecification: Equatable, Sendable {
    public let name: String
    /// A path, or `memory:SIZE`.
    public let device: String

    public init(_ text: String) throws(ExportFault) {
        var name: String?
        var device = text[...]
        // A path may have the sign too, behind a slash or a kind.
        if let sign = text.firstIndex(of: "="), !text[..<sign].contains("/"), !text[..<sign].contains(":") {
            name = String(text[..<sign])
            device = text[text.index(after: sign)...]
        }
        guard !device.isEmpty else {
            throw ExportFault("'\(text)' names no device; write it as NAME=/path/to/disk.img")
        }
        self.device = String(device)
        self.name = name ?? device.split(separator: "/").last.map(String.init) ?? String(device)
        guard self.name.utf8.count <= 4096, !self.name.utf8.contains(0) else {
            throw ExportFault("the name of an export has at most 4096 bytes")
        }
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

/// Finds devices on this machine and makes IOPs of them.
public struct LocalTransport: Sendable {
    private let readOnly: Bool

    public init(readOnly: Bool) { self.readOnly = readOnly }

    /// Opens a device, and builds the descriptor that connections use.
    public func export(_ specification: DeviceSpecification) throws(ExportFault) -> Export {
        Export(name: specification.name, try device(specification.device), readOnly: readOnly)
    }

    private func device(_ text: String) throws(ExportFault) -> any Device {
        do throws(DeviceFault) {
            guard text.hasPrefix("memory:") else { return try FileDevice(path: text, readOnly: readOnly) }
            guard let size = DeviceSpecification.size(text.dropFirst(7)) else {
                throw DeviceFault("'\(text)' has no size; write it as memory:64M")
            }
            return try FileDevice.memory(size: size)
        } catch {
            throw ExportFault(error.text)
        }
    }
}
