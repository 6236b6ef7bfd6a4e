import CContract
import Glibc

/// poll, ppoll and select as calls: arrays, time-outs, masks, and what a signal does to them and to others.
enum SelectCases {
    static let cases: [Case] = arrays + timeouts + signals

    private static let arrays: [Case] =
        paired("poll counts the ready ones of an array, skips negative descriptors, and flags closed ones") {
            first, second in
            let pipe = Pipe()
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            let closed = try first.duplicate()
            closed.close()
            var waits = [
                pollfd(fd: first.fd, events: Int16(POLLIN), revents: -1),
                pollfd(fd: -1, events: Int16(POLLIN), revents: -1),
                pollfd(fd: second.fd, events: Int16(POLLIN), revents: -1),
                pollfd(fd: closed.fd, events: Int16(POLLIN), revents: -1),
                pollfd(fd: pipe.writer, events: Int16(POLLOUT), revents: -1),
                pollfd(fd: first.fd, events: Int16(POLLOUT), revents: -1),
            ]
            try expect(Outcome(first.face.poll(&waits, 6, 0)), 4)
            try expect(
                waits.map { Int32($0.revents) }, [Int32(POLLIN), 0, 0, Int32(POLLNVAL), Int32(POLLOUT), Int32(POLLOUT)])
        }
        + paired("poll of nothing is a sleep") { first, _ in
            var none = pollfd()
            let start = seconds()
            try expect(Outcome(first.face.poll(&none, 0, 30)), 0)
            try expect(seconds() - start > 0.025, "30 ms of waiting", got: "\(seconds() - start) s")
        }
        + paired("select counts a descriptor once for each set it is ready in") { first, second in
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            let result = select(first, [.read, .write, .exceptional])
            try expect(result.count, 2)
            try expect(result.ready, [.read, .write])
        }
        + paired("select clears what is not ready") { first, _ in
            let result = select(first, .read)
            try expect(result.count, 0)
            try expect(result.ready, [])
        }
        + paired("select on a closed descriptor is EBADF") { first, _ in
            first.close()
            try expect(select(first, .read).count, .failed(EBADF))
        }
        + [
            Case("poll over 200 connections finds each that became ready") { face in
                var limit = rlimit()
                getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
                if limit.rlim_cur < 500 { throw Skip(reason: "fewer than 500 descriptors allowed") }
                let pairs = try (0..<200).map { _ in try Pair(face) }
                for chosen in [0, 1, 57, 199] {
                    try expect(pairs[chosen].server.write("x"), 1)
                    var waits = pairs.map { pollfd(fd: $0.client.fd, events: Int16(POLLIN), revents: 0) }
                    try expect(Outcome(face.poll(&waits, 200, 5000)), 1)
                    try expect(waits.firstIndex { $0.revents != 0 }, chosen)
                    try expect(pairs[chosen].client.read(), "x")
                }
            },
            Case("a thread asleep over 100 connections in poll is woken by any of them") { face in
                let pairs = try (0..<100).map { _ in try Pair(face) }
                for chosen in [0, 50, 99] {
                    let worker = Worker {
                        var waits = pairs.map { pollfd(fd: $0.client.fd, events: Int16(POLLIN), revents: 0) }
                        let count = face.poll(&waits, 100, -1)
                        return count == 1 ? waits.firstIndex { $0.revents != 0 } : nil
                    }
                    pause(milliseconds: 10)
                    try expect(pairs[chosen].server.write("x"), 1)
                    try expect(worker.join(), chosen)
                    try expect(pairs[chosen].client.read(), "x")
                }
            },
        ]

