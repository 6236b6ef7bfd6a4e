import SkeinDevice
import SkeinNBD
import Synchronization

/// A device under a name.
public final class Export: Sendable {
    public let name: String
    /// What the user calls the device.
    public let text: DeviceText
    public let iop: IOP
    private let flags: TransmissionFlags
    /// Whether it was asked for as one to read from, whatever its device can do.
    public let isView: Bool
    /// What is done for its clients.
    let accounts = Accounts()

    public var isReadOnly: Bool { flags.contains(.readOnly) }

    /// A read-only export refuses to write, whatever its device can do.
    public init(name: String, _ text: DeviceText, _ device: any Device, readOnly: Bool = false) {
        self.name = name
        self.text = text
        isView = readOnly
        iop = IOP(device)
        let features = iop.features
        var flags: TransmissionFlags = [.hasFlags, .flush, .forceUnitAccess, .multipleConnections, .cache]
        if readOnly || !features.contains(.writable) {
            flags.insert(.readOnly)
        } else {
            flags.insert(.writeZeroes)
            if features.contains(.trim) { flags.insert(.trim) }
            if features.contains(.fastZero) { flags.insert(.fastZero) }
            if features.contains(.resize) { flags.insert(.resize) }
        }
        self.flags = flags
    }

    /// What clients are told.
    public var description: ExportDescription {
        ExportDescription(name: name, description: iop.device.description, size: iop.length.bytes, flags: flags)
    }
}

/// The exports by name. Connections look into it while they negotiate, never afterwards.
public final class Catalogue: Sendable {
    private let exports = Mutex<[Export]>([])

    public init() {}

    /// Adds an export; false where the name is taken.
    public func add(_ export: Export) -> Bool {
        exports.withLock { exports in
            guard !exports.contains(where: { $0.name == export.name }) else { return false }
            exports.append(export)
            return true
        }
    }

    /// Takes an export out: nobody finds it any more. Nil where there is none of that name.
    func remove(_ name: String) -> Export? {
        exports.withLock { exports in
            exports.firstIndex { $0.name == name }.map { exports.remove(at: $0) }
        }
    }

    public var all: [Export] { exports.withLock { $0 } }

    /// The export of a name. The empty name is the first one's.
    public func export(_ name: String) -> Export? {
        exports.withLock { exports in
            exports.first { $0.name == name } ?? (name.isEmpty ? exports.first : nil)
        }
    }

}

/// The exports as one client may see them.
struct ClientCatalogue: ExportCatalogue {
    let catalogue: Catalogue
    let rules: AccessRules
    let peer: Peer

    /// Those that it may have, at once or under TLS.
    func list() -> [(name: String, description: String)]? {
        catalogue.all.filter { rules.judge($0.name, peer) != .denied }.map {
            ($0.name, $0.iop.device.description)
        }
    }

    func find(_ name: String) -> ExportFinding {
        guard let export = catalogue.export(name) else { return .unknown }
        return switch rules.judge(export.name, peer) {
        case .allowed: .export(export.description)
        case .needsTLS: .requiresTLS
        case .denied: .denied
        }
    }
}
