import Glibc
import SkeinDevice
import Synchronization

/// Bytes of most devices here; no whole number of blocks, stripes or copies.
let size: UInt64 = 3 << 20 | 4097

/// A file of noise, or one that is a hole.
func file(_ name: String, filled: Bool = true) throws -> FileDevice {
    let path = "\(folder)/\(name)"
    let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
    precondition(descriptor >= 0 && ftruncate(descriptor, off_t(size)) == 0, "\(path) can be made")
    if filled {
        let bytes = noise(Int(size), seed: UInt64(name.utf8.count))
        unsafe precondition(bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) } == bytes.count)
    }
    _ = close(descriptor)
    return try FileDevice(path: path, readOnly: false)
}

extension IOP {
    /// First without waiting, as a server does; then with.
    func send(_ message: Message) -> Answer {
        var first = message
        let answer = attempt(&first)
        if answer != .wouldWait { return answer }
        var second = message
        // A part of the device may have told its extents already.
        if let extents = unsafe second.extents { unsafe extents.pointee.removeAll() }
        return perform(&second)
    }

    func send(
        _ operation: Message.Operation, _ options: Message.Options = [], at offset: UInt64 = 0, count: UInt64 = 0
    ) -> Answer {
        unsafe send(Message(operation, options, offset: offset, length: count))
    }

    func write(_ bytes: [UInt8], at offset: UInt64, _ options: Message.Options = []) -> Answer {
        var bytes = bytes
        return unsafe bytes.withUnsafeMutableBytes { memory in
            unsafe send(
                Message(.write, options, offset: offset, length: UInt64(memory.count), data: memory.baseAddress))
        }
    }

    /// The content; nil where it can't be read.
    func read(at offset: UInt64, count: UInt64) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0xEE, count: Int(count))
        let answer = unsafe bytes.withUnsafeMutableBytes { memory in
            unsafe send(Message(.read, offset: offset, length: count, data: memory.baseAddress))
        }
        return answer == .done ? bytes : nil
    }

    /// All extents of a range, asked for piece by piece where they are many.
    func extents(at offset: UInt64, count: UInt64, capacity: Int = 8) -> [Extent] {
        var found: [Extent] = []
        var position = offset
        while position < offset + count {
            var list = ExtentList(capacity: capacity)
            let answer = unsafe withUnsafeMutablePointer(to: &list) { list in
                unsafe send(Message(.status, offset: position, length: offset + count - position, extents: unsafe list))
            }
            guard answer == .done, list.count > 0, list.length <= offset + count - position else { return [] }
            for index in 0..<list.count { found.append(list[index]) }
            position += list.length
        }
        return found
    }
}

/// A device that fails when it is told to.
final class FailingDevice: Device {
    private let device: IOP
    let isBroken = Atomic(false)

    init(_ device: any Device) { self.device = IOP(device) }

    var length: DeviceLength { device.length }
    var features: DeviceFeatures { device.features.subtracting(.memory) }
    var description: String { "failing device" }

    var functions: DeviceFunctions {
        unsafe DeviceFunctions(
            attempt: { context, message in unsafe FailingDevice.send(context, message) { $0.attempt(&$1) } },
            perform: { context, message in unsafe FailingDevice.send(context, message) { $0.perform(&$1) } })
    }

    private static func send(
        _ context: UnsafeRawPointer, _ message: UnsafeMutableRawPointer,
        _ body: (FailingDevice, inout Message) -> Answer
    ) -> Int32 {
        let device = unsafe Unmanaged<FailingDevice>.fromOpaque(context).takeUnretainedValue()
        switch unsafe body(device, &message.assumingMemoryBound(to: Message.self).pointee) {
        case .done: return 0
        case .failed(let errno): return errno
        case .wouldWait: return -1
        }
    }

    func attempt(_ message: inout Message) -> Answer {
        isBroken.load(ordering: .relaxed) ? .failed(EIO) : device.attempt(&message)
    }

    func perform(_ message: inout Message) -> Answer {
        isBroken.load(ordering: .relaxed) ? .failed(EIO) : device.perform(&message)
    }
}

/// Runs bodies at once and waits for all.
func together(_ bodies: [@Sendable () -> Void]) {
    let handles = bodies.map { body in
        var handle = pthread_t()
        let box = unsafe Unmanaged.passRetained(Body(run: body))
        let result = unsafe pthread_create(
            &handle, nil,
            { argument in
                unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        precondition(result == 0, "the system has a thread for us")
        return handle
    }
    for handle in handles { _ = pthread_join(handle, nil) }
}

private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(run: @escaping @Sendable () -> Void) { self.run = run }
}