    private static let timeouts: [Case] =
        paired("select, poll and ppoll return 0 when their time has passed, and not before") { first, _ in
            var wait = pollfd(fd: first.fd, events: Int16(POLLIN), revents: -1)
            var time = timespec(tv_sec: 0, tv_nsec: 40_000_000)
            let calls: [(String, () -> Outcome)] = [
                ("select", { select(first, .read, milliseconds: 40).count }),
                ("poll", { Outcome(first.face.poll(&wait, 1, 40)) }),
                ("ppoll", { Outcome(first.face.ppoll(&wait, 1, &time, nil)) }),
            ]
            for (name, call) in calls {
                let start = seconds()
                try expect(call(), 0, name)
                try expect(seconds() - start > 0.035, "40 ms in \(name)", got: "\(seconds() - start) s")
            }
            try expect(wait.revents, 0)
        }
        + paired("select writes the time left into its time-out") { first, second in
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            var set = fd_set()
            cx_zero(&set)
            cx_set(first.fd, &set)
            var time = timeval(tv_sec: 100, tv_usec: 0)
            try expect(Outcome(first.face.select(first.fd + 1, &set, nil, nil, &time)), 1)
            try expect(time.tv_sec >= 90 && time.tv_sec <= 100, "nearly 100 s left", got: "\(time.tv_sec)")
        }
        + paired("poll and ppoll with more items than RLIMIT_NOFILE are EINVAL") { first, _ in
            var wait = pollfd(fd: first.fd, events: Int16(POLLOUT), revents: 0)
            for count in [nfds_t(UInt32.max), nfds_t.max] {
                try expect(Outcome(first.face.poll(&wait, count, 0)), .failed(EINVAL))
                try expect(Outcome(first.face.ppoll(&wait, count, nil, nil)), .failed(EINVAL))
            }
            var items = [pollfd](repeating: wait, count: 100)
            try expect(Outcome(first.face.poll(&items, 100, -1)), 100)
        }
        + paired("a negative time in select is EINVAL") { first, _ in
            var set = fd_set()
            cx_zero(&set)
            cx_set(first.fd, &set)
            var time = timeval(tv_sec: -1, tv_usec: 0)
            try expect(Outcome(first.face.select(first.fd + 1, &set, nil, nil, &time)), .failed(EINVAL))
        }

    private struct Sleeper: Sendable {
        let name: String
        /// Whether SA_RESTART lets it go on; signal(7) says that poll and its kin never do.
        let restarts: Bool
        let call: @Sendable (Sock) -> String
    }

    private static let sleepers: [Sleeper] = [
        Sleeper(name: "read", restarts: true) { $0.read().description },
        Sleeper(name: "recvmsg", restarts: true) { $0.recvmsg().description },
        Sleeper(name: "readv", restarts: true) { $0.readv().description },
        Sleeper(name: "read with SO_RCVTIMEO", restarts: false) { sock in
            try? sock.setTimeout(SO_RCVTIMEO, milliseconds: 5000)
            return sock.read().description
        },
        Sleeper(name: "poll", restarts: false) { sock in
            var wait = pollfd(fd: sock.fd, events: Int16(POLLIN), revents: 0)
            return Outcome(sock.face.poll(&wait, 1, -1)).description
        },
        Sleeper(name: "select", restarts: false) { select($0, .read, milliseconds: nil).count.description },
        Sleeper(name: "epoll_wait", restarts: false) { sock in
            guard let set = try? EpollSet(sock.face), set.add(sock, .readable) == 0 else { return "no set" }
            var events: UInt32 = 0, data: UInt64 = 0
            return Outcome(sock.face.epollWait(set.fd, &events, &data, 1, -1)).description
        },
    ]

    /// The one of them that module Skein has as a call of its own.
    private static let skeinReceive = Sleeper(name: "recv", restarts: true) { $0.recv().description }

    private static func interrupted(_ sleeper: Sleeper, restart: Bool, goesOn: Bool) -> [Case] {
        let sentence =
            "\(sleeper.name), interrupted by a signal \(restart ? "with" : "without") SA_RESTART, "
            + (goesOn ? "goes on and reads" : "is EINTR")
        return paired(sentence) { first, second in
            SignalCount.start(SIGUSR1, flags: restart ? SA_RESTART : 0)
            let worker = Worker { sleeper.call(first) }
            worker.interrupt(SIGUSR1)
            if goesOn {
                pause(milliseconds: 20)
                try expect(second.write("x"), 1)
            }
            try expect(worker.join(), goesOn ? "x" : "EINTR")
            try expect(SignalCount.value, 1, "deliveries")
        }
    }

    /// An accept that waits in a thread and has met a signal.
    private static func interruptedAccept(_ listener: Listener) throws -> Worker<Outcome> {
        SignalCount.start(SIGUSR1, flags: 0)
        let worker = Worker { Outcome(listener.sock.face.accept(listener.sock.fd, nil, nil)) }
        worker.interrupt(SIGUSR1)
        return worker
    }

