import Synchronization

/// The contract of every kind of device. A kind is one file.
///
/// Any thread may send messages, several at once; a device answers them in any order. A flush covers what was
/// answered before it was sent, whoever sent it.
public protocol Device: AnyObject, Sendable {
    /// Its size, which may change.
    var length: DeviceLength { get }
    var features: DeviceFeatures { get }
    /// The calls below as function pointers that take the device as an opaque context.
    var functions: DeviceFunctions { get }
    /// One line for people.
    var description: String { get }
    /// The device for another process. No message may be under way.
    func parcel() throws(DeviceFault) -> DeviceParcel

    /// Whether it is there, and how often it was away so far: one that can't be reached may come back by itself.
    var presence: DevicePresence { get }

    /// Does it if that takes no waiting. What can never be done without is left to `perform`.
    func attempt(_ message: inout Message) -> Answer
    /// Does it, and waits as long as that takes. Never `wouldWait`.
    func perform(_ message: inout Message) -> Answer
    /// Where the content of a range lies in memory, as long as the device lives; nil where it doesn't, or not all of it.
    ///
    /// It is for the system to send: who looks at it himself is ended by a signal once somebody makes the device's
    /// file shorter. The system reports EFAULT then.
    func lend(_ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer?
}

extension Device {
    public func lend(_ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer? { nil }
    public var presence: DevicePresence { DevicePresence(isThere: true, outages: 0) }

    public func parcel() throws(DeviceFault) -> DeviceParcel {
        throw DeviceFault("\(description) can't be handed to another process")
    }
}

/// The size of a device, where whoever judges requests finds it without asking the device.
public final class DeviceLength: Sendable {
    private let value: Atomic<UInt64>

    public init(_ bytes: UInt64) { value = Atomic(bytes) }

    /// Bytes now.
    public var bytes: UInt64 { value.load(ordering: .relaxed) }

    func set(_ bytes: UInt64) { value.store(bytes, ordering: .relaxed) }
}

/// Whether a device can be reached. What is part of this machine always is.
public struct DevicePresence: Equatable, Sendable {
    public var isThere: Bool
    /// Each time it was lost; requests have failed that it may have carried out or not.
    public var outages: Int

    public init(isThere: Bool, outages: Int) {
        self.isThere = isThere
        self.outages = outages
    }
}

/// What a device can do.
public struct DeviceFeatures: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let writable = Self(rawValue: 1)
    /// Ranges can be given back.
    public static let trim = Self(rawValue: 2)
    /// Zeroes can take less than writing them.
    public static let fastZero = Self(rawValue: 4)
    /// Its size can change.
    public static let resize = Self(rawValue: 8)
    /// The content lies in memory: `attempt` reads and writes, and reads don't fail.
    public static let memory = Self(rawValue: 16)
}

/// The frozen table of a kind of device. `context` is the device, `message` points to a `Message`.
@safe
public struct DeviceFunctions: Sendable {
    /// Returns an `Answer` as `code(of:)` writes it.
    public typealias Function =
        @convention(c) (_ context: UnsafeRawPointer, _ message: UnsafeMutableRawPointer) -> Int32

    /// `Device.lend`.
    public typealias Lender =
        @convention(c) (_ context: UnsafeRawPointer, _ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer?

    public let attempt: Function
    public let perform: Function
    /// Nil in a kind that never lends.
    public let lend: Lender?

    public init(attempt: Function, perform: Function, lend: Lender? = nil) {
        unsafe self.attempt = attempt
        unsafe self.perform = perform
        unsafe self.lend = unsafe lend
    }

    /// What `attempt` and `perform` of a kind are made of.
    @inline(__always)
    static func call<Kind: Device>(
        _ context: UnsafeRawPointer, _ message: UnsafeMutableRawPointer, as kind: Kind.Type,
        _ body: (Kind, inout Message) -> Answer
    ) -> Int32 {
        unsafe Unmanaged<Kind>.fromOpaque(context)._withUnsafeGuaranteedRef { device in
            unsafe code(of: body(device, &message.assumingMemoryBound(to: Message.self).pointee))
        }
    }

    /// What `lend` of a kind is made of.
    @inline(__always)
    static func lend<Kind: Device>(
        _ context: UnsafeRawPointer, _ offset: UInt64, _ length: UInt64, as kind: Kind.Type
    ) -> UnsafeRawPointer? {
        unsafe Unmanaged<Kind>.fromOpaque(context)._withUnsafeGuaranteedRef { unsafe $0.lend(offset, length) }
    }

    /// 0 for done, an errno, or -1 for one that would wait.
    @inline(__always)
    static func code(of answer: Answer) -> Int32 {
        switch answer {
        case .done: 0
        case .failed(let errno): errno
        case .wouldWait: -1
        }
    }
}

/// The descriptor of one input/output platform: the table and the context, and nothing to look up. It keeps its
/// device alive.
public struct IOP: Sendable {
    private let functions: DeviceFunctions
    private let context: Context
    public let length: DeviceLength
    public let features: DeviceFeatures
    /// For everything that is no request.
    public let device: any Device

    /// Points to the device, which `device` keeps alive.
    @safe private struct Context: @unchecked Sendable {
        let pointer: UnsafeRawPointer
    }

    public init(_ device: any Device) {
        self.device = device
        functions = device.functions
        length = device.length
        features = device.features
        context = unsafe Context(
            pointer: unsafe UnsafeRawPointer(Unmanaged.passUnretained(device as AnyObject).toOpaque()))
    }

    /// `Device.attempt`, by the table.
    @inline(__always)
    public func attempt(_ message: inout Message) -> Answer {
        IOP.answer(unsafe withUnsafeMutablePointer(to: &message) { unsafe functions.attempt(context.pointer, $0) })
    }

    /// `Device.perform`, by the table.
    @inline(__always)
    public func perform(_ message: inout Message) -> Answer {
        IOP.answer(unsafe withUnsafeMutablePointer(to: &message) { unsafe functions.perform(context.pointer, $0) })
    }

    /// `Device.lend`, by the table.
    @inline(__always)
    public func lend(_ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer? {
        guard let lend = unsafe functions.lend else { return nil }
        return unsafe lend(context.pointer, offset, length)
    }

    @inline(__always)
    private static func answer(_ code: Int32) -> Answer {
        code == 0 ? .done : code < 0 ? .wouldWait : .failed(code)
    }
}
