import CSystem
import Glibc
import Skein

/// What the two processes of a measurement say to each other: blocks of 64 bytes.
struct BenchBlock: Equatable {
    static let size = 64

    enum Order: UInt8 {
        /// So many blocks follow: each comes back.
        case echo = 1
        /// So many bytes of the pattern follow: one block comes back.
        case stream = 2
        /// All of them were right.
        case right = 3
        case wrong = 4
    }

    let bytes: [UInt8]

    init(_ order: Order, _ count: Int) {
        var bytes = [order.rawValue]
        for index in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: count >> (8 * index))) }
        self.bytes = bytes + [UInt8](repeating: order.rawValue, count: BenchBlock.size - bytes.count)
    }

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var order: Order? { Order(rawValue: bytes[0]) }
    var count: Int { bytes[1..<9].reversed().reduce(0) { $0 << 8 | Int($1) } }
}

/// The content of streams: looks like noise, and begins again after each period.
enum BenchPattern {
    static let period = 1 << 18

    static func make() -> [UInt8] {
        var state: UInt64 = 1
        return (0..<period).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 56)
        }
    }
}

/// The other process of a measurement.
struct BenchPeer {
    /// Offers a connection of each kind, says where, and serves them until they end.
    func run() throws {
        // Nobody is left to measure for once the first process is gone.
        _ = sk_syscall6(Int(SYS_prctl), 1 /* PR_SET_PDEATHSIG */, Int(SIGKILL), 0, 0, 0, 0)
        let tcp = try StreamSocket(listeningAt: SocketAddress(loopbackPort: 0), backlog: 1)
        let name = "skein-bench/\(getpid())"
        let unix = try StreamSocket(listeningAt: SocketAddress(abstractName: name), backlog: 1)
        let stp = try listening(on: Address(port: 0))
        let port = unsafe SocketAddress(of: tcp.descriptor) { unsafe getsockname($0, $1, $2) }?.port ?? 0
        announceReady("\(port) \(name) \(try stp.localAddress.port)")
        let threads = [
            try BenchPeer.serve(tcp.accept()), try BenchPeer.serve(unix.accept()), try BenchPeer.serve(stp.accept()),
        ]
        threads.forEach { $0.join() }
    }

    private static func serve(_ connection: consuming StreamSocket) -> Thread {
        let server = BenchServer(connection)
        return Thread { try? server.run() }
    }
}

/// One connection of the other process.
private final class BenchServer: Sendable {
    private let connection: StreamSocket
    private let pattern = BenchPattern.make()

    init(_ connection: consuming StreamSocket) { self.connection = connection }

    /// Ends with the connection.
    func run() throws {
        while true {
            let order = BenchBlock(try connection.receive(exactly: BenchBlock.size))
            switch order.order {
            case .echo:
                var block = order.bytes
                for _ in 0..<order.count {
                    var room = block.mutableSpan
                    try connection.receiveAll(into: &room)
                    try connection.sendAll(block.span)
                }
            case .stream:
                let isRight = try receive(order.count)
                let answer = BenchBlock(isRight ? .right : .wrong, order.count).bytes
                try connection.sendAll(answer.span)
            case .right, .wrong, nil: return
            }
        }
    }

    /// Whether so many bytes were all those of the pattern.
    private func receive(_ count: Int) throws -> Bool {
        var buffer = [UInt8](repeating: 0, count: BenchPattern.period)
        var position = 0
        var isRight = true
        while position < count {
            let place = position % BenchPattern.period
            let wanted = min(BenchPattern.period - place, count - position)
            var received = 0
            try unsafe buffer.withUnsafeMutableBytes { bytes in
                let room = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[..<wanted])
                received = try unsafe connection.receive(into: room)
                unsafe pattern.withUnsafeBytes { expected in
                    let same = unsafe memcmp(bytes.baseAddress!, expected.baseAddress! + place, received) == 0
                    isRight = isRight && same
                }
            }
            if received == 0 { return false }
            position += received
        }
        return isRight
    }
}
