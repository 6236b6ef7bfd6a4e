import CSystem
import Synchronization

/// A regular file or a block device. What lies on tmpfs is memory; of the rest, what the page cache has is
/// answered at once.
public final class FileDevice: Device {
    /// Bytes; a multiple of any block device's sector.
    private static let block: UInt64 = 4096

    private let descriptor: Int32
    private let path: String
    public let length: DeviceLength
    private let isBlockDevice: Bool
    /// Whether looking for holes may find any. It never becomes false again.
    private let mayHaveHoles: Atomic<Bool>
    /// The content of a file in memory, as far as it went when it was opened.
    private let mapping: FileMapping?
    public let features: DeviceFeatures

    /// Opens it for good. A message for people says what is wrong and what to do.
    public convenience init(path: String, readOnly: Bool) throws(DeviceFault) {
        var status = stat()
        let flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (readOnly ? O_RDONLY : O_RDWR)
        let opened = unsafe path.withCString { unsafe sk_openat(AT_FDCWD, $0, flags, 0) }
        guard opened >= 0 else { throw DeviceFault(opening: path, errno: Int32(-opened), readOnly: readOnly) }
        let descriptor = Int32(opened)
        _ = unsafe sk_fstat(descriptor, &status)
        let kind = status.st_mode & mode_t(S_IFMT)
        guard kind == mode_t(S_IFREG) || kind == mode_t(S_IFBLK) else {
            _ = sk_close(descriptor)
            throw DeviceFault("\(path) is neither a file nor a block device")
        }
        // A block device that is mounted or part of an array refuses an exclusive user.
        if kind == mode_t(S_IFBLK) && !readOnly {
            let exclusive = unsafe path.withCString { unsafe sk_openat(AT_FDCWD, $0, flags | O_EXCL, 0) }
            _ = sk_close(descriptor)
            guard exclusive >= 0 else { throw DeviceFault(opening: path, errno: Int32(-exclusive), readOnly: readOnly) }
            self.init(adopting: Int32(exclusive), path: path, readOnly: readOnly)
        } else {
            self.init(adopting: descriptor, path: path, readOnly: readOnly)
        }
    }

    /// Takes over an open file.
    init(adopting descriptor: Int32, path: String, readOnly: Bool) {
        var status = stat()
        var system = statfs()
        _ = unsafe sk_fstat(descriptor, &status)
        _ = unsafe sk_fstatfs(descriptor, &system)
        self.descriptor = descriptor
        self.path = path
        isBlockDevice = status.st_mode & mode_t(S_IFMT) == mode_t(S_IFBLK)
        let end = isBlockDevice ? UInt64(max(0, sk_lseek(descriptor, 0, SEEK_END))) : UInt64(status.st_size)
        length = DeviceLength(end)
        mayHaveHoles = Atomic(!isBlockDevice && UInt64(status.st_blocks) * 512 < end)
        var features: DeviceFeatures = readOnly ? [] : [.writable, .trim]
        if !readOnly && !isBlockDevice { features.formUnion([.resize, .fastZero]) }
        // The file that names a block device often lies on a tmpfs itself.
        if system.f_type == Linux.tmpfs && !isBlockDevice { features.insert(.memory) }
        self.features = features
        mapping = features.contains(.memory) ? FileMapping(descriptor, bytes: end) : nil
    }

    deinit { _ = sk_close(descriptor) }

    public var description: String { "\(isBlockDevice ? "block device" : "file") \(path)" }

    public func parcel() -> DeviceParcel {
        DeviceParcel(.file, text: path, numbers: [features.contains(.writable) ? 0 : 1], files: [descriptor])
    }

