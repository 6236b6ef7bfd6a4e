import Glibc
import SkeinMedium
import SkeinSeal

/// `skein medium create`: what is asked for, and how it is made.
package struct MediumCreation {
    package var path: String
    package var group: String
    package var hosts: Int
    /// Bytes; nil for what so many hosts need, or all that a device has.
    package var size: UInt64?
    package var timeoutMilliseconds: UInt32
    /// Where the group's key lies, if not at its usual place.
    package var key: String?
    package var isPlaintext: Bool
    /// Whatever is there is written over.
    package var isForced: Bool

    package init(
        path: String, group: String, hosts: Int, size: UInt64?, timeoutMilliseconds: UInt32, key: String?,
        isPlaintext: Bool, isForced: Bool
    ) {
        self.path = path
        self.group = group
        self.hosts = hosts
        self.size = size
        self.timeoutMilliseconds = timeoutMilliseconds
        self.key = key
        self.isPlaintext = isPlaintext
        self.isForced = isForced
    }

    /// What was made.
    package struct Outcome {
        package let superblock: Superblock
        /// The file of the key, and whether it was made with the medium; nil in plaintext.
        package let key: (path: String, isNew: Bool)?
        package let measurement: Measurement
    }

    /// How long single writes and reads of a unit take, in milliseconds.
    package struct Measurement {
        package let write: Double
        package let read: Double
        /// The longest of all.
        package let longest: Double
    }

    package func make() throws(AgentFault) -> Outcome {
        guard Geometry.hostsAllowed.contains(hosts) else {
            throw AgentFault("a medium is for 2 to 64 hosts, not \(hosts)")
        }
        guard (1...Superblock.groupSize).contains(group.utf8.count), !group.utf8.contains(0), !group.contains("/")
        else {
            throw AgentFault("a group's name has 1 to 32 bytes and no stroke, for it names the file of its key")
        }
        guard Timing.timeoutsAllowed.contains(timeoutMilliseconds) else {
            throw AgentFault("an I/O timeout has 10 to 600,000 ms, not \(timeoutMilliseconds)")
        }
        // First whether all can be done, then what can't be undone.
        let key = try groupKey()
        let place = try prepare()
        do throws(AgentFault) {
            return try make(place, key)
        } catch {
            if place.isNew { unsafe unlink(path) }
            throw error
        }
    }

    private func make(_ place: Place, _ key: (key: GroupKey, path: String, isNew: Bool)?) throws(AgentFault) -> Outcome
    {
        var generator = SystemRandomNumberGenerator()
        let identity = Identifier(generator.next(), generator.next())
        var superblock: Superblock
        do throws(MediumFault) {
            superblock = try Superblock(
                identity: identity, group: group, timeoutMilliseconds: timeoutMilliseconds, geometry: place.geometry,
                made: UInt64(max(time(nil), 0)))
        } catch {
            throw AgentFault("\(error)")
        }
        if let key {
            superblock.sealing = .cipher
            superblock.keyCheck = CipherSeal(groupKey: key.key.bytes, medium: identity).keyCheck
            if key.isNew { try key.key.write(to: key.path) }
        }
        try clear(place)
        let measurement = try measure(place)
        try place.device.write(Geometry.copyUnit, superblock.unit(place: Geometry.copyUnit, count: 1))
        try place.device.write(0, superblock.unit(place: 0, count: 1))
        return Outcome(superblock: superblock, key: key.map { ($0.path, $0.isNew) }, measurement: measurement)
    }

    private func groupKey() throws(AgentFault) -> (key: GroupKey, path: String, isNew: Bool)? {
        if isPlaintext {
            guard key == nil else { throw AgentFault("--plaintext needs no --key") }
            return nil
        }
        let path = GroupKey.path(group: group, asked: key)
        if let found = try GroupKey(file: path) { return (found, path, false) }
        return (GroupKey(), path, true)
    }

    // MARK: The place

    private struct Place {
        let device: MediumDevice
        let geometry: Geometry
        /// The file wasn't there.
        var isNew = false
    }

    private func prepare() throws(AgentFault) -> Place {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            let geometry = try geometry(fitting: size)
            return Place(
                device: try MediumDevice(making: path, size: geometry.units * UInt64(unitSize)), geometry: geometry,
                isNew: true)
        }
        let device = try MediumDevice(path, .alone)
        if device.size == 0 && !device.isBlockDevice {
            let geometry = try geometry(fitting: size)
            try device.grow(to: geometry.units * UInt64(unitSize))
            return Place(device: device, geometry: geometry)
        }
        if let size, size > device.size {
            guard !device.isBlockDevice else { throw AgentFault("\(path) has \(device.size) bytes, not \(size)") }
            try device.grow(to: size)
        }
        let geometry = try geometry(fitting: size ?? device.size)
        if !isForced { try refuseContent(of: device) }
        return Place(device: device, geometry: geometry)
    }

    private func geometry(fitting size: UInt64?) throws(AgentFault) -> Geometry {
        guard let size else { return Geometry(hosts: hosts) }
        do throws(MediumFault) {
            return try Geometry(hosts: hosts, fitting: size)
        } catch {
            throw AgentFault("\(path): \(error)")
        }
    }

    /// File systems, partition tables and their copies begin within the first or the last mebibyte.
    private func refuseContent(of device: MediumDevice) throws(AgentFault) {
        let units = device.size / UInt64(unitSize)
        let edge = min(units, 256)
        let edges = try device.read(0, count: Int(edge)) + device.read(units - edge, count: Int(edge)) + device.tail()
        guard edges.contains(where: { $0 != 0 }) else { return }
        let what = BlockHeader(edges, kind: .superblock) == nil ? "something" : "a medium"
        throw AgentFault("\(path) holds \(what): --force writes over it, and it is lost then")
    }

    /// What an earlier medium left in the units that hosts read before they write them. Data blocks of another medium
    /// don't prove themselves.
    private func clear(_ made: Place) throws(AgentFault) {
        var unit: UInt64 = 0
        let piece: UInt64 = 256
        while unit < made.geometry.data.start {
            let count = min(piece, made.geometry.data.start - unit)
            try made.device.write(unit, [UInt8](repeating: 0, count: Int(count) * unitSize))
            unit += count
        }
    }

    // MARK: Its speed

    private func measure(_ made: Place) throws(AgentFault) -> Measurement {
        var writes: [Double] = []
        var reads: [Double] = []
        let unit = [UInt8](repeating: 0, count: unitSize)
        for index in 0..<32 {
            let place = made.geometry.data.start + UInt64(index)
            let start = milliseconds()
            try made.device.write(place, unit)
            let between = milliseconds()
            _ = try made.device.read(place, count: 1)
            writes.append(between - start)
            reads.append(milliseconds() - between)
        }
        func median(_ times: [Double]) -> Double { times.sorted()[times.count / 2] }
        return Measurement(
            write: median(writes), read: median(reads), longest: max(writes.max() ?? 0, reads.max() ?? 0))
    }

    private func milliseconds() -> Double {
        var now = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &now)
        return Double(now.tv_sec) * 1000 + Double(now.tv_nsec) / 1_000_000
    }
}
