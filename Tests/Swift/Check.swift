import Glibc
import Skein
import Synchronization

// What the tests share: sentences, threads, connected pairs.

/// How many sentences did not hold.
let failures = Atomic(0)

/// Prints `ok - …` or `not ok - …`, one write a line, so that threads don't mix.
func check(_ holds: Bool, _ sentence: String, saw: @autoclosure () -> String = "") {
    let seen = saw()
    let line = holds ? "ok - \(sentence)\n" : "not ok - \(sentence)\(seen.isEmpty ? "" : " (saw \(seen))")\n"
    let bytes = Array(line.utf8)
    _ = unsafe write(1, bytes, bytes.count)
    if !holds { failures.add(1, ordering: .relaxed) }
}

func check<Value: Equatable>(_ got: Value, is expected: Value, _ sentence: String) {
    check(got == expected, sentence, saw: "\(got)")
}

/// The error that `body` throws must have this errno and this code.
func check(throws errno: CInt, _ code: SocketError.Code, _ sentence: String, _ body: () throws(SocketError) -> Void) {
    do {
        try body()
        check(false, sentence, saw: "no error")
    } catch {
        check(error.errno == errno && error.code == code, sentence, saw: "\(error), code \(error.code.rawValue)")
    }
}

/// Runs one group of sentences; an error that nobody expected fails it.
func group(_ name: String, _ body: () throws -> Void) {
    print("# \(name)")
    fflush(nil)
    do { try body() } catch { check(false, "\(name): no error", saw: "\(error)") }
}

/// A thread that can be waited for. The calls under test block, so it is a thread of its own.
struct Thread {
    private let handle: pthread_t

    init(_ body: @escaping @Sendable () throws -> Void) {
        var handle = pthread_t()
        let box = unsafe Unmanaged.passRetained(Body(body))
        let result = unsafe pthread_create(
            &handle, nil,
            { argument in
                let body = unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue()
                do { try body.run() } catch { check(false, "a thread ends without an error", saw: "\(error)") }
                return nil
            }, box.toOpaque())
        precondition(result == 0, "no thread can be made")
        self.handle = handle
    }

    func join() { _ = pthread_join(handle, nil) }
    func interrupt() { _ = pthread_kill(handle, SIGUSR1) }

    private final class Body: Sendable {
        let run: @Sendable () throws -> Void
        init(_ run: @escaping @Sendable () throws -> Void) { self.run = run }
    }
}

/// Two connected sockets in this thread.
func withPair(
    listener settings: (borrowing Socket) throws -> Void = { _ in },
    _ body: (_ client: consuming Socket, _ server: consuming Socket) throws -> Void
) throws {
    let listener = try Socket(listeningOn: Address(port: 0))
    try settings(listener)
    let client = try Socket()
    try client.setOption(.connectReturns, to: .queued)
    try client.connect(to: listener.localAddress)
    try body(client, try listener.accept())
}

/// What poll reports for one descriptor, after waiting for it with a watchdog.
func events(_ socket: borrowing Socket, _ wanted: Int32) -> Int32 {
    var item = pollfd(fd: socket.descriptor, events: Int16(wanted), revents: 0)
    _ = unsafe poll(&item, 1, 10_000)
    return Int32(item.revents)
}

func isOpen(_ descriptor: CInt) -> Bool { fcntl(descriptor, F_GETFD) >= 0 }
