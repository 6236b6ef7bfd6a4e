/// Where the regions of a medium lie, in units, and how many units of each a host has.
package struct Geometry: Equatable, Sendable {
    /// The superblock's region: unit 0, its copy at unit 256, and room for formats to come.
    package static let superblockUnits: UInt64 = 512
    package static let copyUnit: UInt64 = 256
    package static let hostsAllowed = 2...64
    package static let defaultHosts = 8
    package static let defaultTableUnits: UInt64 = 144
    package static let defaultRingUnits: UInt64 = 1024
    /// A batch of the largest block goes into the smallest ring.
    package static let ringUnitsAllowed: ClosedRange<UInt64> = 64...1 << 20

    /// Hosts that can be members at once.
    package let hosts: Int
    /// Units of each ring.
    package let ringUnits: UInt64
    package let leases: Region
    package let rows: Region
    package let table: Region
    package let data: Region
    /// Units of the whole medium.
    package let units: UInt64

    /// Adjacent units of which each host has as many, the first host first.
    package struct Region: Equatable, Sendable {
        package let start: UInt64
        package let unitsPerHost: UInt64

        /// The first unit of a host's part.
        package func start(of host: Int) -> UInt64 { start + UInt64(host) * unitsPerHost }
    }

    /// The regions one after the other, as `skein medium create` lays them.
    package init(
        hosts: Int = Geometry.defaultHosts, ringUnits: UInt64 = Geometry.defaultRingUnits,
        tableUnits: UInt64 = Geometry.defaultTableUnits
    ) {
        precondition(Geometry.hostsAllowed.contains(hosts), "a medium is for 2 to 64 hosts")
        precondition(Geometry.ringUnitsAllowed.contains(ringUnits), "a ring has a size that the format allows")
        let count = UInt64(hosts)
        self.hosts = hosts
        self.ringUnits = ringUnits
        leases = Region(start: Geometry.superblockUnits, unitsPerHost: 1)
        rows = Region(start: leases.start + count, unitsPerHost: count)
        table = Region(start: rows.start + count * count, unitsPerHost: tableUnits)
        data = Region(start: table.start + count * tableUnits, unitsPerHost: 2 * (count - 1) * ringUnits)
        units = data.start + count * data.unitsPerHost
    }

    /// The largest rings of the default size or less that a medium of `bytes` has room for. Throws where even the
    /// smallest don't fit.
    package init(hosts: Int, fitting bytes: UInt64) throws(MediumFault) {
        let least = Geometry(hosts: hosts, ringUnits: Geometry.ringUnitsAllowed.lowerBound)
        let units = bytes / UInt64(unitSize)
        guard units >= least.units else {
            throw .tooSmall(has: bytes, needs: least.units * UInt64(unitSize), hosts: hosts)
        }
        let rings = 2 * UInt64(hosts) * UInt64(hosts - 1)
        self.init(hosts: hosts, ringUnits: min(Geometry.defaultRingUnits, (units - least.data.start) / rings))
    }

    /// What a superblock states. Nil unless each region has its least size, and lies behind the one before and
    /// within the medium.
    init?(
        hosts: UInt32, ringUnits: UInt32, units: UInt64, leases: Region, rows: Region, table: Region, data: Region
    ) {
        guard let hosts = Int(exactly: hosts), Geometry.hostsAllowed.contains(hosts),
            Geometry.ringUnitsAllowed.contains(UInt64(ringUnits))
        else { return nil }
        let count = UInt64(hosts)
        let ring = UInt64(ringUnits)
        guard leases.unitsPerHost == 1, rows.unitsPerHost == count, table.unitsPerHost >= 1,
            data.unitsPerHost >= 2 * (count - 1) * ring
        else { return nil }
        var free = Geometry.superblockUnits
        for region in [leases, rows, table, data] {
            let (size, isTooLarge) = region.unitsPerHost.multipliedReportingOverflow(by: count)
            let (end, isTooFar) = region.start.addingReportingOverflow(size)
            guard !isTooLarge, !isTooFar, region.start >= free else { return nil }
            free = end
        }
        // A byte offset must be one that the system's calls can take.
        guard free <= units, units <= UInt64(Int64.max) / UInt64(unitSize) else { return nil }
        self.hosts = hosts
        self.ringUnits = ring
        self.units = units
        self.leases = leases
        self.rows = rows
        self.table = table
        self.data = data
    }

    /// Where the lease of a host lies.
    package func lease(of host: Int) -> UInt64 { leases.start(of: host) }

    /// Where `writer` says what it has for `reader`.
    package func row(of reader: Int, from writer: Int) -> UInt64 { rows.start(of: reader) + UInt64(writer) }

    /// The half of a host's data units that its incarnation of that generation writes: never that of the one before.
    package func half(of host: Int, generation: UInt64) -> Range<UInt64> {
        let size = data.unitsPerHost / 2
        let start = data.start(of: host) + (generation % 2) * size
        return start..<start + size
    }

    /// Where that incarnation of `writer` puts its ring for `reader`.
    package func ring(from writer: Int, to reader: Int, generation: UInt64) -> UInt64 {
        let rank = reader < writer ? reader : reader - 1
        return half(of: writer, generation: generation).lowerBound + UInt64(rank) * ringUnits
    }
}