    public var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { unsafe DeviceFunctions.call($0, $1, as: FileDevice.self) { $0.attempt(&$1) } },
            perform: { unsafe DeviceFunctions.call($0, $1, as: FileDevice.self) { $0.perform(&$1) } },
            lend: { unsafe DeviceFunctions.lend($0, $1, $2, as: FileDevice.self) })
    }

    // MARK: - Messages

    public func attempt(_ message: inout Message) -> Answer {
        let isMemory = features.contains(.memory)
        switch message.operation {
        case .read: return move(&message, .read, isMemory ? 0 : Linux.withoutWaiting)
        case .write:
            if isMemory { return move(&message, .write, 0) }
            return message.options.contains(.durable) ? .wouldWait : move(&message, .write, Linux.withoutWaiting)
        case .flush: return isMemory ? .done : .wouldWait
        case .cache: return isMemory ? .done : .wouldWait
        case .trim, .zeroes:
            // Small ones in memory take less time than a change of threads.
            return isMemory && message.length <= Linux.smallRange ? perform(&message) : .wouldWait
        case .status: return perform(&message)
        case .resize: return .wouldWait
        }
    }

    public func perform(_ message: inout Message) -> Answer {
        switch message.operation {
        case .read: return move(&message, .read, 0)
        case .write:
            let durable = message.options.contains(.durable) && !features.contains(.memory)
            return move(&message, .write, durable ? Linux.durably : 0)
        case .flush:
            return features.contains(.memory)
                ? .done : answer(sk_syscall6(Int(SYS_fdatasync), Int(descriptor), 0, 0, 0, 0, 0))
        case .cache:
            _ = sk_syscall6(
                Int(SYS_fadvise64), Int(descriptor), Int(message.offset), Int(message.length), Int(POSIX_FADV_WILLNEED),
                0, 0)
            return .done
        case .trim: return trim(message)
        case .zeroes: return zero(message)
        case .status: return status(message)
        case .resize:
            guard !isBlockDevice else { return .failed(EPERM) }
            let result = sk_ftruncate(descriptor, off_t(clamping: message.length))
            if result == 0 {
                length.set(message.length)
                mayHaveHoles.store(true, ordering: .relaxed)
            }
            return answer(result)
        }
    }

    // MARK: - Content

    public func lend(_ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer? {
        guard let mapping, let content = unsafe mapping.content(offset, length) else { return nil }
        if mayHaveHoles.load(ordering: .relaxed) {
            // To look at a hole would give it memory.
            return unsafe mapping.isPresent(content, length) ? content : nil
        }
        var status = stat()
        guard unsafe sk_fstat(descriptor, &status) == 0, offset + length <= UInt64(status.st_size) else { return nil }
        return unsafe content
    }

    /// Reads or writes all of it. What was done without waiting isn't done again: the message says what is left.
    private func move(_ message: inout Message, _ direction: Message.Operation, _ flags: Int32) -> Answer {
        while message.length > 0 {
            var vector = unsafe iovec(iov_base: message.data, iov_len: Int(message.length))
            let moved =
                unsafe direction == .read
                ? sk_preadv2(descriptor, &vector, 1, off_t(message.offset), flags)
                : sk_pwritev2(descriptor, &vector, 1, off_t(message.offset), flags)
            if moved == -Int(EINTR) { continue }
            if moved < 0 {
                let errno = Int32(-moved)
                let isUnable = errno == EAGAIN || errno == EOPNOTSUPP
                return isUnable && flags == Linux.withoutWaiting ? .wouldWait : .failed(errno)
            }
            // The file has become shorter than it was.
            if moved == 0 { return .failed(EIO) }
            message.advance(UInt64(moved))
        }
        return .done
    }

    private func trim(_ message: Message) -> Answer {
        if isBlockDevice {
            // Whole sectors only: what is left of it at the ends is not needed either, and may stay.
            let first = up(message.offset)
            let end = down(message.offset + message.length)
            guard first < end else { return .done }
            var range = (first, end - first)
            _ = unsafe sk_ioctl(descriptor, UInt(Linux.discard), &range)
        } else if allocate(Linux.punchHole | Linux.keepSize, message) == 0 {
            mayHaveHoles.store(true, ordering: .relaxed)
        }
        return message.options.contains(.durable) ? flush() : .done
    }

    /// Whole blocks without writing them where the system can, the ends of the range by writing.
    private func zero(_ message: Message) -> Answer {
        let end = message.offset + message.length
        let (first, last) = isBlockDevice ? (up(message.offset), down(end)) : (message.offset, end)
        guard first < last else { return writeZeroes(message) }
        if first > message.offset {
            let answer = writeZeroes(message.part(0, count: first - message.offset, at: message.offset))
            if answer != .done { return answer }
        }
        if end > last {
            let answer = writeZeroes(message.part(0, count: end - last, at: last))
            if answer != .done { return answer }
        }
        return zeroBlocks(message.part(0, count: last - first, at: first))
    }

    private func zeroBlocks(_ message: Message) -> Answer {
        let isHole = !message.options.contains(.noHole)
        var result = -Int(EOPNOTSUPP)
        if isHole {
            if !isBlockDevice { mayHaveHoles.store(true, ordering: .relaxed) }
            result = allocate(Linux.punchHole | Linux.keepSize, message)
        }
        if result == -Int(EOPNOTSUPP) { result = allocate(Linux.zeroRange | Linux.keepSize, message) }
        if result == -Int(EOPNOTSUPP), !isHole {
            // The range is given back and taken again: then it has its place, and reads as zeroes.
            result = allocate(Linux.punchHole | Linux.keepSize, message)
            if result == 0 { result = allocate(Linux.keepSize, message) }
        }
        if result == -Int(EOPNOTSUPP) {
            return message.options.contains(.fastZero) ? .failed(EOPNOTSUPP) : writeZeroes(message)
        }
        guard result == 0 else { return answer(result) }
        return message.options.contains(.durable) ? flush() : .done
    }

    /// The next boundary of blocks, whatever size the device's have.
    private func up(_ position: UInt64) -> UInt64 { down(position + FileDevice.block - 1) }
    private func down(_ position: UInt64) -> UInt64 { position & ~(FileDevice.block - 1) }

    private func writeZeroes(_ message: Message) -> Answer {
        let size = 1 << 20
        let zeroes = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
        defer { unsafe zeroes.deallocate() }
        unsafe zeroes.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        var done: UInt64 = 0
        while done < message.length {
            let count = min(UInt64(size), message.length - done)
            var part = unsafe Message(
                .write, message.options, offset: message.offset + done, length: count, data: zeroes)
            let answer = perform(&part)
            if answer != .done { return answer }
            done += count
        }
        return .done
    }

    private func status(_ message: Message) -> Answer {
        guard let extents = unsafe message.extents else { return .failed(EINVAL) }
        var position = message.offset
        let end = position + message.length
        guard mayHaveHoles.load(ordering: .relaxed) else {
            _ = unsafe extents.pointee.append(end - position, [])
            return .done
        }
        while position < end {
            let found = sk_lseek(descriptor, off_t(position), Linux.seekData)
            // No data up to the end of the file, if it still ends there; any other error means that it can't be told.
            if found < 0 && (found != -Int(ENXIO) || sk_lseek(descriptor, 0, SEEK_END) < end) {
                _ = unsafe extents.pointee.append(end - position, [])
                return .done
            }
            let data = found < 0 ? end : min(UInt64(found), end)
            guard unsafe extents.pointee.append(data - position, [.hole, .zero]) else { return .done }
            position = data
            if position == end { return .done }
            let hole = sk_lseek(descriptor, off_t(position), Linux.seekHole)
            let next = hole <= off_t(position) ? end : min(UInt64(hole), end)
            guard unsafe extents.pointee.append(next - position, []) else { return .done }
            position = next
        }
        return .done
    }

    private func flush() -> Answer {
        var message = unsafe Message(.flush)
        return perform(&message)
    }

    private func allocate(_ mode: Int32, _ message: Message) -> Int {
        var result: Int
        repeat {
            result = sk_fallocate(descriptor, mode, off_t(message.offset), off_t(message.length))
        } while result == -Int(EINTR)
        return result
    }

    private func answer(_ result: Int) -> Answer { result < 0 ? .failed(Int32(-result)) : .done }
}

extension Message {
    /// So many bytes of it are done.
    mutating func advance(_ count: UInt64) {
        offset += count
        length -= count
        unsafe data = unsafe data.map { unsafe $0 + Int(count) }
    }
}

/// Numbers of Linux that its headers define as macros.
enum Linux {
    static let tmpfs = 0x0102_1994
    static let withoutWaiting: Int32 = 0x8  // RWF_NOWAIT
    static let durably: Int32 = 0x2  // RWF_DSYNC
    static let keepSize: Int32 = 0x1
    static let punchHole: Int32 = 0x2
    static let zeroRange: Int32 = 0x10
    static let seekData: Int32 = 3
    static let seekHole: Int32 = 4
    static let discard = 0x1277  // BLKDISCARD
    /// A range that is given back at once.
    static let smallRange: UInt64 = 1 << 20
}
