import CContract
import CSkein
import Glibc
import Skein

// getsockopt and setsockopt by the typed options of module Skein; addresses between C and Swift.

func getOption(
    _ fd: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeMutableRawPointer,
    _ length: UnsafeMutablePointer<socklen_t>
) -> Int32 {
    func give<Raw>(_ call: (borrowing Skein.Socket) throws(SocketError) -> Raw) -> Int32 {
        guard Int(length.pointee) == MemoryLayout<Raw>.size else {
            return STPgetsockopt(fd, level, name, value, length)
        }
        return with(fd) { (socket) throws(SocketError) in value.storeBytes(of: try call(socket), as: Raw.self) }
    }
    guard level == SOL_SOCKET else { return STPgetsockopt(fd, level, name, value, length) }
    if let option = flags[name] {
        return give { (socket) throws(SocketError) in Int32(try socket.option(option) ? 1 : 0) }
    }
    if let option = sizes[name] { return give { (socket) throws(SocketError) in Int32(try socket.option(option)) } }
    if let option = timeouts[name] {
        return give { (socket) throws(SocketError) in
            let (seconds, attoseconds) = (try socket.option(option) ?? .zero).components
            return timeval(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
        }
    }
    switch name {
    case SO_LINGER:
        return give { (socket) throws(SocketError) in
            let limit = try socket.option(.linger)
            return linger(l_onoff: limit == nil ? 0 : 1, l_linger: Int32(limit?.components.seconds ?? 0))
        }
    case SO_ERROR: return give { (socket) throws(SocketError) in try socket.takeError() ?? 0 }
    case SO_ACCEPTCONN: return give { (socket) throws(SocketError) in Int32(try socket.isListening ? 1 : 0) }
    default: return STPgetsockopt(fd, level, name, value, length)
    }
}

func setOption(_ fd: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer, _ length: socklen_t) -> Int32 {
    func take<Raw>(_ call: (borrowing Skein.Socket, Raw) throws(SocketError) -> Void) -> Int32 {
        guard Int(length) == MemoryLayout<Raw>.size else { return STPsetsockopt(fd, level, name, value, length) }
        return with(fd) { (socket) throws(SocketError) in try call(socket, value.loadUnaligned(as: Raw.self)) }
    }
    guard level == SOL_SOCKET else { return STPsetsockopt(fd, level, name, value, length) }
    if let option = flags[name] {
        return take { (socket, raw: Int32) throws(SocketError) in try socket.setOption(option, to: raw != 0) }
    }
    if let option = sizes[name] {
        return take { (socket, raw: Int32) throws(SocketError) in try socket.setOption(option, to: Int(raw)) }
    }
    if let option = timeouts[name] {
        return take { (socket, raw: timeval) throws(SocketError) in
            let limit = Duration.seconds(raw.tv_sec) + .microseconds(raw.tv_usec)
            try socket.setOption(option, to: limit == .zero ? nil : limit)
        }
    }
    if name == SO_LINGER {
        return take { (socket, raw: linger) throws(SocketError) in
            try socket.setOption(.linger, to: raw.l_onoff != 0 ? .seconds(raw.l_linger) : nil)
        }
    }
    return STPsetsockopt(fd, level, name, value, length)
}

private let flags: [Int32: SocketOption<Bool>] = [
    SO_KEEPALIVE: .keepAlive, SO_REUSEADDR: .reuseAddress, SO_OOBINLINE: .outOfBandInline,
]
private let sizes: [Int32: SocketOption<Int>] = [
    SO_RCVBUF: .receiveBuffer, SO_SNDBUF: .sendBuffer, SO_RCVLOWAT: .receiveLowWater,
]
private let timeouts: [Int32: SocketOption<Duration?>] = [SO_RCVTIMEO: .receiveTimeout, SO_SNDTIMEO: .sendTimeout]

extension Skein.Address {
    /// Nil for what is no whole address of the family, or no address alone: that a case passes on purpose, and C alone can.
    init?(_ address: UnsafePointer<sockaddr>, _ length: socklen_t) {
        guard Int(length) == MemoryLayout<sockaddr_stp>.size else { return nil }
        let raw = UnsafeRawPointer(address).loadUnaligned(as: sockaddr_stp.self)
        guard raw.stp_family == sa_family_t(AF_STP) else { return nil }
        self.init(group: text(raw.stp_group), host: text(raw.stp_host), port: raw.stp_port)
    }

    /// Stores what there is room for, and the length that all of it has.
    func store(_ address: UnsafeMutablePointer<sockaddr>, _ length: UnsafeMutablePointer<socklen_t>) {
        var raw = sockaddr_stp()
        raw.stp_family = sa_family_t(AF_STP)
        raw.stp_port = port
        withUnsafeMutableBytes(of: &raw.stp_group) { $0.copyBytes(from: group.utf8) }
        withUnsafeMutableBytes(of: &raw.stp_host) { $0.copyBytes(from: host.utf8) }
        withUnsafeBytes(of: &raw) {
            UnsafeMutableRawPointer(address).copyMemory(
                from: $0.baseAddress!, byteCount: min(Int(length.pointee), $0.count))
            length.pointee = socklen_t($0.count)
        }
    }
}

private func text<Field>(_ field: Field) -> String {
    withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
