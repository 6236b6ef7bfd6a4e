import CSkein
import Glibc

/// An option of a socket that can be read and set, with the type of its value: one of the static members, such
/// as `.keepAlive` or `.ring`.
public struct SocketOption<Value: Sendable>: Sendable {
    fileprivate let read: @Sendable (CInt) throws(SocketError) -> Value
    fileprivate let write: @Sendable (CInt, Value) throws(SocketError) -> Void
}

extension Socket {
    /// The value of an option (STPgetsockopt, STPgetopt).
    public borrowing func option<Value>(_ option: SocketOption<Value>) throws(SocketError) -> Value {
        try option.read(descriptor)
    }

    /// Sets an option (STPsetsockopt, STPsetopt). What a listener accepts inherits the listener's.
    /// `EINVAL`: the value is out of range.
    public borrowing func setOption<Value>(
        _ option: SocketOption<Value>, to value: Value
    ) throws(SocketError) {
        try option.write(descriptor, value)
    }
}

// MARK: - BSD's options

extension SocketOption where Value == Bool {
    /// SO_KEEPALIVE: kept and reported; a peer that is gone is noticed without it.
    public static var keepAlive: Self { flag(SO_KEEPALIVE) }
    /// SO_REUSEADDR: a port can be bound whose last connections are still ending.
    public static var reuseAddress: Self { flag(SO_REUSEADDR) }
    /// SO_OOBINLINE: urgent bytes stay in the stream.
    public static var outOfBandInline: Self { flag(SO_OOBINLINE) }

    private static func flag(_ name: CInt) -> Self { bsd(name, CInt(0), decode: { $0 != 0 }, encode: { $0 ? 1 : 0 }) }
}

extension SocketOption where Value == Int {
    /// SO_RCVBUF in bytes, as TCP counts them; the rings have sizes of their own, see `ring`.
    public static var receiveBuffer: Self { size(SO_RCVBUF) }
    /// SO_SNDBUF in bytes, as TCP counts them.
    public static var sendBuffer: Self { size(SO_SNDBUF) }
    /// SO_RCVLOWAT: as many bytes must be there before a wait finds the socket readable.
    public static var receiveLowWater: Self { size(SO_RCVLOWAT) }

    private static func size(_ name: CInt) -> Self {
        bsd(name, CInt(0), decode: { Int($0) }, encode: { CInt(clamping: $0) })
    }
}

extension SocketOption where Value == Duration? {
    /// SO_RCVTIMEO: `EAGAIN` where receiving or accepting waited that long; nil waits without limit.
    public static var receiveTimeout: Self { timeout(SO_RCVTIMEO) }
    /// SO_SNDTIMEO: the same for sending and connecting.
    public static var sendTimeout: Self { timeout(SO_SNDTIMEO) }
    /// SO_LINGER: nil, or how long close may take, in whole seconds; with zero, closing resets the connection.
    public static var linger: Self {
        bsd(
            SO_LINGER, Glibc.linger(),
            decode: { $0.l_onoff != 0 ? .seconds($0.l_linger) : nil },
            encode: { Glibc.linger(l_onoff: $0 == nil ? 0 : 1, l_linger: CInt(clamping: $0?.components.seconds ?? 0)) })
    }

    private static func timeout(_ name: CInt) -> Self {
        bsd(
            name, timeval(),
            decode: { $0.tv_sec == 0 && $0.tv_usec == 0 ? nil : .seconds($0.tv_sec) + .microseconds($0.tv_usec) },
            encode: {
                guard let (seconds, attoseconds) = $0?.components else { return timeval() }
                // Anything shorter than a microsecond would become zero, which is no limit.
                let microseconds = Int(attoseconds / 1_000_000_000_000)
                return timeval(
                    tv_sec: Int(seconds), tv_usec: seconds == 0 && microseconds == 0 ? 1 : microseconds)
            })
    }
}

// MARK: - STP's own

/// A value that is one of a few numbers in C, to which a newer library may add.
public protocol NumberedChoice: RawRepresentable, Sendable where RawValue == CInt {
    /// A value by its number in skein.h.
    init(rawValue: CInt)
}

/// The ring that an end writes into (STP_RING).
public struct Ring: NumberedChoice, Hashable {
    /// The number in skein.h.
    public let rawValue: CInt
    /// A value by its number in skein.h.
    public init(rawValue: CInt) { self.rawValue = rawValue }

    /// Small, and large under bulk.
    public static let automatic = Ring(rawValue: STP_RING_AUTO)
    /// Never more than 16 KiB.
    public static let small = Ring(rawValue: STP_RING_SMALL)
    /// 1 MiB from the first byte. `EISCONN` once bytes were sent.
    public static let large = Ring(rawValue: STP_RING_LARGE)
}

