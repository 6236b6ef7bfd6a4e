import CContract
import Glibc

enum Family: Sendable, CustomStringConvertible {
    case v4, v6, stp

    var number: Int32 {
        switch self {
        case .v4: AF_INET
        case .v6: AF_INET6
        case .stp: 0x5354  // AF_STP of skein.h, which this suite needs not have
        }
    }

    var description: String {
        switch self {
        case .v4: "IPv4"
        case .v6: "IPv6"
        case .stp: "STP"
        }
    }

    /// What SO_PROTOCOL says.
    var protocolNumber: Int { self == .stp ? Int(number) : IPPROTO_TCP }

    /// Bytes of an address.
    var addressSize: Int {
        switch self {
        case .v4: 16
        case .v6: 28
        case .stp: 52
        }
    }
}

/// A socket address as bytes; two are equal when the kernel would say so.
struct Address: Equatable, Sendable, CustomStringConvertible {
    var bytes: [UInt8]

    init(bytes: [UInt8]) { self.bytes = bytes }

    var port: UInt16 {
        family == Family.stp.number
            ? UInt16(bytes[50]) | UInt16(bytes[51]) << 8 : UInt16(bytes[2]) << 8 | UInt16(bytes[3])
    }
    private var family: Int32 { Int32(bytes[0]) | Int32(bytes[1]) << 8 }
    var description: String { bytes.map { String($0) }.joined(separator: ".") }

    func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        bytes.withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count)) }
    }

    /// Calls something that fills in an address, and cuts it to the length given back.
    static func filled(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> (result: Outcome, address: Address) {
        var bytes = [UInt8](repeating: 0, count: 128)
        var length = socklen_t(bytes.count)
        let result = bytes.withUnsafeMutableBytes {
            Outcome(call($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length))
        }
        return (result, Address(bytes: Array(bytes.prefix(Int(length)))))
    }
}

/// A descriptor together with the face that made it: the calls of the cases in their shortest form.
struct Sock: Sendable {
    let face: Face
    let fd: Int32

    // MARK: Receiving

    func read(_ count: Int = 4096) -> Received {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = face.read(fd, &bytes, count)
        return Received(got, bytes)
    }

    func recv(_ count: Int = 4096, _ flags: Int32 = 0) -> Received {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = face.recv(fd, &bytes, count, flags)
        return Received(got, bytes)
    }

    func recvfrom(_ count: Int = 4096, _ flags: Int32 = 0) -> Received {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = face.recvfrom(fd, &bytes, count, flags, nil, nil)
        return Received(got, bytes)
    }

    func recvmsg(_ count: Int = 4096, _ flags: Int32 = 0) -> Received {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = bytes.withUnsafeMutableBytes { room in
            var part = iovec(iov_base: room.baseAddress, iov_len: count)
            return withUnsafeMutablePointer(to: &part) { part in
                var message = msghdr()
                message.msg_iov = part
                message.msg_iovlen = 1
                return face.recvmsg(fd, &message, flags)
            }
        }
        return Received(got, bytes)
    }

    /// recvmsg into vectors of those lengths, which held dots.
    func receive(into lengths: [Int], _ flags: Int32) -> Message {
        var bytes = [UInt8](repeating: UInt8(ascii: "."), count: lengths.reduce(0, +))
        var message = msghdr()
        let count = bytes.withUnsafeMutableBytes { room in
            var parts: [iovec] = []
            for length in lengths {
                let start = parts.reduce(0) { $0 + $1.iov_len }
                parts.append(iovec(iov_base: room.baseAddress.map { $0 + start }, iov_len: length))
            }
            return parts.withUnsafeMutableBufferPointer { parts in
                message.msg_iov = parts.baseAddress
                message.msg_iovlen = parts.count
                return Outcome(face.recvmsg(fd, &message, flags))
            }
        }
        return Message(count: count, bytes: String(decoding: bytes, as: UTF8.self), flags: message.msg_flags)
    }

    /// Into two halves, the first of them a single byte, so that the seam is always crossed.
    func readv(_ count: Int = 4096) -> Received {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = bytes.withUnsafeMutableBytes { room in
            let parts = [
                iovec(iov_base: room.baseAddress, iov_len: 1),
                iovec(iov_base: room.baseAddress! + 1, iov_len: count - 1),
            ]
            return face.readv(fd, parts, 2)
        }
        return Received(got, bytes)
    }

    /// Reads until that many bytes or the end came; for cases that don't care where the pieces break.
    func readFully(_ count: Int) throws -> String {
        var text = ""
        while text.utf8.count < count {
            switch read(count - text.utf8.count) {
            case .text(let more): text += more
            case .end: return text
            case .failed(let code): throw Mismatch(expected: "\(count) bytes", got: errorName(code), "reading")
            }
        }
        return text
    }

    // MARK: Sending

    func write(_ text: String) -> Outcome { write(bytes: Array(text.utf8)) }
    func write(bytes: [UInt8]) -> Outcome { Outcome(face.write(fd, bytes, bytes.count)) }

    func send(_ text: String, _ flags: Int32 = 0) -> Outcome {
        let bytes = Array(text.utf8)
        return Outcome(face.send(fd, bytes, bytes.count, flags))
    }

    func sendto(_ text: String, _ flags: Int32 = 0) -> Outcome {
        let bytes = Array(text.utf8)
        return Outcome(face.sendto(fd, bytes, bytes.count, flags, nil, 0))
    }

