import SkeinDevice

/// One device that a user names: `[NAME=]DEVICE`.
public struct DeviceSpecification: Equatable, Sendable {
    public let name: String
    public let device: DeviceText

    /// A file or a block device under the last part of its path.
    init(path: String) {
        name = path.split(separator: "/").last.map(String.init) ?? path
        device = DeviceText(path)
    }

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
    public let readOnly: Bool

    public init(readOnly: Bool) { self.readOnly = readOnly }

    /// What a user's word stands for. `isScan`: he has named a folder or a pattern, not each of them.
    public func find(_ text: String) throws(ExportFault) -> (devices: [DeviceSpecification], isScan: Bool) {
        let specification = try DeviceSpecification(text)
        guard let path = specification.device.path, let found = DeviceScan.find(path) else {
            return ([specification], false)
        }
        guard path == text else {
            throw ExportFault(
                "'\(text)' gives one name to all that is in a folder or fits a pattern; leave the name out")
        }
        guard !found.isEmpty else { throw ExportFault("there is no file and no block device '\(path)'") }
        return (found, true)
    }

    /// Opens a device, and builds the descriptor that connections use.
    public func export(_ specification: DeviceSpecification) throws(ExportFault) -> Export {
        do throws(DeviceFault) {
            return Export(
                name: specification.name, specification.device, try specification.device.open(readOnly: readOnly),
                readOnly: readOnly)
        } catch {
            throw ExportFault(error.text)
        }
    }
}
