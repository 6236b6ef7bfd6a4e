/// What clients may take of the server.
public struct Limits: Sendable {
    /// Connections at once.
    public var connections = 4096
    /// Requests of one connection that wait for a device.
    public var requests = 64
    /// Bytes of data of these.
    public var bytes = 64 << 20
    /// Seconds from connecting to the first request's right.
    public var handshakeSeconds = 10
    /// Seconds that clients have to take their replies when the server stops.
    public var stopSeconds = 5
    /// Seconds that clients have whom no other process can go on with, when the server is replaced.
    public var drainSeconds = 3600

    public init() {}
}