    func sendmsg(_ text: String, _ flags: Int32 = 0) -> Outcome { sendmsg([text], flags) }
    func sendmsg(_ pieces: [String], _ flags: Int32 = 0) -> Outcome {
        withParts(pieces) { parts in
            var parts = parts
            return parts.withUnsafeMutableBufferPointer { parts in
                var message = msghdr()
                message.msg_iov = parts.baseAddress
                message.msg_iovlen = parts.count
                return Outcome(face.sendmsg(fd, &message, flags))
            }
        }
    }

    func writev(_ pieces: [String]) -> Outcome {
        withParts(pieces) { Outcome(face.writev(fd, $0, Int32($0.count))) }
    }

    private func withParts(_ pieces: [String], _ body: ([iovec]) -> Outcome) -> Outcome {
        var bytes = Array(pieces.joined().utf8)
        return bytes.withUnsafeMutableBytes { room in
            var parts: [iovec] = []
            var offset = 0
            for piece in pieces {
                parts.append(iovec(iov_base: room.baseAddress.map { $0 + offset }, iov_len: piece.utf8.count))
                offset += piece.utf8.count
            }
            return body(parts)
        }
    }

    // MARK: Life

    func shutdown(_ how: Shut) -> Outcome { Outcome(face.shutdown(fd, how.rawValue)) }
    func close() { _ = face.close(fd) }
    func duplicate() throws -> Sock { Sock(face: face, fd: Int32(try Outcome(face.dup(fd)).value)) }

    /// The next close resets the connection instead of ending it.
    func lingerZero() throws {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        try expect(Outcome(face.setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, 8)), 0, "SO_LINGER")
    }

    func setNonBlocking(_ on: Bool = true) throws {
        let flags = Int32(try Outcome(face.fcntl(fd, F_GETFL, 0)).value)
        try expect(Outcome(face.fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK)), 0, "F_SETFL")
    }

    // MARK: Names and options

    func name() -> (result: Outcome, address: Address) { Address.filled { face.getsockname(fd, $0, $1) } }
    func peerName() -> (result: Outcome, address: Address) { Address.filled { face.getpeername(fd, $0, $1) } }
    func connect(_ address: Address) -> Outcome { address.with { Outcome(face.connect(fd, $0, $1)) } }

    func option(_ level: Int32, _ option: Int32) -> Outcome {
        var value: Int32 = -1
        var length = socklen_t(4)
        let result = Outcome(face.getsockopt(fd, level, option, &value, &length))
        return result == 0 ? .value(Int(value)) : result
    }

    func setOption(_ level: Int32, _ option: Int32, _ value: Int32) -> Outcome {
        var value = value
        return Outcome(face.setsockopt(fd, level, option, &value, 4))
    }

    func setParameter(_ parameter: Parameter, _ value: Int32) throws {
        try expect(Outcome(face.setParameter(fd, parameter.rawValue, value)), 0, "STPsetopt of \(parameter)")
    }

    /// SO_ERROR by its name; asking takes the error away.
    func pendingError() -> String {
        switch option(SOL_SOCKET, SO_ERROR) {
        case .value(let code): errorName(Int32(code))
        case .failed(let code): "getsockopt \(errorName(code))"
        }
    }

    func setTimeout(_ which: Int32, milliseconds: Int) throws {
        var time = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
        try expect(
            Outcome(face.setsockopt(fd, SOL_SOCKET, which, &time, socklen_t(MemoryLayout<timeval>.size))), 0,
            "a time-out")
    }

    func unreadCount() -> Outcome {
        var count: Int32 = -1
        let result = Outcome(face.ioctl(fd, UInt(FIONREAD), &count))
        return result == 0 ? .value(Int(count)) : result
    }

    // MARK: Waiting

    func poll(_ events: Events, milliseconds: Int32 = 0) -> Events {
        var wait = pollfd(fd: fd, events: Int16(truncatingIfNeeded: events.rawValue), revents: 0)
        _ = face.poll(&wait, 1, milliseconds)
        return Events(rawValue: UInt32(UInt16(bitPattern: wait.revents)))
    }

    /// Waits for a state to arrive before a case asserts about it; the second is a watchdog.
    @discardableResult
    func settle(_ wanted: Events, of all: Events = [.readable, .writable, .priority, .peerHalfClosed]) -> Events {
        let deadline = seconds() + 1
        while true {
            let seen = poll(all)
            if seen == wanted || seconds() > deadline { return seen }
            pause(milliseconds: 1)
        }
    }

    func awaitReadable() throws {
        try expect(poll(.readable, milliseconds: 5000).contains(.readable), true, "readable")
    }
}

/// What recvmsg gave: all the room there was, and msg_flags.
struct Message: Equatable {
    var count: Outcome
    var bytes: String
    var flags: Int32
}

/// The three ways to shut a side down, by their numbers in sys/socket.h.
enum Shut: Int32, Sendable {
    case read = 0
    case write = 1
    case both = 2
}

/// The parameters of skein.h that cases set.
enum Parameter: Int32, Sendable {
    case connect = 3
    case closeLimit = 4

    static let connectAccepted: Int32 = 0
    static let connectQueued: Int32 = 1
}

/// Message flags as the calls take them; Swift imports the C names as Int.
enum Msg {
    static let outOfBand = Int32(MSG_OOB)
    static let peek = Int32(MSG_PEEK)
    static let truncate = Int32(MSG_TRUNC)
    static let dontWait = Int32(MSG_DONTWAIT)
    static let waitAll = Int32(MSG_WAITALL)
    static let noSignal = Int32(MSG_NOSIGNAL)
    static let more = Int32(0x8000)
    /// MSG_CMSG_CLOEXEC.
    static let closeOnExec = Int32(0x4000_0000)
}