/// How a process waits before it sleeps (STP_SPIN).
public struct Spin: NumberedChoice, Hashable {
    /// The number in skein.h.
    public let rawValue: CInt
    /// A value by its number in skein.h.
    public init(rawValue: CInt) { self.rawValue = rawValue }

    /// It sleeps at once.
    public static let off = Spin(rawValue: STP_SPIN_OFF)
    /// It looks for a moment where that has paid off.
    public static let adaptive = Spin(rawValue: STP_SPIN_ADAPTIVE)
    /// It looks for the same moment each time.
    public static let fixed = Spin(rawValue: STP_SPIN_FIXED)
}

/// When `connect` returns (STP_CONNECT).
public struct ConnectMode: NumberedChoice, Hashable {
    /// The number in skein.h.
    public let rawValue: CInt
    /// A value by its number in skein.h.
    public init(rawValue: CInt) { self.rawValue = rawValue }

    /// Once the server has accepted.
    public static let accepted = ConnectMode(rawValue: STP_CONNECT_ACCEPTED)
    /// Once the connection is in the server's queue, as with TCP.
    public static let queued = ConnectMode(rawValue: STP_CONNECT_QUEUED)
}

extension SocketOption where Value == Ring {
    /// STP_RING: the ring that this end writes into.
    public static var ring: Self { choice(STP_RING) }
}

extension SocketOption where Value == Spin {
    /// STP_SPIN: how the whole process waits before it sleeps.
    public static var spin: Self { choice(STP_SPIN) }
}

extension SocketOption where Value == ConnectMode {
    /// STP_CONNECT: when connect returns.
    public static var connectReturns: Self { choice(STP_CONNECT) }
}

extension SocketOption where Value == Duration {
    /// STP_CLOSE_LIMIT, in whole milliseconds: how long close waits for the peer to read, 2 seconds by default;
    /// zero doesn't wait.
    public static var closeLimit: Self { milliseconds(STP_CLOSE_LIMIT) }
    /// STP_GIFT_LIMIT, in whole milliseconds: how long a gift waits to be taken, a minute by default.
    public static var giftLimit: Self { milliseconds(STP_GIFT_LIMIT) }

    private static func milliseconds(_ name: CInt) -> Self {
        stp(
            name, CInt(0), decode: { .milliseconds($0) },
            encode: {
                let (seconds, attoseconds) = $0.components
                let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1000)
                return overflow ? .max : CInt(clamping: whole + attoseconds / 1_000_000_000_000_000)
            })
    }
}

extension SocketOption where Value == Carrier {
    /// STP_CARRIER: the carrier wanted.
    public static var carrier: Self {
        SocketOption(
            read: { (descriptor) throws(SocketError) in try Carrier(option: STP_CARRIER, of: descriptor) },
            write: { (descriptor, carrier) throws(SocketError) in
                var text = carrier.rawValue
                let result = text.withUTF8 {
                    unsafe STPsetopt(descriptor, STP_CARRIER, $0.baseAddress, socklen_t($0.count))
                }
                guard result == 0 else { throw SocketError(lastOf: "STPsetopt") }
            })
    }
}

/// What carries the bytes of a connection, by its name (STP_CARRIER, STP_CARRIER_IN_USE).
public struct Carrier: RawRepresentable, Sendable, Hashable {
    /// The name in skein.h.
    public let rawValue: String
    /// A carrier by its name.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Whichever there is.
    public static let any = Carrier(rawValue: "any")
    /// Memory that both processes share.
    public static let memory = Carrier(rawValue: "memory")

