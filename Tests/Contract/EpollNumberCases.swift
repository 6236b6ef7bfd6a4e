import CContract
import Glibc

/// What an epoll registration belongs to: a number together with what it stands for, whatever becomes of either.
enum EpollNumberCases {
    static let cases: [Case] = duplicates + numbers + rooms + oneShots + sets

    /// A wait that ends with an event alone. It has slept before, so that the kernel knows what is waited for.
    private static func waking(_ set: EpollSet, _ body: () throws -> Void) throws -> [Ready] {
        try expect(set.wait(milliseconds: 5), [])
        let worker = Worker { try set.wait(milliseconds: -1) }
        worker.waitUntilAsleep()
        try body()
        return try worker.join()
    }

    private static let duplicates: [Case] =
        paired("of a descriptor and its duplicate in one set either can leave: data wakes who waits for the other") {
            first, second in
            let copy = try first.duplicate()
            for (leaving, staying) in [(copy, first), (first, copy)] {
                let set = try EpollSet(first.face)
                try expect(set.add(first, .readable, data: UInt64(first.fd)), 0)
                try expect(set.add(copy, .readable, data: UInt64(copy.fd)), 0)
                try expect(set.wait(milliseconds: 5), [])
                try expect(set.remove(leaving), 0)
                let ready = try waking(set) { try expect(second.write("x"), 1) }
                try expect(ready, [Ready(events: .readable, data: UInt64(staying.fd))])
                try expect(first.read(), "x")
                try expect(set.remove(leaving), .failed(ENOENT))
                try expect(set.remove(staying), 0)
            }
        }
        + paired("a descriptor and its duplicate in one set wait for different things") { first, second in
            let set = try EpollSet(first.face)
            let copy = try first.duplicate()
            try first.setNonBlocking()
            var sent = 0
            while case .value(let count) = first.write(bytes: pattern(from: sent, count: 65536)) { sent += count }
            try expect(set.add(first, .readable, data: 1), 0)
            try expect(set.add(copy, .writable, data: 2), 0)
            try expect(waking(set) { try SendCases.drain(second, sent) }, [Ready(events: .writable, data: 2)])
            try expect(set.remove(copy), 0)
            try expect(waking(set) { try expect(second.write("x"), 1) }, [Ready(events: .readable, data: 1)])
        }

