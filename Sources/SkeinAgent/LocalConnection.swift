import Glibc
import SkeinConduit
import SkeinGroup

/// What the agent tells a program of its stream, or of what it asked for.
enum Notice {
    /// It is done, and what is a stream begins. `host` is where an accepted one comes from.
    case ready(host: String = "")
    case refused(UInt32)
    /// Nothing more comes.
    case end
    case reset(UInt32)
}

/// A local program's connection to the agent: what it is for, and what waits in it. By itself it is one of the control
/// socket, with frames.
class LocalConnection {
    enum Purpose {
        /// Its first frame hasn't come.
        case unknown
        case listening(UInt16)
        /// It waits for a filament to that port.
        case accepting(UInt16)
        /// It is the program's end of that filament.
        case stream(GroupFilament)
        /// The rest is sent, then it is closed.
        case over
    }

    let number: UInt64
    let descriptor: Int32
    var purpose = Purpose.unknown

    /// Whether the socket may have something to read, and room: until it says that it hasn't.
    var mayRead = true
    var mayWrite = true
    /// It is in the list of those that are to be served.
    var isListed = false
    /// The program has closed, or died; or it has ended its direction of a socket.
    var isInputOver = false
    /// The program is gone and has left something unread, or its socket failed.
    var isBroken = false
    /// The filament takes nothing at the moment.
    var isBlocked = false

    /// What was read and not taken, from `taken` on.
    var input: [UInt8] = []
    var taken = 0
    /// Bytes of the body of a data frame that are still to come.
    var dataLeft = 0
    /// What was not sent, from `sent` on. Nothing more of the filament is read before.
    var output: [UInt8] = []
    var sent = 0
    /// The program knows of the end of the other direction.
    var hasToldEnd = false

    init(_ number: UInt64, _ descriptor: Int32) {
        self.number = number
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    var isFlushed: Bool { sent == output.count }

    /// Whether data comes and goes in frames.
    var isFramed: Bool { true }

    /// Lets the program know. Bytes that were queued before come first, but for a reset of a socket.
    func tell(_ notice: Notice) {
        switch notice {
        case .ready(let host): queue(LocalFrameHeader.frame(.ready, Array(host.utf8)))
        case .refused(let error): queue(LocalFrameHeader.frame(.refused, error: error))
        case .end: queue(LocalFrameHeader.frame(.end))
        case .reset(let error): queue(LocalFrameHeader.frame(.reset, error: error))
        }
    }

    /// Both directions of its filament have ended well.
    func concludes() {}

    /// Adds bytes to what is to be sent.
    private func queue(_ frame: [UInt8]) {
        if isFlushed {
            output = frame
            sent = 0
        } else {
            output += frame
        }
    }

    /// Sends what waits. False where the program is gone.
    func flush() -> Bool {
        if isFlushed { return true }
        guard let count = transmit(output, sent..<output.count) else { return false }
        sent += count
        if isFlushed {
            output = []
            sent = 0
        }
        return true
    }

    /// Sends a part of `room`, where nothing waits. What the socket doesn't take is kept. False where the program is gone.
    func send(_ room: [UInt8], _ part: Range<Int>) -> Bool {
        guard let done = transmit(room, part) else { return false }
        if done < part.count { queue(Array(room[part.dropFirst(done)])) }
        return true
    }

    /// Forgets what waits to be sent.
    func dropOutput() {
        output = []
        sent = 0
    }

    /// Sends as much as the socket takes, and returns how many bytes that was; nil where the program is gone.
    private func transmit(_ bytes: [UInt8], _ range: Range<Int>) -> Int? {
        var done = 0
        while mayWrite && done < range.count {
            let count = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(
                    descriptor, $0.baseAddress! + range.lowerBound + done, range.count - done, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 {
                done += count
            } else if errno == EAGAIN {
                mayWrite = false
            } else if errno != EINTR {
                return nil
            }
        }
        return done
    }

    /// Reads into `room`, and returns how many bytes came. None where there is nothing now, or nothing more.
    func receive(_ room: inout [UInt8]) -> Int {
        while mayRead {
            let count = unsafe room.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count > 0 { return count }
            if count < 0 && errno == EINTR { continue }
            mayRead = false
            if count < 0 && errno == EAGAIN { break }
            isInputOver = true
            isBroken = count < 0
        }
        return 0
    }
}
