import SkeinDevice

/// One device that a user names: `[NAME=]DEVICE`.
public struct DeviceSpecification: Equatable, Sendable {
    public let name: String
    public let device: DeviceText

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
        self.device = DeviceText(String(device))
        self.name = name ?? device.split(separator: "/").last.map(String.init) ?? String(device)
        guard self.name.utf8.count <= 4096, !self.name.utf8.contains(0) else {
            throw ExportFault("the name of an export has at most 4096 bytes")
        }
    }
}

/// Finds devices on this machine and makes IOPs of them.
public struct LocalTransport: Sendable {
    private let readOnly: Bool

    public init(readOnly: Bool) { self.readOnly = readOnly }

    /// Opens a device, and builds the descriptor that connections use.
    public func export(_ specification: DeviceSpecification) throws(ExportFault) -> Export {
        do throws(DeviceFault) {
            return Export(
                name: specification.name, try specification.device.open(readOnly: readOnly), readOnly: readOnly)
        } catch {
            throw ExportFault(error.text)
        }
    }
}
