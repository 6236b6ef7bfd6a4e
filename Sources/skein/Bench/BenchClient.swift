import ArgumentParser
import Glibc
import Skein

/// What one kind came to in one round.
struct BenchFigures {
    /// Nanoseconds of a round trip.
    var median: Double
    var percentile99: Double
    var bytesPerSecond: Double
}

/// The process that measures.
struct BenchClient {
    private let connections: [BenchKind: BenchConnection]

    /// Starts the other process and connects to it in each way.
    init() throws {
        let words = try BenchClient.startPeer().split(separator: " ")
        guard words.count == 4, let port = UInt16(words[1]), let stpPort = UInt16(words[3]) else {
            throw failure("the second process of the measurement did not start; the line above says why")
        }
        let tcp = try BenchClient.connected(to: SocketAddress(loopbackPort: port))
        let unix = try BenchClient.connected(to: SocketAddress(abstractName: String(words[2])))
        let stp = try skein.connected(to: Address(port: stpPort))
        connections = [.tcp: BenchConnection(tcp), .unix: BenchConnection(unix), .stp: BenchConnection(stp)]
    }

    /// One round of one kind.
    func measure(_ kind: BenchKind) throws -> BenchFigures {
        do {
            return try connections[kind]!.measure()
        } catch let error as SocketError {
            throw failure("the second process is gone in the middle of \(kind.title): \(explanation(of: error))")
        }
    }

    private static func connected(to address: SocketAddress) throws -> StreamSocket {
        do {
            let socket = try StreamSocket(for: address)
            try socket.connect(to: address)
            return socket
        } catch {
            throw failure("the second process of the measurement can't be reached: \(error.text)")
        }
    }

    /// What the other process says when it is ready; it ends with this one.
    private static func startPeer() throws -> String {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { throw failure("no pipe can be made: \(SystemError.last.text)") }
        defer { _ = close(ends[0]) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        let command = ["skein", "bench", "--peer"]
        var words: [UnsafeMutablePointer<CChar>?] = unsafe command.map { word in unsafe strdup(word) } + [nil]
        defer { unsafe words.forEach { unsafe free($0) } }
        var process: pid_t = 0
        let result = unsafe posix_spawn(&process, "/proc/self/exe", &actions, nil, &words, environ)
        _ = close(ends[1])
        guard result == 0 else { throw failure("no process can be started: \(SystemError(code: result).text)") }
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while unsafe read(ends[0], &byte, 1) == 1, byte != UInt8(ascii: "\n") { line.append(byte) }
        return String(decoding: line, as: UTF8.self)
    }
}

/// One of the connections that are compared.
final class BenchConnection {
    /// Long enough for the scheduler to have shown all that it does, short enough for many rounds.
    private static let secondsOfEcho = 0.1
    private static let secondsOfStream = 0.2

    private let socket: StreamSocket
    private let pattern = BenchPattern.make()
    /// How many take about the right time, from what the last measurement took; nil before the first.
    private var echoes: Int?
    private var streamed: Int?

    init(_ socket: consuming StreamSocket) { self.socket = socket }

    /// One round.
    func measure() throws -> BenchFigures {
        let echoes = try echoes ?? scaled(500, echo(500).seconds, to: Self.secondsOfEcho)
        let trips = try echo(echoes)
        self.echoes = scaled(echoes, trips.seconds, to: Self.secondsOfEcho)

        let bytes = try streamed ?? scaled(1 << 24, stream(1 << 24), to: Self.secondsOfStream)
        let seconds = try stream(bytes)
        streamed = scaled(bytes, seconds, to: Self.secondsOfStream)

        let sorted = trips.nanoseconds.sorted()
        return BenchFigures(
            median: sorted[sorted.count / 2], percentile99: sorted[sorted.count * 99 / 100],
            bytesPerSecond: Double(bytes) / seconds)
    }

    /// How many would have taken so long; at least a few.
    private func scaled(_ count: Int, _ seconds: Double, to wanted: Double) -> Int {
        min(max(Int(Double(count) * wanted / max(seconds, 1e-6)), 100), 1 << 32)
    }

    private func echo(_ count: Int) throws -> (nanoseconds: [Double], seconds: Double) {
        let order = BenchBlock(.echo, count).bytes
        try socket.sendAll(order.span)
        var nanoseconds: [Double] = []
        nanoseconds.reserveCapacity(count)
        var sent = order
        var received = order
        let start = secondsNow()
        var before = start
        for number in 0..<count {
            // No two in a row are the same, so that an old one isn't taken for the answer.
            sent[BenchBlock.size - 1] = UInt8(truncatingIfNeeded: number)
            try socket.sendAll(sent.span)
            var room = received.mutableSpan
            try socket.receiveAll(into: &room)
            guard received == sent else { throw wrong }
            let after = secondsNow()
            nanoseconds.append((after - before) * 1e9)
            before = after
        }
        return (nanoseconds, before - start)
    }

    /// The seconds until the other process has said that all of it arrived and was right.
    private func stream(_ count: Int) throws -> Double {
        let start = secondsNow()
        let order = BenchBlock(.stream, count).bytes
        try socket.sendAll(order.span)
        let content = pattern
        var position = 0
        while position < count {
            let place = position % BenchPattern.period
            let length = min(BenchPattern.period - place, count - position)
            position += try socket.send(content.span.extracting(place..<place + length))
        }
        let answer = try socket.receive(exactly: BenchBlock.size)
        guard answer == BenchBlock(.right, count).bytes else { throw wrong }
        return secondsNow() - start
    }

    private var wrong: ExitCode {
        failure("bytes came changed: please report this fault", code: Exit.wrongChecksum)
    }
}
