import SkeinDevice
import SkeinNBD

/// As the server does it: from the request through one function pointer to the device, and the reply into the staging
/// memory. Content is copied, as it is for files and TLS.
@safe
struct DirectPath: Path {
    private let iop: IOP
    private let rules: RequestRules
    private let staging = UnsafeMutableRawBufferPointer.allocate(byteCount: stagingSize, alignment: 4096)
    private var staged = 0

    init(_ device: any Device) {
        iop = IOP(device)
        rules = CallPath.rules(for: device)
    }

    mutating func answer(_ batch: Batch) {
        staged = 0
        unsafe batch.bytes.withUnsafeBytes { bytes in
            var position = 0
            while position < bytes.count {
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[position...])
                guard let request = unsafe Request(RawSpan(_unsafeBytes: rest), .structured) else {
                    fatalError("no request")
                }
                guard case .perform(let command) = rules.judge(request, size: iop.length.bytes) else {
                    fatalError("refused")
                }
                perform(command, request)
                position += Request.headerSize(.structured)
            }
        }
    }

    private mutating func perform(_ command: Command, _ request: Request) {
        var reply = unsafe Reply(
            to: request, .structured, into: UnsafeMutableRawBufferPointer(rebasing: staging[staged...]))
        if command == .read {
            reply.content(at: request.offset, count: Int(request.length), isLast: true)
            let place = unsafe staging.baseAddress! + staged + reply.count
            var message = unsafe Message(.read, offset: request.offset, length: request.length, data: place)
            guard iop.attempt(&message) == .done else { fatalError("the device failed") }
            staged += Int(request.length)
        } else {
            var message = unsafe Message(.cache, offset: request.offset, length: request.length)
            guard iop.attempt(&message) == .done else { fatalError("the device failed") }
            reply.done()
        }
        staged += reply.count
    }

    mutating func answered(_ batch: Batch) -> [UInt8] {
        answer(batch)
        return unsafe Array(staging[..<staged])
    }
}
