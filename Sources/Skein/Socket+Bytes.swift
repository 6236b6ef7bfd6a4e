import CSkein
import Glibc

// Sending and receiving.

/// How `Socket.send` sends.
public struct SendFlags: OptionSet, Sendable {
    /// The bits of `MSG_…`.
    public let rawValue: CInt
    /// Flags by the bits of `MSG_…`.
    public init(rawValue: CInt) { self.rawValue = rawValue }

    /// The last byte is urgent: the peer finds it out of the stream's order.
    public static let outOfBand = SendFlags(rawValue: CInt(MSG_OOB))
    /// `EAGAIN` instead of waiting, for this call.
    public static let dontWait = SendFlags(rawValue: CInt(MSG_DONTWAIT))
    /// Never leaves this host.
    public static let dontRoute = SendFlags(rawValue: CInt(MSG_DONTROUTE))
}

/// How `Socket.receive` receives.
public struct ReceiveFlags: OptionSet, Sendable {
    /// The bits of `MSG_…`.
    public let rawValue: CInt
    /// Flags by the bits of `MSG_…`.
    public init(rawValue: CInt) { self.rawValue = rawValue }

    /// The bytes stay, and come again with the next call.
    public static let peek = ReceiveFlags(rawValue: CInt(MSG_PEEK))
    /// Waits until the whole buffer is full or the stream ends.
    public static let waitAll = ReceiveFlags(rawValue: CInt(MSG_WAITALL))
    /// `EAGAIN` instead of waiting, for this call.
    public static let dontWait = ReceiveFlags(rawValue: CInt(MSG_DONTWAIT))
    /// The urgent byte.
    public static let outOfBand = ReceiveFlags(rawValue: CInt(MSG_OOB))
}

extension Socket {
    /// Sends as many of the bytes as there is room for, and waits for room where there is none (STPsend).
    /// Returns how many.
    ///
    /// `EPIPE`: this side or the peer is closed, or the peer has stopped receiving. `ECONNRESET`, `ENOTCONN`,
    /// `EAGAIN`.
    public borrowing func send(_ bytes: Span<UInt8>, flags: SendFlags = []) throws(SocketError) -> Int {
        try unsafe send(bytes.bytes, flags: flags)
    }

    /// The same for raw bytes.
    public borrowing func send(_ bytes: RawSpan, flags: SendFlags = []) throws(SocketError) -> Int {
        try unsafe bytes.withUnsafeBytes { (buffer) throws(SocketError) in try unsafe send(buffer, flags: flags) }
    }

    /// The same for bytes that a pointer leads to.
    public borrowing func send(_ bytes: UnsafeRawBufferPointer, flags: SendFlags = []) throws(SocketError) -> Int {
        try uninterrupted("STPsend") {
            unsafe STPsend(descriptor, bytes.baseAddress, bytes.count, flags.rawValue | CInt(MSG_NOSIGNAL))
        }
    }

    /// Fills `bytes` from its beginning with what is there, and waits where nothing is (STPrecv). Returns how many
    /// bytes came; 0 at the end of the stream.
    ///
    /// `ECONNRESET`: the peer is gone and left bytes unread. `ENOTCONN`, `EAGAIN`.
    public borrowing func receive(
        into bytes: inout MutableSpan<UInt8>, flags: ReceiveFlags = []
    ) throws(SocketError) -> Int {
        try unsafe bytes.withUnsafeMutableBytes { (buffer) throws(SocketError) in
            try unsafe receive(into: buffer, flags: flags)
        }
    }

    /// The same into raw bytes.
    public borrowing func receive(
        into bytes: inout MutableRawSpan, flags: ReceiveFlags = []
    ) throws(SocketError) -> Int {
        try unsafe bytes.withUnsafeMutableBytes { (buffer) throws(SocketError) in
            try unsafe receive(into: buffer, flags: flags)
        }
    }

    /// The same into bytes that a pointer leads to.
    public borrowing func receive(
        into bytes: UnsafeMutableRawBufferPointer, flags: ReceiveFlags = []
    ) throws(SocketError) -> Int {
        try uninterrupted("STPrecv") { unsafe STPrecv(descriptor, bytes.baseAddress, bytes.count, flags.rawValue) }
    }

    /// Up to `count` bytes, as they come; none at the end of the stream.
    public borrowing func receive(upTo count: Int, flags: ReceiveFlags = []) throws(SocketError) -> [UInt8] {
        try [UInt8](capacity: count) { (room: inout OutputSpan<UInt8>) throws(SocketError) in
            try unsafe room.withUnsafeMutableBufferPointer { (buffer, filled) throws(SocketError) in
                filled = try unsafe receive(into: UnsafeMutableRawBufferPointer(buffer), flags: flags)
            }
        }
    }
}

// MARK: - Whole messages

extension Socket {
    /// Sends all the bytes. For a blocking socket: where a time-out or `EAGAIN` ends it early, nobody knows how
    /// many are under way.
    public borrowing func sendAll(_ bytes: Span<UInt8>) throws(SocketError) {
        var sent = 0
        while sent < bytes.count { sent += try send(bytes.extracting(droppingFirst: sent)) }
    }

    /// Fills all of `bytes`. `ENODATA`: the stream ended before.
    public borrowing func receiveAll(into bytes: inout MutableSpan<UInt8>) throws(SocketError) {
        try unsafe bytes.withUnsafeMutableBytes { (buffer) throws(SocketError) in
            var filled = 0
            while filled < buffer.count {
                let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
                let count = try unsafe receive(into: rest, flags: .waitAll)
                if count == 0 {
                    throw SocketError(
                        "STPrecv", errno: ENODATA, advice: "The stream ended after \(filled) of \(buffer.count) bytes")
                }
                filled += count
            }
        }
    }

    /// The next `count` bytes. `ENODATA`: the stream ended before.
    public borrowing func receive(exactly count: Int) throws(SocketError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var room = bytes.mutableSpan
        try receiveAll(into: &room)
        return bytes
    }
}
