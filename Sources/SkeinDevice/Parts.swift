/// Devices side by side that together are one: each range of the whole lies in one part or in several.
struct Parts: Sendable {
    /// Where a position of the whole lies.
    struct Place {
        let part: Int
        let offset: UInt64
        /// Bytes from there that lie in the same part, one after the other.
        let run: UInt64
    }

    let devices: [IOP]

    init(_ devices: [any Device]) throws(DeviceFault) {
        guard devices.count > 1 else { throw DeviceFault("an array needs two devices or more") }
        self.devices = devices.map(IOP.init)
    }

    /// What all of them can do. The size of an array doesn't change.
    var features: DeviceFeatures {
        devices.reduce([.writable, .trim, .fastZero, .memory]) { $0.intersection($1.features) }
    }

    /// All of them, for another process.
    func parcels() throws(DeviceFault) -> [DeviceParcel] {
        var parcels: [DeviceParcel] = []
        for device in devices { parcels.append(try device.device.parcel()) }
        return parcels
    }

    func description(_ kind: String) -> String {
        "\(kind) of \(devices.map { $0.device.description }.joined(separator: " and "))"
    }

    /// Sends the message on to the parts that its range lies in.
    @inline(__always)
    func send(_ message: inout Message, _ find: (UInt64) -> Place, _ send: (IOP, inout Message) -> Answer) -> Answer {
        switch message.operation {
        case .flush:
            for device in devices {
                let answer = send(device, &message)
                if answer != .done { return answer }
            }
            return .done
        case .resize: return .failed(95)  // ENOTSUP
        case .read, .write, .trim, .zeroes, .cache, .status: break
        }
        var done: UInt64 = 0
        while done < message.length {
            let place = find(message.offset + done)
            let count = min(place.run, message.length - done)
            var part = message.part(done, count: count, at: place.offset)
            let answer = send(devices[place.part], &part)
            if answer != .done { return answer }
            done += count
            // A list without room ends in the middle.
            if let extents = unsafe message.extents, unsafe extents.pointee.length < done { return .done }
        }
        return .done
    }
}
