import CNBD
import Glibc
import Synchronization

/// An export of another NBD server.
///
/// While its server can't be reached, requests fail with EIO at once; the connection is made anew in the background. Whether a request
/// that was under way has been carried out isn't known then. If something was written that no flush has covered, the next flush
/// fails.
public final class RemoteDevice: Device {
    /// Bytes of one request without data.
    private static let longest: UInt64 = 1 << 30

    private let connection: RemoteConnection
    /// For ranges that aren't whole blocks of the server's: no change comes between reading such a block and writing it.
    private let gate = ChangeGate()
    /// Held by the one who closes the gate.
    private let changing = Mutex(())
    public let length: DeviceLength
    public let features: DeviceFeatures

    private var abilities: RemoteLink.Abilities { connection.abilities }

    /// Connects, or says why that can't be. `readOnly` is how it is used, whatever the server allows.
    public convenience init(uri: String, readOnly: Bool) throws(DeviceFault) {
        let link = try RemoteLink(uri)
        guard readOnly || !link.abilities.isReadOnly else {
            throw DeviceFault("\(uri) can only be read; --read-only serves it for reading")
        }
        self.init(RemoteConnection(uri, link.abilities, link), readOnly: readOnly)
    }

    private init(_ connection: RemoteConnection, readOnly: Bool) {
        self.connection = connection
        length = DeviceLength(connection.abilities.size)
        var features: DeviceFeatures = readOnly ? [] : .writable
        if !readOnly && connection.abilities.canTrim { features.insert(.trim) }
        if !readOnly && connection.abilities.canFastZero { features.insert(.fastZero) }
        self.features = features
    }

    deinit { connection.close() }

    public var description: String {
        "\(connection.uri)\(connection.reason.map { " (no connection: \($0))" } ?? "")"
    }

