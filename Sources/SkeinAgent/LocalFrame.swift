/// What a local program and the agent say to each other on the control socket. docs/AGENT.md has the bodies.
enum LocalFrameType: UInt8 {
    // The program's first frame says what the connection is for.
    case connect = 1
    case listen = 2
    case accept = 3
    /// The agent: it is done, and the stream begins.
    case ready = 4
    /// The agent: it can't be done.
    case refused = 5
    // Both, on a stream.
    case data = 6
    case end = 7
    case reset = 8
}

/// The header that each frame on the control socket begins with.
struct LocalFrameHeader {
    static let size = 8
    /// Bytes of a frame's body at most.
    static let largestBody = 1 << 16
    /// Bytes of a body that isn't data at most.
    static let largestRequest = 512

    let type: LocalFrameType
    let length: Int

    /// Nil where no honest program writes it.
    init?(_ bytes: ArraySlice<UInt8>) {
        let start = bytes.startIndex
        guard bytes.count >= LocalFrameHeader.size, let type = LocalFrameType(rawValue: bytes[start]),
            bytes[start + 1..<start + 4].allSatisfy({ $0 == 0 })
        else { return nil }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[start + 4 + $1]) << (8 * $1) }
        guard length <= (type == .data ? LocalFrameHeader.largestBody : LocalFrameHeader.largestRequest) else {
            return nil
        }
        self.type = type
        self.length = length
    }

    /// The header of a frame with so many bytes.
    static func bytes(_ type: LocalFrameType, length: Int) -> [UInt8] {
        [type.rawValue, 0, 0, 0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
    }

    /// A whole frame.
    static func frame(_ type: LocalFrameType, _ body: [UInt8] = []) -> [UInt8] {
        bytes(type, length: body.count) + body
    }

    /// A whole frame with an error number of Linux.
    static func frame(_ type: LocalFrameType, error: UInt32) -> [UInt8] {
        frame(type, (0..<4).map { UInt8(truncatingIfNeeded: error >> (8 * $0)) })
    }
}
