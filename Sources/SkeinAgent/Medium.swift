import SkeinMedium
import SkeinSeal

/// A medium whose superblock has been read, and the seal of its blocks.
package final class Medium {
    package let device: MediumDevice
    package let superblock: Superblock
    /// Whether both copies of the superblock prove themselves.
    package let isWhole: Bool
    /// The higher write count of the two.
    package let superblockCount: UInt64
    /// Nil where the group's key isn't here.
    package let seal: (any Seal)?

    /// Opens a medium. `key` says where the group's key lies, if not at its usual place.
    package init(_ path: String, _ access: MediumDevice.Access, key: String? = nil) throws(AgentFault) {
        device = try MediumDevice(path, access)
        guard device.size >= (Geometry.copyUnit + 1) * UInt64(unitSize) else {
            throw AgentFault("\(path): \(MediumFault.noMedium)")
        }
        let first = try device.read(0, count: 1)
        let copy = try device.read(Geometry.copyUnit, count: 1)
        do throws(MediumFault) {
            (superblock, superblockCount, isWhole) = try Superblock.read(first: first, copy: copy)
        } catch {
            throw AgentFault("\(path): \(error)")
        }
        guard superblock.geometry.units * UInt64(unitSize) <= device.size else {
            throw AgentFault(
                "\(path) has \(device.size) bytes, and its medium \(superblock.geometry.units * UInt64(unitSize)): it was cut off"
            )
        }
        seal = try Medium.seal(of: superblock, path, key: key)
    }

    private static func seal(of superblock: Superblock, _ path: String, key: String?) throws(AgentFault) -> (any Seal)?
    {
        guard superblock.sealing == .cipher else { return ChecksumSeal() }
        let file = GroupKey.path(group: superblock.group, asked: key)
        guard let groupKey = try GroupKey(file: file) else {
            guard key == nil else { throw AgentFault("there is no key \(file)") }
            return nil
        }
        let seal = CipherSeal(groupKey: groupKey.bytes, medium: superblock.identity)
        guard seal.keyCheck == superblock.keyCheck else {
            throw AgentFault(
                "the key in \(file) is not that of \(path): bring the right one with 'skein key import \(superblock.group)'"
            )
        }
        return seal
    }

    /// The seal, for what can't be done without.
    package func neededSeal() throws(AgentFault) -> any Seal {
        guard let seal else {
            throw AgentFault(
                "the key of group '\(superblock.group)' is not here: 'skein key show \(superblock.group)' on another host shows it, "
                    + "'skein key import \(superblock.group)' takes it")
        }
        return seal
    }

    /// The leases of all hosts: nil for a slot that never had one, or whose unit proves nothing.
    package func leases() throws(AgentFault) -> [(incarnation: Identifier, count: UInt64, lease: Lease)?] {
        let seal = try neededSeal()
        let geometry = superblock.geometry
        let bytes = try device.read(geometry.leases.start, count: geometry.hosts)
        return (0..<geometry.hosts).map { host in
            guard let header = BlockHeader(bytes, at: host * unitSize, kind: .lease) else { return nil }
            let channel = BlockChannel(.lease, medium: superblock.identity, writer: header.writer, seal: seal)
            guard let (header, body) = channel.open(bytes, at: host * unitSize, place: geometry.lease(of: host)),
                let lease = Lease(body: body, hosts: geometry.hosts)
            else { return nil }
            return (header.writer, header.count, lease)
        }
    }

    /// The sockets that an incarnation of that host has in the table.
    package func sockets(of host: Int, incarnation: Identifier) throws(AgentFault) -> [SocketRecord] {
        let table = superblock.geometry.table
        let channel = BlockChannel(.table, medium: superblock.identity, writer: incarnation, seal: try neededSeal())
        let start = table.start(of: host)
        let bytes = try device.read(start, count: Int(table.unitsPerHost))
        return (0..<Int(table.unitsPerHost)).flatMap { unit -> [SocketRecord] in
            guard let (_, body) = channel.open(bytes, at: unit * unitSize, place: start + UInt64(unit)) else {
                return []
            }
            return SocketRecord.records(body: body).filter { $0.state != 0 }
        }
    }
}
