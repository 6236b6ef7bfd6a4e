import SkeinMedium

/// `skein medium check`: every block of a medium's metadata, verified.
package struct MediumCheck {
    /// One line for each thing that is wrong.
    package private(set) var problems: [String] = []
    /// One line for each of them that was put right.
    package private(set) var repairs: [String] = []
    /// Blocks that were looked at and prove themselves, and units that nobody has written.
    package private(set) var sound = 0
    package private(set) var unused = 0

    /// Looks at all metadata. With `repairing` a broken copy of the superblock is written anew from the other.
    package init(_ medium: Medium, repairing: Bool) throws(AgentFault) {
        sound = medium.isWhole ? 2 : 1
        if !medium.isWhole { try restoreSuperblock(medium, repairing) }
        let seal = try medium.neededSeal()
        let geometry = medium.superblock.geometry
        let leases = try medium.leases()
        for (region, kind, name) in [(geometry.leases, BlockKind.lease, "lease"), (geometry.table, .table, "table")] {
            for host in 0..<geometry.hosts {
                try look(medium, region, host, seal) { [leases] header, unit in
                    guard kind == .table else {
                        return BlockChannel(kind, medium: unit, writer: header.writer, seal: seal)
                    }
                    // Records of an incarnation that is gone count for nothing, whatever became of them.
                    guard header.writer == leases[host]?.incarnation else { return nil }
                    return BlockChannel(kind, medium: unit, writer: header.writer, seal: seal)
                } report: {
                    "\(name) unit \($0) of host \(host) is damaged"
                }
            }
        }
        for reader in 0..<geometry.hosts {
            try look(medium, geometry.rows, reader, seal) { [leases] header, unit in
                let writers = leases.compactMap { $0?.incarnation }
                guard let current = leases[reader]?.incarnation, writers.contains(header.writer) else { return nil }
                return BlockChannel(.row, medium: unit, writer: header.writer, reader: current, seal: seal)
            } report: {
                "row \($0) of host \(reader) is damaged"
            }
        }
    }

    private mutating func restoreSuperblock(_ medium: Medium, _ repairing: Bool) throws(AgentFault) {
        guard repairing else {
            problems.append("one of the two copies of the superblock is damaged: --repair writes it anew")
            return
        }
        let count = medium.superblockCount + 1
        for place in [Geometry.copyUnit, 0] {
            try medium.device.write(place, medium.superblock.unit(place: place, count: count))
        }
        repairs.append("one of the two copies of the superblock was damaged: written anew")
    }

    /// Looks at each unit of a host's part. `channel` gives whose block it must prove to be; nil for one that counts for nothing.
    private mutating func look(
        _ medium: Medium, _ region: Geometry.Region, _ host: Int, _ seal: any Seal,
        _ channel: (BlockHeader, Identifier) -> BlockChannel?, report: (UInt64) -> String
    ) throws(AgentFault) {
        let start = region.start(of: host)
        let bytes = try medium.device.read(start, count: Int(region.unitsPerHost))
        for index in 0..<Int(region.unitsPerHost) {
            let unit = bytes[index * unitSize..<(index + 1) * unitSize]
            if unit.allSatisfy({ $0 == 0 }) {
                unused += 1
                continue
            }
            let kinds = BlockKind.allCases.compactMap { BlockHeader(bytes, at: index * unitSize, kind: $0) }
            guard let header = kinds.first else {
                problems.append(report(start + UInt64(index)))
                continue
            }
            guard let channel = channel(header, medium.superblock.identity) else {
                unused += 1
                continue
            }
            if channel.open(bytes, at: index * unitSize, place: start + UInt64(index)) == nil {
                problems.append(report(start + UInt64(index)))
            } else {
                sound += 1
            }
        }
    }
}
