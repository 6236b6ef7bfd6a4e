import Dispatch
import SkeinDevice
import SkeinNBD
import Synchronization

/// As servers are often made: each request is an object that layers hand on, by protocols, over a queue, with a look-up of the
/// export and a completion that brings the reply back.
struct LayeredPath: Path {
    private let frontEnd: FrontEnd

    /// On a thread of its own, or on the caller's.
    init(_ device: any Device, onThread: Bool) { frontEnd = FrontEnd(device, onThread: onThread) }

    mutating func answer(_ batch: Batch) { frontEnd.answer(batch) }

    mutating func answered(_ batch: Batch) -> [UInt8] {
        frontEnd.answer(batch)
        return frontEnd.replies
    }
}

/// One request on its way.
final class Call: Sendable {
    let request: Request
    let export: String
    let completion: @Sendable ([UInt8]) -> Void

    init(_ request: Request, export: String, _ completion: @escaping @Sendable ([UInt8]) -> Void) {
        self.request = request
        self.export = export
        self.completion = completion
    }
}

/// What one layer asks of the next.
protocol Layer: Sendable {
    func submit(_ call: Call)
}

/// Takes requests apart and collects replies.
final class FrontEnd: Sendable {
    private let next: any Layer
    private let rules: RequestRules
    private let size: DeviceLength
    private let collected = Mutex<[UInt8]>([])
    private let done = DispatchSemaphore(value: 0)

    init(_ device: any Device, onThread: Bool) {
        let bottom = Exports(["disk": device])
        next = onThread ? ThreadLayer(bottom) : QueueLayer(bottom)
        rules = CallPath.rules(for: device)
        size = device.length
    }

    var replies: [UInt8] { collected.withLock { $0 } }

    func answer(_ batch: Batch) {
        collected.withLock { $0.removeAll(keepingCapacity: true) }
        let counter = Counter(Batch.count)
        unsafe batch.bytes.withUnsafeBytes { bytes in
            var position = 0
            while position < bytes.count {
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[position...])
                guard let request = unsafe Request(RawSpan(_unsafeBytes: rest), .structured) else {
                    fatalError("no request")
                }
                guard case .perform = rules.judge(request, size: size.bytes) else { fatalError("refused") }
                next.submit(
                    Call(request, export: "disk") { reply in
                        self.collected.withLock { $0.append(contentsOf: reply) }
                        if counter.decrement() { self.done.signal() }
                    })
                position += Request.headerSize(.structured)
            }
        }
        done.wait()
    }
}

/// Counts down to nothing.
final class Counter: Sendable {
    private let value: Atomic<Int>
    init(_ count: Int) { value = Atomic(count) }
    func decrement() -> Bool { value.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 }
}

/// A queue with a lock, which the submitter empties itself.
final class QueueLayer: Layer {
    private let next: any Layer
    private let queue = Mutex<[Call]>([])

    init(_ next: any Layer) { self.next = next }

    func submit(_ call: Call) {
        queue.withLock { $0.append(call) }
        while let taken = queue.withLock({ $0.popLast() }) { next.submit(taken) }
    }
}

/// A queue that another thread empties.
final class ThreadLayer: Layer {
    private let next: any Layer
    private let queue = DispatchQueue(label: "device")

    init(_ next: any Layer) { self.next = next }

    func submit(_ call: Call) { queue.async { self.next.submit(call) } }
}

/// Finds the export of a name, and asks its device.
final class Exports: Layer {
    private let devices: Mutex<[String: any Device]>

    init(_ devices: [String: any Device]) { self.devices = Mutex(devices) }

    func submit(_ call: Call) {
        guard let device = devices.withLock({ $0[call.export] }) else { fatalError("no export") }
        let request = call.request
        let isRead = request.command == Command.read.rawValue
        let room = Reply.largestHeader + (isRead ? Int(request.length) : 0)
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { memory, initialized in
            var reply = unsafe Reply(to: request, .structured, into: UnsafeMutableRawBufferPointer(memory))
            if isRead {
                reply.content(at: request.offset, count: Int(request.length), isLast: true)
            } else {
                reply.done()
            }
            var message = unsafe Message(
                isRead ? .read : .cache, offset: request.offset, length: request.length,
                data: isRead ? UnsafeMutableRawPointer(memory.baseAddress! + reply.count) : nil)
            guard device.attempt(&message) == .done else { fatalError("the device failed") }
            initialized = reply.count + (isRead ? Int(request.length) : 0)
        }
        call.completion(bytes)
    }
}