    private static let numbers: [Case] =
        paired("a registration outlives its number while a duplicate lives, whatever the number stands for then") {
            first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 1), 0)
            try expect(set.wait(milliseconds: 5), [])
            let copy = try first.duplicate()
            let other = try first.face.stream()
            try expect(Outcome(first.face.dup2(other.fd, first.fd)), .value(Int(first.fd)))
            other.close()
            first.close()
            let ready = try waking(set) { try expect(second.write("x"), 1) }
            try expect(ready, [Ready(events: .readable, data: 1)])
            copy.close()
            try expect(set.wait(milliseconds: 20), [])
        }
        + paired("a number that becomes another connection's is registered again beside the first") { first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, .readable, data: 1), 0)
            let copy = try first.duplicate()
            let other = try Pair(first.face)
            try expect(Outcome(first.face.dup2(other.client.fd, first.fd)), .value(Int(first.fd)))
            try expect(set.modify(first, .readable), .failed(ENOENT))
            try expect(set.remove(first), .failed(ENOENT))
            try expect(set.add(first, .readable, data: 2), 0)
            try expect(set.add(first, .readable, data: 2), .failed(EEXIST))
            let ready = try waking(set) { try expect(other.server.write("y"), 1) }
            try expect(ready, [Ready(events: .readable, data: 2)])
            try expect(second.write("x"), 1)
            try copy.awaitReadable()
            try expect(Set(set.wait(milliseconds: 5000).map(\.data)), [1, 2])
            // By the number's old meaning it is the first's again.
            try expect(Outcome(first.face.dup2(copy.fd, first.fd)), .value(Int(first.fd)))
            try expect(set.remove(first), 0)
            try expect(set.remove(first), .failed(ENOENT))
        }
        + paired("a registration whose number is closed reports the edge of the peer's end, and the set sleeps on") {
            first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .edge], data: 1), 0)
            try expect(set.wait(milliseconds: 5), [])
            let copy = try first.duplicate()
            first.close()
            try expect(waking(set) { second.close() }.map(\.data), [1])
            while try !set.wait().isEmpty {}
            try IdleCases.sleeps { try expect(set.wait(milliseconds: 300), []) }
            copy.close()
        }
        + eachFamily("a listener whose registered number is closed is reported while a duplicate lives") {
            face, family in
            let listener = try face.listener(family)
            let set = try EpollSet(face)
            try expect(set.add(listener.sock, .readable, data: 1), 0)
            let copy = try listener.sock.duplicate()
            listener.close()
            let ready = try waking(set) { _ = try face.connected(listener.address, family) }
            try expect(ready, [Ready(events: .readable, data: 1)])
            copy.close()
        }
        + eachFamily("of a listener and its duplicate in one set either can leave") { face, family in
            let listener = try face.listener(family)
            let copy = try listener.sock.duplicate()
            let set = try EpollSet(face)
            try expect(set.add(listener.sock, .readable, data: 1), 0)
            try expect(set.add(copy, .readable, data: 2), 0)
            try expect(set.remove(listener.sock), 0)
            let ready = try waking(set) { _ = try listener.connect() }
            try expect(ready, [Ready(events: .readable, data: 2)])
        }

    private static let rooms: [Case] =
        paired("the edge of room reaches each of two sets, and each of two registrations in one") { first, second in
            let sets = [try EpollSet(first.face), try EpollSet(first.face)]
            let copy = try first.duplicate()
            try first.setNonBlocking()
            for set in sets { try expect(set.add(first, [.writable, .edge], data: 1), 0) }
            try expect(sets[0].add(copy, [.writable, .edge], data: 2), 0)
            for _ in 0..<2 {
                var sent = 0
                while case .value(let count) = first.write(bytes: pattern(from: sent, count: 65536)) { sent += count }
                for set in sets { while try !set.wait().isEmpty {} }
                try expect(first.poll(.writable), [])
                try SendCases.drain(second, sent)
                for (set, all) in zip(sets, [[1, 2], [1]] as [Set<UInt64>]) {
                    var seen: Set<UInt64> = []
                    while seen != all { seen.formUnion(try set.wait(milliseconds: 5000).map(\.data)) }
                }
                for set in sets { try expect(set.wait(), []) }
            }
        }

    private static let oneShots: [Case] =
        eachFamily("a ONESHOT listener reports once, whoever connects, until MOD") { face, family in
            /// One that has a duplicate is on the system's TCP wherever it can be.
            func connect(duplicated: Bool, _ listener: Listener) throws -> [Sock] {
                let sock = try face.stream(family)
                let copies = duplicated ? [try sock.duplicate()] : []
                try expect(sock.connect(listener.address), 0)
                return copies + [sock]
            }
            for firstIsDuplicated in [false, true] {
                let listener = try face.listener(family)
                let set = try EpollSet(face)
                try expect(set.add(listener.sock, [.readable, .oneShot], data: 7), 0)
                let ready = try waking(set) { _ = try connect(duplicated: firstIsDuplicated, listener) }
                try expect(ready, [Ready(events: .readable, data: 7)])
                _ = try connect(duplicated: !firstIsDuplicated, listener)
                try expect(set.wait(milliseconds: 20), [])
                try expect(set.modify(listener.sock, [.readable, .oneShot], data: 8), 0)
                try expect(set.wait(milliseconds: 5000), [Ready(events: .readable, data: 8)])
                try expect(set.wait(milliseconds: 20), [])
                try expect(set.modify(listener.sock, .readable, data: 9), 0)
                for _ in 0..<2 { try expect(set.wait(milliseconds: 5000), [Ready(events: .readable, data: 9)]) }
            }
        }
        + paired("a ONESHOT that reported the end reports it again after MOD, to who sleeps in the set already") {
            first, second in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .oneShot], data: 1), 0)
            second.close()
            try expect(set.wait(milliseconds: 5000).map(\.data), [1])
            let ready = try waking(set) { try expect(set.modify(first, [.readable, .oneShot], data: 2), 0) }
            try expect(ready.map(\.data), [2])
        }
        + paired("a ONESHOT set inside a set reports once, until MOD") { first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(inner.add(first, .readable), 0)
            try expect(outer.add(inner.asSock, [.readable, .oneShot], data: 1), 0)
            try expect(waking(outer) { try expect(second.write("x"), 1) }, [Ready(events: .readable, data: 1)])
            try expect(second.write("y"), 1)
            try expect(outer.wait(milliseconds: 20), [])
            try expect(outer.modify(inner.asSock, [.readable, .oneShot], data: 2), 0)
            try expect(outer.wait(milliseconds: 5000), [Ready(events: .readable, data: 2)])
            try expect(outer.wait(milliseconds: 20), [])
        }

    private static let sets: [Case] =
        paired("a set goes on by its duplicate when its first number is closed") { first, second in
            let set = try EpollSet(first.face)
            let copy = EpollSet(first.face, try set.asSock.duplicate())
            set.close()
            try expect(copy.add(first, .readable, data: 1), 0)
            try expect(waking(copy) { try expect(second.write("x"), 1) }, [Ready(events: .readable, data: 1)])
        }
        + paired("a set inside a set reports by its duplicate too when the registered number is closed") {
            first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(inner.add(first, .readable), 0)
            try expect(outer.add(inner.asSock, .readable, data: 1), 0)
            let copy = try inner.asSock.duplicate()
            inner.close()
            try expect(waking(outer) { try expect(second.write("x"), 1) }, [Ready(events: .readable, data: 1)])
            copy.close()
            try expect(outer.wait(milliseconds: 20), [])
        }
        + paired("a ONESHOT set inside a set that reported once lets it sleep, also when its number is closed") {
            first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(inner.add(first, .readable), 0)
            try expect(outer.add(inner.asSock, [.readable, .oneShot], data: 1), 0)
            let copy = try inner.asSock.duplicate()
            inner.close()
            try expect(waking(outer) { try expect(second.write("x"), 1) }, [Ready(events: .readable, data: 1)])
            try IdleCases.sleeps { try expect(outer.wait(milliseconds: 300), []) }
            copy.close()
        }
        + paired("the number of a set that was closed inside a set can be registered again") { first, second in
            let inner = try EpollSet(first.face), outer = try EpollSet(first.face)
            try expect(outer.add(inner.asSock, .readable, data: 1), 0)
            inner.close()
            let again = Sock(face: first.face, fd: inner.fd)
            try expect(Outcome(first.face.dup2(first.fd, again.fd)), .value(Int(again.fd)))
            try expect(outer.add(again, .readable, data: 2), 0)
            try expect(waking(outer) { try expect(second.write("x"), 1) }, [Ready(events: .readable, data: 2)])
        }
}
