/// One message to a device: the whole set that there is, the same on every operating system.
///
/// Offset and length lie inside the device when a message is sent, and need not be on whole blocks.
@safe
public struct Message {
    public enum Operation: UInt8, Sendable {
        /// Fills `data` with what lies at the offset.
        case read
        /// Stores `data` at the offset.
        case write
        /// Everything that was answered before is on permanent storage when this is answered.
        case flush
        /// The range isn't needed any more: a hint.
        case trim
        /// The range reads as zeroes from now on.
        case zeroes
        /// The range will be read soon: a hint.
        case cache
        /// Appends to `extents` what is allocated in the range, from its beginning; at least one extent.
        case status
        /// The device is to have `length` bytes; the offset is 0.
        case resize
    }

    public struct Options: OptionSet, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// What is written is on permanent storage when it is answered.
        public static let durable = Self(rawValue: 1)
        /// Zeroes are to have their place on the medium.
        public static let noHole = Self(rawValue: 2)
        /// Zeroes only if that is faster than writing them, else `ENOTSUP` at once.
        public static let fastZero = Self(rawValue: 4)
    }

    public var operation: Operation
    public var options: Options
    /// Bytes.
    public var offset: UInt64
    /// Bytes.
    public var length: UInt64
    /// `length` bytes of memory, which the sender keeps until the answer; of `read` and `write` alone.
    public var data: UnsafeMutableRawPointer?
    /// Of `status` alone.
    public var extents: UnsafeMutablePointer<ExtentList>?

    public init(
        _ operation: Operation, _ options: Options = [], offset: UInt64 = 0, length: UInt64 = 0,
        data: UnsafeMutableRawPointer? = nil, extents: UnsafeMutablePointer<ExtentList>? = nil
    ) {
        self.operation = operation
        self.options = options
        self.offset = offset
        self.length = length
        unsafe self.data = unsafe data
        unsafe self.extents = unsafe extents
    }

    /// The same for a part of the range: `count` bytes from `skip`, moved to another offset.
    func part(_ skip: UInt64, count: UInt64, at offset: UInt64) -> Message {
        var part = self
        part.offset = offset
        part.length = count
        unsafe part.data = unsafe data.map { unsafe $0 + Int(skip) }
        return part
    }
}

/// How a device answers a message.
public enum Answer: Equatable, Sendable {
    case done
    /// It failed, for this reason of errno(3). What a write leaves behind in its range isn't known.
    case failed(Int32)
    /// It can't be done without waiting. It may be sent again, with an empty list of extents.
    case wouldWait
}

/// A range of a device's content.
public struct Extent: Equatable, Sendable {
    public struct Kind: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// It has no place on the medium.
        public static let hole = Self(rawValue: 1)
        /// It reads as zeroes.
        public static let zero = Self(rawValue: 2)
    }

    /// Bytes; never 0.
    public var length: UInt64
    public var kind: Kind

    public init(length: UInt64, kind: Kind) {
        self.length = length
        self.kind = kind
    }
}

/// Extents one after the other, in memory that is made once.
public struct ExtentList: ~Copyable {
    private var extents: [Extent] = []
    /// How many there can be.
    public let capacity: Int
    /// Bytes of all of them.
    public private(set) var length: UInt64 = 0

    public init(capacity: Int) {
        self.capacity = capacity
        extents.reserveCapacity(capacity)
    }

    public var count: Int { extents.count }
    public subscript(index: Int) -> Extent { extents[index] }

    public mutating func removeAll() {
        extents.removeAll(keepingCapacity: true)
        length = 0
    }

    /// Adds a range; one that is like its neighbour makes that one longer. False when there is no room.
    public mutating func append(_ count: UInt64, _ kind: Extent.Kind) -> Bool {
        if count == 0 { return true }
        if let last = extents.indices.last, extents[last].kind == kind {
            extents[last].length += count
        } else {
            if extents.count == capacity { return false }
            extents.append(Extent(length: count, kind: kind))
        }
        length += count
        return true
    }
}