    fileprivate init(option: CInt, of descriptor: CInt) throws(SocketError) {
        var text = InlineArray<64, UInt8>(repeating: 0)
        var length = socklen_t(64)
        let result = unsafe withUnsafeMutableBytes(of: &text) {
            unsafe STPgetopt(descriptor, option, $0.baseAddress, &length)
        }
        guard result == 0 else { throw SocketError(lastOf: "STPgetopt") }
        rawValue = unsafe withUnsafeBytes(of: &text) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

// MARK: - What can only be read

extension Socket {
    /// The error of a connect or of the connection since the last look, which it takes away (SO_ERROR);
    /// nil where there is none.
    public borrowing func takeError() throws(SocketError) -> CInt? {
        let error = try socketOption(SO_ERROR, of: descriptor, CInt(0))
        return error == 0 ? nil : error
    }

    /// Whether it listens (SO_ACCEPTCONN).
    public var isListening: Bool {
        get throws(SocketError) { try socketOption(SO_ACCEPTCONN, of: descriptor, CInt(0)) != 0 }
    }

    /// Whether it is an STP socket (SO_DOMAIN), which an adopted descriptor need not be.
    public var isSTP: Bool {
        get throws(SocketError) { try socketOption(SO_DOMAIN, of: descriptor, CInt(0)) == AF_STP }
    }

    /// The process, user and group at the other end (SO_PEERCRED), as they were when it connected.
    public var peerCredentials: Credentials {
        get throws(SocketError) {
            let words = try socketOption(SO_PEERCRED, of: descriptor, InlineArray<3, UInt32>(repeating: 0))
            return Credentials(process: pid_t(bitPattern: words[0]), user: words[1], group: words[2])
        }
    }

    /// The carrier in use (STP_CARRIER_IN_USE); nil before it is connected.
    public var carrierInUse: Carrier? {
        get throws(SocketError) {
            let carrier = try Carrier(option: STP_CARRIER_IN_USE, of: descriptor)
            return carrier.rawValue.isEmpty ? nil : carrier
        }
    }

    /// Bytes received (STP_BYTES_IN).
    public var bytesReceived: UInt64 { get throws(SocketError) { try parameter(STP_BYTES_IN, of: descriptor, 0) } }
    /// Bytes sent (STP_BYTES_OUT).
    public var bytesSent: UInt64 { get throws(SocketError) { try parameter(STP_BYTES_OUT, of: descriptor, 0) } }
    /// Doorbells rung at the peer (STP_BELLS).
    public var bells: UInt64 { get throws(SocketError) { try parameter(STP_BELLS, of: descriptor, 0) } }
    /// Waits that slept in the kernel (STP_SLEEPS).
    public var sleeps: UInt64 { get throws(SocketError) { try parameter(STP_SLEEPS, of: descriptor, 0) } }
}

/// Who is at the other end (`struct ucred`).
public struct Credentials: Sendable, Hashable {
    /// The process.
    public let process: pid_t
    /// Its user.
    public let user: uid_t
    /// Its group.
    public let group: gid_t
}

// MARK: - The calls

extension SocketOption {
    /// One of SOL_SOCKET, whose C form is `Raw`.
    private static func bsd<Raw: Sendable & BitwiseCopyable>(
        _ name: CInt, _ empty: Raw, decode: @escaping @Sendable (Raw) -> Value,
        encode: @escaping @Sendable (Value) -> Raw
    ) -> Self {
        SocketOption(
            read: { (descriptor) throws(SocketError) in decode(try socketOption(name, of: descriptor, empty)) },
            write: { (descriptor, value) throws(SocketError) in
                var raw = encode(value)
                let size = socklen_t(MemoryLayout<Raw>.size)
                guard unsafe STPsetsockopt(descriptor, SOL_SOCKET, name, &raw, size) == 0 else {
                    throw SocketError(lastOf: "STPsetsockopt")
                }
            })
    }

    /// One of STP's.
    private static func stp<Raw: Sendable & BitwiseCopyable>(
        _ name: CInt, _ empty: Raw, decode: @escaping @Sendable (Raw) -> Value,
        encode: @escaping @Sendable (Value) -> Raw
    ) -> Self {
        SocketOption(
            read: { (descriptor) throws(SocketError) in decode(try parameter(name, of: descriptor, empty)) },
            write: { (descriptor, value) throws(SocketError) in
                var raw = encode(value)
                guard unsafe STPsetopt(descriptor, name, &raw, socklen_t(MemoryLayout<Raw>.size)) == 0 else {
                    throw SocketError(lastOf: "STPsetopt")
                }
            })
    }

    /// One of STP's whose value is one of a few numbers.
    private static func choice(_ name: CInt) -> Self where Value: NumberedChoice {
        stp(name, CInt(0), decode: { Value(rawValue: $0) }, encode: { $0.rawValue })
    }
}

private func socketOption<Raw: BitwiseCopyable>(
    _ name: CInt, of descriptor: CInt, _ empty: Raw
) throws(SocketError) -> Raw {
    var raw = empty
    var length = socklen_t(MemoryLayout<Raw>.size)
    guard unsafe STPgetsockopt(descriptor, SOL_SOCKET, name, &raw, &length) == 0 else {
        throw SocketError(lastOf: "STPgetsockopt")
    }
    return raw
}

private func parameter<Raw: BitwiseCopyable>(
    _ name: CInt, of descriptor: CInt, _ empty: Raw
) throws(SocketError) -> Raw {
    var raw = empty
    var length = socklen_t(MemoryLayout<Raw>.size)
    guard unsafe STPgetopt(descriptor, name, &raw, &length) == 0 else { throw SocketError(lastOf: "STPgetopt") }
    return raw
}
