import CSystem
import Glibc
@testable import SkeinCore

// Two ends of one connection in this process, over one mapping, so that the thread sanitizer sees both sides of
// every word; and the waits that the hooks make of the doorbell.

/// What both ends of a connection are to their threads.
struct Side: @unchecked Sendable {
    let end: Endpoint
    let bell: Int32

    /// Sleeps until there is something to read, or room to write; the protocol of Tests/Models.
    func wait(_ arms: Arms) {
        end.arm(arms)
        defer { end.disarm(arms) }
        fullFence()
        if isReady(arms) { return }
        // In company nobody sleeps long: another's drain may take the bell.
        var item = pollfd(fd: bell, events: end.bellEvents, revents: 0)
        var limit = timespec(tv_sec: 0, tv_nsec: end.hasOtherSleepers(than: arms) ? 5_000_000 : 200_000_000)
        guard sk_ppoll(&item, 1, &limit, nil) > 0 else { return }
        end.noticeHangUp(UInt32(UInt16(bitPattern: item.revents)))
        if !isReady(arms) && !end.drain(bell, for: arms, own: arms, isReady: { isReady(arms) }) { letOthersRun() }
    }

    private func isReady(_ arms: Arms) -> Bool {
        arms.contains(.reading) ? end.readable() > 0 || end.ending().finished : end.isWritable()
    }

    /// Writes all of it.
    func send(_ bytes: UnsafeRawBufferPointer) {
        var done = 0
        while done < bytes.count {
            let put = end.put(from: bytes.baseAddress! + done, count: bytes.count - done)
            done += put
            end.wakeReader(bell)
            if put == 0 { wait(.writing) }
        }
    }

    /// Reads up to `count` bytes; 0 at the end.
    func receive(_ bytes: UnsafeMutableRawBufferPointer) -> Int {
        while true {
            let got = end.take(into: bytes.baseAddress!, count: bytes.count, peek: false)
            if got > 0 {
                end.wakeWriter(bell)
                return got
            }
            if end.ending().finished { return 0 }
            wait(.reading)
        }
    }

    func finish() {
        end.mine.or32(Layout.state, EndState.finished)
        end.wakeAll(bell)
    }
}

struct Connection {
    let client: Side
    let server: Side

    init() {
        var pair: (Int32, Int32) = (-1, -1)
        withUnsafeMutableBytes(of: &pair) {
            _ = sk_socketpair(AF_UNIX, 5, 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
        }
        let here = Address.loopback(7)
        guard let client = greet(over: pair.0, pool: 1, dialled: here, client: here, bound: -1).endpoint else {
            fatalError("no connection can be made: is the limit of descriptors reached?")
        }
        let local = client.local.pointee
        let place = PoolSet.Place(pool: local.pool, slot: local.slotIndex, generation: local.generation)
        let server = withProcessLock {
            process.pools.use(place.pool)
            return makeEndpoint(place, end: 1)!
        }
        var hello = Hello()
        var memory: Int32 = -1
        var count: Int32 = 0
        _ = sk_receive_descriptors(pair.1, &hello, MemoryLayout<Hello>.size, &memory, 1, &count, 0)
        Glibc.close(memory)
        client.local.pointee.descriptor = pair.0
        server.local.pointee.descriptor = pair.1
        self.client = Side(end: client, bell: pair.0)
        self.server = Side(end: server, bell: pair.1)
    }

    func close() {
        for side in [client, server] {
            Glibc.close(side.bell)
            side.end.mine.add32(Layout.hint, 1)
            side.end.release(connected: true)
        }
    }
}

/// Runs the bodies at the same time, each in a thread, and waits for all.
func together(_ bodies: (@Sendable () -> Void)...) {
    let threads = bodies.map { body in
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Body(body))
        pthread_create(
            &thread, nil,
            {
                Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        return thread
    }
    for thread in threads { pthread_join(thread, nil) }
}

private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
