/// What is true of a whole medium, in clear, at unit 0 and once more at unit 256.
package struct Superblock: Equatable, Sendable {
    /// How blocks prove themselves.
    package enum Sealing: UInt32, Sendable {
        case checksum = 0
        case cipher = 1
    }

    /// Bytes of a group's name at most.
    package static let groupSize = 32
    package static let mirrorsAllowed = 1...3

    /// Names the medium, wherever it is attached.
    package var identity: Identifier
    package var group: String
    package var sealing: Sealing
    /// Tells a wrong key from a damaged medium; zeros where there is no key.
    package var keyCheck: Identifier
    /// The I/O timeout in milliseconds, from which all times of membership derive.
    package var timeoutMilliseconds: UInt32
    package var geometry: Geometry
    /// The identities of the devices that hold the same content, this one among them.
    package var mirrors: [Identifier]
    /// Which of them this is.
    package var mirrorIndex: Int
    /// When the medium was made, in seconds since 1970.
    package var made: UInt64

    private enum Offset {
        static let identity = 0
        static let group = 16
        static let hosts = 48
        static let sealing = 52
        static let keyCheck = 56
        static let timeout = 72
        static let ringUnits = 76
        static let units = 80
        /// Four regions: start and units per host, 8 bytes each.
        static let regions = 88
        static let mirrorCount = 152
        static let mirrorIndex = 156
        static let mirrors = 160
        static let made = 208
        static let end = 216
    }

    /// A medium of one device.
    package init(
        identity: Identifier, group: String, sealing: Sealing = .checksum, keyCheck: Identifier = .zero,
        timeoutMilliseconds: UInt32 = 1000, geometry: Geometry, made: UInt64
    ) throws(MediumFault) {
        guard (1...Superblock.groupSize).contains(group.utf8.count), !group.utf8.contains(0) else { throw .groupName }
        self.identity = identity
        self.group = group
        self.sealing = sealing
        self.keyCheck = keyCheck
        self.timeoutMilliseconds = timeoutMilliseconds
        self.geometry = geometry
        self.made = made
        mirrors = [identity]
        mirrorIndex = 0
    }

    /// The unit to write at `place`, which is 0 or 256. `count` rises with each write.
    package func unit(place: UInt64, count: UInt64) -> [UInt8] {
        Superblock.channel.block(place: place, count: count, body: body)
    }

    /// Takes the newer of two copies that prove themselves. `isWhole` is false where one of them doesn't.
    package static func read(
        first: [UInt8], copy: [UInt8]
    ) throws(MediumFault) -> (superblock: Superblock, count: UInt64, isWhole: Bool) {
        let found = [(first, UInt64(0)), (copy, Geometry.copyUnit)].map { channel.open($0, place: $1) }
        let newest = found.compactMap(\.self).max { $0.header.count < $1.header.count }
        guard let newest else {
            guard let stated = [first, copy].compactMap(statedMajor).first else { throw .noMedium }
            throw stated == BlockHeader.major ? .brokenSuperblock : .format(major: stated)
        }
        guard let superblock = Superblock(body: newest.body) else { throw .geometry }
        return (superblock, newest.header.count, found.allSatisfy { $0 != nil })
    }

    /// Superblocks are for all, in clear, and name the medium in their body.
    private static let channel = BlockChannel(.superblock, medium: .zero, writer: .zero, seal: ChecksumSeal())

    private static func statedMajor(_ unit: [UInt8]) -> UInt16? {
        guard unit.count >= BlockHeader.size,
            unit.word(at: BlockHeader.Offset.magic) == BlockKind.superblock.rawValue
        else { return nil }
        return unit.word(at: BlockHeader.Offset.major)
    }

    private var body: [UInt8] {
        var body = [UInt8](repeating: 0, count: Offset.end)
        body.put(identity, at: Offset.identity)
        body.put(Array(group.utf8), at: Offset.group)
        body.put(UInt32(geometry.hosts), at: Offset.hosts)
        body.put(sealing.rawValue, at: Offset.sealing)
        body.put(keyCheck, at: Offset.keyCheck)
        body.put(timeoutMilliseconds, at: Offset.timeout)
        body.put(UInt32(geometry.ringUnits), at: Offset.ringUnits)
        body.put(geometry.units, at: Offset.units)
        for (index, region) in [geometry.leases, geometry.rows, geometry.table, geometry.data].enumerated() {
            body.put(region.start, at: Offset.regions + 16 * index)
            body.put(region.unitsPerHost, at: Offset.regions + 16 * index + 8)
        }
        body.put(UInt32(mirrors.count), at: Offset.mirrorCount)
        body.put(UInt32(mirrorIndex), at: Offset.mirrorIndex)
        for (index, mirror) in mirrors.enumerated() { body.put(mirror, at: Offset.mirrors + 16 * index) }
        body.put(made, at: Offset.made)
        return body
    }

    /// Nil where a field holds what it can't. A newer minor version's body may be longer.
    private init?(body: [UInt8]) {
        guard body.count >= Offset.end,
            let group = body.name(at: Offset.group, size: Superblock.groupSize), !group.isEmpty,
            let sealing = Sealing(rawValue: body.word(at: Offset.sealing))
        else { return nil }
        func region(_ index: Int) -> Geometry.Region {
            Geometry.Region(
                start: body.word(at: Offset.regions + 16 * index),
                unitsPerHost: body.word(at: Offset.regions + 16 * index + 8))
        }
        let mirrorCount = Int(body.word(at: Offset.mirrorCount) as UInt32)
        mirrorIndex = Int(body.word(at: Offset.mirrorIndex) as UInt32)
        timeoutMilliseconds = body.word(at: Offset.timeout)
        guard Superblock.mirrorsAllowed.contains(mirrorCount), mirrorIndex < mirrorCount,
            Timing.timeoutsAllowed.contains(timeoutMilliseconds),
            let geometry = Geometry(
                hosts: body.word(at: Offset.hosts), ringUnits: body.word(at: Offset.ringUnits),
                units: body.word(at: Offset.units), leases: region(0), rows: region(1), table: region(2),
                data: region(3))
        else { return nil }
        identity = Identifier(body, at: Offset.identity)
        self.group = group
        self.sealing = sealing
        self.geometry = geometry
        keyCheck = Identifier(body, at: Offset.keyCheck)
        mirrors = (0..<mirrorCount).map { Identifier(body, at: Offset.mirrors + 16 * $0) }
        made = body.word(at: Offset.made)
    }
}