    private static let signals: [Case] =
        sleepers.flatMap { sleeper in
            interrupted(sleeper, restart: true, goesOn: sleeper.restarts)
                + interrupted(sleeper, restart: false, goesOn: false)
        }
        + interrupted(skeinReceive, restart: false, goesOn: false)
        .holding(for: [.tcp, .stp], DifferenceCases.restarting)
        + interrupted(skeinReceive, restart: false, goesOn: true).holding(for: [.swift], DifferenceCases.restarting)
        + interrupted(skeinReceive, restart: true, goesOn: true)
        + eachFamily("accept, interrupted by a signal without SA_RESTART, is EINTR") { face, family in
            let worker = try interruptedAccept(face.listener(family))
            try expect(worker.join(), .failed(EINTR))
        }.holding(for: [.tcp, .stp], DifferenceCases.restarting)
        + eachFamily("accept, interrupted by a signal without SA_RESTART, goes on and accepts") { face, family in
            let listener = try face.listener(family)
            let worker = try interruptedAccept(listener)
            pause(milliseconds: 20)
            let client = try listener.connect()
            let server = Sock(face: face, fd: Int32(try worker.join().value))
            try expect(client.write("x"), 1)
            try expect(server.read(), "x")
        }.holding(for: [.swift], DifferenceCases.restarting)
        + eachFamily("accept, interrupted by a signal with SA_RESTART, goes on and accepts") { face, family in
            let listener = try face.listener(family)
            SignalCount.start(SIGUSR1, flags: SA_RESTART)
            let worker = Worker { Outcome(face.accept(listener.sock.fd, nil, nil)) }
            worker.interrupt(SIGUSR1)
            pause(milliseconds: 20)
            let client = try listener.connect()
            let server = Sock(face: face, fd: Int32(try worker.join().value))
            try expect(client.write("x"), 1)
            try expect(server.read(), "x")
        }
        + paired("one of two blocked readers, interrupted by a signal with SA_RESTART, goes on and reads") {
            first, second in
            SignalCount.start(SIGUSR1, flags: SA_RESTART)
            let workers = [Worker { first.read(1) }, Worker { first.read(1) }]
            workers[1].interrupt(SIGUSR1)
            pause(milliseconds: 20)
            try expect(second.write("xx"), 2)
            for worker in workers { try expect(worker.join(), "x") }
        }
        + paired("a blocked write, interrupted by a signal, returns what it had sent") { first, second in
            SignalCount.start(SIGUSR1, flags: 0)
            let worker = SendCases.blockedWrite(first)
            worker.interrupt(SIGUSR1)
            let sent = try worker.join().value
            try expect(sent > 0 && sent < 64 << 20, "a part of 64 MiB", got: "\(sent)")
            try SendCases.drain(second, sent)
        }
        + paired("MSG_WAITALL, interrupted by a signal with or without SA_RESTART, returns what had come") {
            first, second in
            for flags in [0, SA_RESTART] {
                SignalCount.start(SIGUSR1, flags: flags)
                try expect(second.write("abc"), 3)
                let worker = Worker { first.recv(9, Msg.waitAll) }
                while first.unreadCount() != 0 { pause(milliseconds: 1) }
                worker.interrupt(SIGUSR1)
                try expect(worker.join(), "abc")
            }
        }
        + paired("ppoll lets in a blocked signal while it waits, and blocks it again") { first, _ in
            var blocked = sigset_t(), open = sigset_t(), pending = sigset_t()
            sigemptyset(&blocked)
            sigaddset(&blocked, SIGUSR1)
            sigemptyset(&open)
            sigprocmask(SIG_BLOCK, &blocked, nil)
            SignalCount.start(SIGUSR1, flags: 0)
            raise(SIGUSR1)
            try expect(first.poll(.readable, milliseconds: 20), [], "poll leaves the signal out")
            try expect(SignalCount.value, 0)
            var wait = pollfd(fd: first.fd, events: Int16(POLLIN), revents: 0)
            try expect(Outcome(first.face.ppoll(&wait, 1, nil, &open)), .failed(EINTR))
            try expect(SignalCount.value, 1)
            raise(SIGUSR1)
            sigpending(&pending)
            try expect(sigismember(&pending, SIGUSR1), 1)
        }
        + paired("ppoll with something to report lets no blocked signal in") { first, second in
            var blocked = sigset_t(), open = sigset_t()
            sigemptyset(&blocked)
            sigaddset(&blocked, SIGUSR1)
            sigemptyset(&open)
            sigprocmask(SIG_BLOCK, &blocked, nil)
            SignalCount.start(SIGUSR1, flags: 0)
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            raise(SIGUSR1)
            // Where the library has just asked the kernel it doesn't ask again.
            pause(milliseconds: 1)
            var wait = pollfd(fd: first.fd, events: Int16(POLLIN), revents: 0)
            try expect(Outcome(first.face.ppoll(&wait, 1, nil, &open)), 1)
            try expect(SignalCount.value, 0)
        }
        + paired("an alarm ends a blocking read in a process of one thread") { first, _ in
            SignalCount.start(SIGALRM, flags: 0)
            ualarm(30_000, 0)
            try expect(first.read(), .failed(EINTR))
            try expect(SignalCount.value, 1)
        }
}
