import CContract
import Glibc

/// epoll's own rules: levels and edges, one shot, sets in sets, and what a registration outlives.
enum EpollCases {
    static let cases: [Case] = registering + edges + sets

    private static let both: Events = [.readable, .writable]

    private static let registering: [Case] =
        paired("the 64 bits of user data come back unchanged") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .writable, data: 0xFEDC_BA98_7654_3210), 0)
            try expect(set.add(second, .writable, data: .max), 0)
            let data = Set(try set.wait().map(\.data))
            try expect(data, [0xFEDC_BA98_7654_3210, .max])
        }
        + paired("adding twice is EEXIST; changing or removing what is not there is ENOENT") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable), 0)
            try expect(set.add(first, .readable), .failed(EEXIST))
            try expect(set.modify(second, .readable), .failed(ENOENT))
            try expect(set.remove(second), .failed(ENOENT))
            try expect(set.remove(first), 0)
            try expect(set.remove(first), .failed(ENOENT))
        }
        + paired("a duplicate is a registration of its own") { first, second in
            let set = try EpollSet(first.face)
            let copy = try first.duplicate()
            try expect(set.add(first, .readable, data: 1), 0)
            try expect(set.add(copy, .readable, data: 2), 0)
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(Set(set.wait().map(\.data)), [1, 2])
        }
        + paired("epoll_ctl with a closed descriptor is EBADF, with a file EPERM, with the set itself EINVAL") {
            first, _ in
            let set = try EpollSet(first.face)
            first.close()
            try expect(set.add(first, .readable), .failed(EBADF))
            try expect(set.control(EPOLL_CTL_ADD, set.fd, .readable, 0), .failed(EINVAL))
            let file = open("/proc/self/exe", O_RDONLY)
            try expect(set.control(EPOLL_CTL_ADD, file, .readable, 0), .failed(EPERM))
        }
        + paired("MOD changes the events, and at once reports what they now match") { first, _ in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 1), 0)
            try expect(set.wait(), [])
            try expect(set.modify(first, .writable, data: 2), 0)
            try expect(set.wait(), [Ready(events: .writable, data: 2)])
            try expect(set.modify(first, [], data: 2), 0)
            try expect(set.wait(), [])
        }
        + paired("DEL ends the reports") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, both), 0)
            try expect(set.remove(first), 0)
            try expect(second.write("x"), 1)
            try expect(set.wait(milliseconds: 20), [])
        }
        + paired("closing the only descriptor ends its registration") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, both), 0)
            first.close()
            try expect(second.read(), .end)
            try expect(set.wait(milliseconds: 20), [])
        }
        + paired("closing a registered descriptor that has a duplicate leaves its registration, by the old number") {
            first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 9), 0)
            let copy = try first.duplicate()
            first.close()
            try expect(second.write("x"), 1)
            try copy.awaitReadable()
            try expect(set.wait(), [Ready(events: .readable, data: 9)])
            copy.close()
            try expect(set.wait(milliseconds: 20), [])
        }
        + paired("a closed descriptor's number can be registered again for a new connection") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 1), 0)
            let other = try Pair(first.face)
            _ = first.face.dup2(other.client.fd, first.fd)
            try expect(set.add(first, .readable, data: 2), 0)
            try expect(other.server.write("x"), 1)
            try first.awaitReadable()
            try expect(set.wait(), [Ready(events: .readable, data: 2)])
        }
        + paired("a registration made before data came reports it when it comes") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .peerHalfClosed]), 0)
            try expect(set.wait(), [])
            try expect(second.write("x"), 1)
            try expect(set.wait(milliseconds: 5000).map(\.events), [.readable])
            try expect(first.read(), "x")
            try expect(set.wait(), [])
            try expect(second.shutdown(.write), 0)
            try expect(set.wait(milliseconds: 5000).map(\.events), [[.readable, .peerHalfClosed]])
        }
        + paired("epoll_wait without room is EINVAL, and on what is no set EINVAL too") { first, _ in
            let set = try EpollSet(first.face)
            var events: UInt32 = 0, data: UInt64 = 0
            try expect(Outcome(first.face.epollWait(set.fd, &events, &data, 0, 0)), .failed(EINVAL))
            try expect(Outcome(first.face.epollWait(first.fd, &events, &data, 1, 0)), .failed(EINVAL))
        }

    private static let edges: [Case] =
        paired("an edge comes once, and again with new data, though the old is unread") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .edge]), 0)
            for _ in 0..<3 {
                try expect(second.write("x"), 1)
                try expect(set.wait(milliseconds: 5000).map(\.events), [.readable])
                try expect(set.wait(), [])
            }
            try expect(first.read(), "xxx")
            try expect(set.wait(), [])
        }
        + paired("reading a part gives no new edge") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .edge]), 0)
            try expect(second.write("xyz"), 3)
            try expect(set.wait(milliseconds: 5000).count, 1)
            try expect(first.read(1), "x")
            try expect(set.wait(milliseconds: 20), [])
            try expect(second.write("!"), 1)
            try expect(set.wait(milliseconds: 5000).count, 1)
        }
        + paired("an edge for both directions names both when data comes") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .writable, .peerHalfClosed, .edge]), 0)
            try expect(set.wait().map(\.events), [.writable])
            try expect(set.wait(), [])
            try expect(second.write("x"), 1)
            try expect(set.wait(milliseconds: 5000).map(\.events), [both])
            try expect(second.shutdown(.write), 0)
            try expect(set.wait(milliseconds: 5000).map(\.events), [[.readable, .writable, .peerHalfClosed]])
            try expect(set.wait(), [])
        }
        + paired("MOD with EPOLLET arms the edge again for what is still unread") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .edge]), 0)
            try expect(second.write("x"), 1)
            try expect(set.wait(milliseconds: 5000).count, 1)
            try expect(set.wait(), [])
            try expect(set.modify(first, [.readable, .edge]), 0)
            try expect(set.wait().map(\.events), [.readable])
            try expect(set.wait(), [])
        }
        + paired("the writing edge comes when a full socket has room again") { first, second in
            let set = try EpollSet(first.face)
            try first.setNonBlocking()
            try expect(set.add(first, [.writable, .edge]), 0)
            try expect(set.wait().count, 1)
            var sent = 0
            while case .value(let count) = first.write(bytes: pattern(from: sent, count: 65536)) { sent += count }
            while try !set.wait().isEmpty {}
            try expect(first.poll(.writable), [])
            try SendCases.drain(second, sent)
            try expect(set.wait(milliseconds: 5000).map(\.events), [.writable])
            try expect(set.wait(), [])
        }
        + paired("ONESHOT reports once, until MOD") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .oneShot], data: 4), 0)
            try expect(second.write("x"), 1)
            try expect(set.wait(milliseconds: 5000), [Ready(events: .readable, data: 4)])
            try expect(second.write("y"), 1)
            try expect(set.wait(milliseconds: 20), [])
            try expect(set.modify(first, [.readable, .oneShot], data: 5), 0)
            try expect(set.wait(), [Ready(events: .readable, data: 5)])
            try expect(set.wait(), [])
        }
        + paired("a ONESHOT that fired reports not even a hang-up") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.writable, .oneShot]), 0)
            try expect(set.wait().count, 1)
            try second.lingerZero()
            second.close()
            try first.awaitReadable()
            try expect(set.wait(milliseconds: 20), [])
        }
        + paired("one edge wakes one of two threads that wait on one set") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .edge]), 0)
            let workers = (0..<2).map { _ in Worker { try set.wait(milliseconds: 300).count } }
            pause(milliseconds: 30)
            try expect(second.write("x"), 1)
            try expect(workers.map { try $0.join() }.reduce(0, +), 1)
        }

    private static let sets: [Case] =
        paired("one descriptor in two sets is reported by both") { first, second in
            let sets = [try EpollSet(first.face), try EpollSet(first.face)]
            for set in sets { try expect(set.add(first, [.readable, .edge]), 0) }
            let workers = sets.map { set in Worker { try set.wait(milliseconds: 5000).map(\.events) } }
            pause(milliseconds: 20)
            try expect(second.write("x"), 1)
            for worker in workers { try expect(worker.join(), [.readable]) }
        }
        + paired("a set inside a set reports, and inside poll and select too") { first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(inner.add(first, .readable, data: 1), 0)
            try expect(outer.add(inner.asSock, .readable, data: 2), 0)
            try expect(outer.wait(), [])
            try expect(inner.asSock.poll(.readable), [])
            try expect(second.write("x"), 1)
            try expect(outer.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
            try expect(inner.asSock.poll(.readable), .readable)
            try expect(select(inner.asSock, .read).ready, .read)
            try expect(inner.wait(), [Ready(events: .readable, data: 1)])
            try expect(first.read(), "x")
            try expect(outer.wait(), [])
            try expect(inner.asSock.poll(.readable), [])
        }
        + paired("an edge-triggered set inside a set is reported once for what comes") { first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(inner.add(first, .readable), 0)
            try expect(outer.add(inner.asSock, [.readable, .edge], data: 2), 0)
            for _ in 0..<2 {
                try expect(second.write("x"), 1)
                try expect(outer.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
                try expect(outer.wait(milliseconds: 20), [])
            }
        }
        + paired("a set inside a set reports too when a connection has left it") { first, second in
            let gone = try first.duplicate()
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(outer.add(inner.asSock, .readable, data: 2), 0)
            try expect(inner.add(gone, .readable, data: 1), 0)
            try expect(inner.add(first, .readable, data: 3), 0)
            try expect(inner.remove(gone), 0)
            try expect(second.write("x"), 1)
            try expect(outer.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
            try expect(inner.wait(milliseconds: 5000), [Ready(events: .readable, data: 3)])
        }
        + eachFamily("a set inside a set reports a connection that stands beside a listener") { face, family in
            let listener = try face.listener(family)
            let inner = try EpollSet(face), outer = try EpollSet(face)
            try expect(outer.add(inner.asSock, .readable, data: 2), 0)
            try expect(inner.add(listener.sock, .readable, data: 1), 0)
            let client = try listener.connect()
            try expect(outer.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
            try expect(inner.wait(milliseconds: 5000), [Ready(events: .readable, data: 1)])
            let server = try listener.accept()
            try expect(inner.add(server, .readable, data: 3), 0)
            try expect(outer.wait(milliseconds: 20), [])
            try expect(client.write("x"), 1)
            try expect(outer.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
            try expect(inner.wait(milliseconds: 5000), [Ready(events: .readable, data: 3)])
        }
        + paired("a thread asleep in the outer of two sets is woken by data for the inner") { first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(inner.add(first, .readable), 0)
            try expect(outer.add(inner.asSock, .readable), 0)
            let worker = Worker { try outer.wait(milliseconds: -1).count }
            pause(milliseconds: 20)
            try expect(second.write("x"), 1)
            try expect(worker.join(), 1)
        }
        + [
            Case("with room for fewer than are ready, all are reported in turn") { face in
                let pairs = try (0..<5).map { _ in try Pair(face) }
                let set = try EpollSet(face)
                for (index, pair) in pairs.enumerated() {
                    try expect(set.add(pair.client, .readable, data: UInt64(index)), 0)
                    try expect(pair.server.write("x"), 1)
                    try pair.client.awaitReadable()
                }
                var seen: [UInt64] = []
                for _ in 0..<5 {
                    let ready = try set.wait(maximum: 2)
                    try expect(ready.count, 2)
                    seen += ready.map(\.data)
                }
                try expect(Set(seen), [0, 1, 2, 3, 4])
            },
            Case("sockets, pipes and timers can share one set") { face in
                let pair = try Pair(face)
                let pipe = Pipe()
                let set = try EpollSet(face)
                try expect(set.add(pair.client, .readable, data: 1), 0)
                try expect(set.control(EPOLL_CTL_ADD, pipe.reader, .readable, 2), 0)
                try expect(set.wait(), [])
                pipe.signal()
                try expect(set.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
                try expect(pair.server.write("x"), 1)
                try pair.client.awaitReadable()
                try expect(Set(set.wait().map(\.data)), [1, 2])
            },
        ]
        + paired("a registration is added while another thread sleeps in the set, and wakes it") { first, second in
            let set = try EpollSet(first.face)
            let worker = Worker { try set.wait(milliseconds: -1) }
            pause(milliseconds: 20)
            try expect(set.add(first, .readable, data: 6), 0)
            try expect(second.write("x"), 1)
            try expect(worker.join(), [Ready(events: .readable, data: 6)])
        }
        + paired("a set made before fork works in the child, which shares it") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 8), 0)
            let child = Child { _ in
                try expect(set.wait(milliseconds: 5000), [Ready(events: .readable, data: 8)])
                try expect(first.read(), "x")
            }
            pause(milliseconds: 20)
            try expect(second.write("x"), 1)
            try child.join()
            try expect(set.wait(), [])
        }
        + paired("closing in the parent what the child still holds keeps the registration alive") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 3), 0)
            let child = Child { $0.stay() }
            first.close()
            try expect(second.write("x"), 1)
            try expect(set.wait(milliseconds: 5000), [Ready(events: .readable, data: 3)])
            child.kill()
        }
        + paired("epoll_wait without a place for events is EFAULT once there is one") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable), 0)
            try expect(Outcome(epoll_wait(set.fd, nil, 1, 0)), 0)
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(Outcome(epoll_wait(set.fd, nil, 1, 5000)), .failed(EFAULT))
            try expect(set.wait(milliseconds: 5000).count, 1)
        }
        + paired("epoll_wait's time-out passes without an event") { first, _ in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable), 0)
            let start = seconds()
            try expect(set.wait(milliseconds: 50), [])
            try expect(seconds() - start > 0.045, "50 ms of waiting", got: "\(seconds() - start) s")
        }
}