    public var presence: DevicePresence { connection.presence }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: RemoteDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: RemoteDevice.self) { $0.perform(&$1) } })
    }

    // MARK: - Messages

    public func attempt(_ message: inout Message) -> Answer { .wouldWait }

    public func perform(_ message: inout Message) -> Answer {
        guard let link = connection.link else { return .failed(EIO) }
        if message.operation == .flush { return flush(link) }
        if message.operation == .resize { return .failed(EOPNOTSUPP) }
        guard message.length > 0 else { return .done }
        let isWhole = (message.offset | message.length) & (abilities.unit - 1) == 0
        guard message.operation.isChange else { return isWhole ? whole(message, link) : look(message, link) }
        if isWhole {
            gate.enter()
            defer { gate.leave() }
            return whole(message, link)
        }
        return changing.withLock { _ in
            gate.close()
            defer { gate.open() }
            return change(message, link)
        }
    }

    private func flush(_ link: RemoteLink) -> Answer {
        if connection.takeLoss() { return .failed(EIO) }
        guard abilities.canFlush else { return .done }
        return link.coverChanges { unsafe answer(link) { unsafe nbd_aio_flush($0, $1, 0) } }
    }

    /// A range of whole blocks, in requests that the server takes.
    private func whole(_ message: Message, _ link: RemoteLink) -> Answer {
        let hasData = message.operation == .read || message.operation == .write
        let most = hasData ? abilities.most : RemoteDevice.longest
        let told = unsafe message.extents.map { unsafe $0.pointee.length } ?? 0
        var done: UInt64 = 0
        while done < message.length {
            let part = message.part(
                done, count: min(most & ~(abilities.unit - 1), message.length - done), at: message.offset + done)
            let answer = one(part, link)
            if answer != .done { return answer }
            done += part.length
            if let extents = unsafe message.extents {
                // A server may tell less than it was asked for.
                guard unsafe extents.pointee.length == told + done else { return .done }
            }
        }
        return .done
    }

    private func one(_ message: Message, _ link: RemoteLink) -> Answer {
        let (offset, length) = (message.offset, message.length)
        let isDurable = message.options.contains(.durable)
        let flags = isDurable && abilities.canForceUnitAccess ? UInt32(LIBNBD_CMD_FLAG_FUA) : 0
        let result: Answer
        switch message.operation {
        case .read:
            return unsafe answer(link) { unsafe nbd_aio_pread($0, message.data, Int(length), offset, $1, 0) }
        case .write:
            result = unsafe answer(link) { unsafe nbd_aio_pwrite($0, message.data, Int(length), offset, $1, flags) }
        case .trim:
            guard abilities.canTrim else { return .done }
            result = unsafe answer(link) { unsafe nbd_aio_trim($0, length, offset, $1, flags) }
        case .zeroes: result = zero(message, flags, link)
        case .cache:
            guard abilities.canCache else { return .done }
            return unsafe answer(link) { unsafe nbd_aio_cache($0, length, offset, $1, 0) }
        case .status: return status(message, link)
        case .flush, .resize: return .failed(EINVAL)
        }
        guard result == .done, flags == 0 else { return result }
        link.noteChange()
        return isDurable ? flush(link) : result
    }

    private func zero(_ message: Message, _ flags: UInt32, _ link: RemoteLink) -> Answer {
        var flags = flags
        if message.options.contains(.fastZero) {
            guard abilities.canFastZero else { return .failed(EOPNOTSUPP) }
            flags |= UInt32(LIBNBD_CMD_FLAG_FAST_ZERO)
        }
        if message.options.contains(.noHole) { flags |= UInt32(LIBNBD_CMD_FLAG_NO_HOLE) }
        if abilities.canZero {
            return unsafe answer(link) { unsafe nbd_aio_zero($0, message.length, message.offset, $1, flags) }
        }
        let most = min(message.length, 1 << 20)
        let zeroes = UnsafeMutableRawPointer.allocate(byteCount: Int(most), alignment: 4096)
        defer { unsafe zeroes.deallocate() }
        unsafe zeroes.initializeMemory(as: UInt8.self, repeating: 0, count: Int(most))
        var done: UInt64 = 0
        while done < message.length {
            let part = unsafe Message(
                .write, offset: message.offset + done, length: min(most, message.length - done), data: zeroes)
            let answer = one(part, link)
            if answer != .done { return answer }
            done += part.length
        }
        return .done
    }

    /// What the server tells is put into the message's list; a server that tells nothing has data everywhere.
    private func status(_ message: Message, _ link: RemoteLink) -> Answer {
        guard let extents = unsafe message.extents else { return .failed(EINVAL) }
        guard abilities.hasStatus else {
            _ = unsafe extents.pointee.append(message.length, [])
            return .done
        }
        var request = unsafe StatusRequest(extents: extents, left: message.length)
        return unsafe withUnsafeMutablePointer(to: &request) { request in
            let told = unsafe nbd_extent_callback(
                callback: RemoteDevice.take, user_data: UnsafeMutableRawPointer(request), free: nil)
            return unsafe answer(link) { unsafe nbd_aio_block_status($0, message.length, message.offset, told, $1, 0) }
        }
    }

    /// Where the extents of a request go.
    @safe private struct StatusRequest {
        let extents: UnsafeMutablePointer<ExtentList>
        /// Bytes that are still asked for.
        var left: UInt64
    }

    /// What the library calls with the extents: pairs of length and flags, the last one possibly longer than asked for.
    private static let take:
        @convention(c) (
            UnsafeMutableRawPointer?, UnsafePointer<CChar>?, UInt64, UnsafeMutablePointer<UInt32>?, Int,
            UnsafeMutablePointer<Int32>?
        ) -> Int32 = { context, name, _, entries, count, _ in
            let request = unsafe context!.assumingMemoryBound(to: StatusRequest.self)
            guard unsafe strcmp(name!, RemoteLink.context) == 0 else { return 0 }
            for index in stride(from: 0, to: count - 1, by: 2) {
                let length = min(UInt64(unsafe entries![index]), unsafe request.pointee.left)
                let kind = Extent.Kind(rawValue: unsafe entries![index + 1]).intersection([.hole, .zero])
                guard unsafe request.pointee.extents.pointee.append(length, kind) else { return 0 }
                unsafe request.pointee.left -= length
            }
            return 0
        }

    /// Has the server do something, and says how that went.
    private func answer(
        _ link: RemoteLink, _ issue: (OpaquePointer, nbd_completion_callback) -> Int64
    ) -> Answer {
        let error = unsafe link.request(issue)
        switch error {
        case 0: return .done
        case ENOTCONN, ESHUTDOWN:
            connection.lost(link)
            link.end()
            return .failed(EIO)
        default: return .failed(error)
        }
    }
}

// MARK: - Ranges that aren't whole blocks of the server's

extension RemoteDevice {
    private func down(_ position: UInt64) -> UInt64 { position & ~(abilities.unit - 1) }
    private func up(_ position: UInt64) -> UInt64 { down(position + abilities.unit - 1) }

    /// Reads, hints or tells of the blocks around the range.
    private func look(_ message: Message, _ link: RemoteLink) -> Answer {
        let first = down(message.offset)
        let count = up(message.offset + message.length) - first
        switch message.operation {
        case .read:
            let blocks = UnsafeMutableRawPointer.allocate(byteCount: Int(count), alignment: 4096)
            defer { unsafe blocks.deallocate() }
            let answer = whole(unsafe Message(.read, offset: first, length: count, data: blocks), link)
            if answer == .done, let data = unsafe message.data {
                unsafe data.copyMemory(from: blocks + Int(message.offset - first), byteCount: Int(message.length))
            }
            return answer
        case .status: return lookAtExtents(message, first, count, link)
        default: return whole(unsafe Message(message.operation, offset: first, length: count), link)
        }
    }

    private func lookAtExtents(_ message: Message, _ first: UInt64, _ count: UInt64, _ link: RemoteLink) -> Answer {
        guard let extents = unsafe message.extents else { return .failed(EINVAL) }
        return unsafe withUnsafeTemporaryAllocation(of: ExtentList.self, capacity: 1) { list in
            let list = list.baseAddress!
            unsafe list.initialize(to: ExtentList(capacity: extents.pointee.capacity))
            defer { unsafe list.deinitialize(count: 1) }
            let answer = whole(unsafe Message(.status, offset: first, length: count, extents: list), link)
            var skip = message.offset - first
            var left = message.length
            for index in unsafe 0..<list.pointee.count {
                let extent = unsafe list.pointee[index]
                let used = min(extent.length - min(skip, extent.length), left)
                skip -= min(skip, extent.length)
                left -= used
                _ = unsafe extents.pointee.append(used, extent.kind)
            }
            return answer
        }
    }

    /// Changes blocks at the ends by reading and writing them; nobody else changes anything meanwhile.
    private func change(_ message: Message, _ link: RemoteLink) -> Answer {
        let end = message.offset + message.length
        let (first, last) = (up(message.offset), down(end))
        if message.operation == .trim {
            // What isn't a whole block may stay.
            return first < last ? whole(message.part(0, count: last - first, at: first), link) : .done
        }
        if first > last { return change(block: down(message.offset), message, link) }
        if first > message.offset {
            let answer = change(block: first - abilities.unit, message, link)
            if answer != .done { return answer }
        }
        if end > last {
            let answer = change(block: last, message, link)
            if answer != .done { return answer }
        }
        guard first < last else { return .done }
        return whole(message.part(first - message.offset, count: last - first, at: first), link)
    }

    /// Changes what of the message lies in one block.
    private func change(block: UInt64, _ message: Message, _ link: RemoteLink) -> Answer {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Int(abilities.unit), alignment: 4096)
        defer { unsafe memory.deallocate() }
        let answer = whole(unsafe Message(.read, offset: block, length: abilities.unit, data: memory), link)
        if answer != .done { return answer }
        let begin = max(block, message.offset)
        let count = Int(min(block + abilities.unit, message.offset + message.length) - begin)
        let target = unsafe memory + Int(begin - block)
        if let data = unsafe message.data {
            unsafe target.copyMemory(from: data + Int(begin - message.offset), byteCount: count)
        } else {
            unsafe target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        }
        let options = message.options.intersection(.durable)
        return whole(unsafe Message(.write, options, offset: block, length: abilities.unit, data: memory), link)
    }
}

// MARK: - Another process

extension RemoteDevice {
    public func parcel() -> DeviceParcel {
        let numbers: [UInt64] = [
            abilities.size, abilities.unit, abilities.most, features.contains(.writable) ? 0 : 1,
            [
                abilities.isReadOnly, abilities.canFlush, abilities.canForceUnitAccess, abilities.canTrim,
                abilities.canZero, abilities.canFastZero, abilities.canCache, abilities.hasStatus,
            ].reduce(0) { $0 << 1 | ($1 ? 1 : 0) },
        ]
        return DeviceParcel(.remote, text: connection.uri, numbers: numbers)
    }

    /// As `parcel` has it. Where the server is away just now, the device begins without it.
    convenience init(_ uri: String, _ numbers: [UInt64]) throws(DeviceFault) {
        guard numbers.count == 5 else { throw DeviceFault("a server without its size") }
        let bits = (0..<8).map { numbers[4] >> UInt64(7 - $0) & 1 == 1 }
        let abilities = RemoteLink.Abilities(
            size: numbers[0], isReadOnly: bits[0], canFlush: bits[1], canForceUnitAccess: bits[2], canTrim: bits[3],
            canZero: bits[4], canFastZero: bits[5], canCache: bits[6], hasStatus: bits[7], unit: numbers[1],
            most: numbers[2])
        let link = try? RemoteLink(uri)
        self.init(
            RemoteConnection(uri, abilities, link?.abilities == abilities ? link : nil), readOnly: numbers[3] != 0)
    }
}
