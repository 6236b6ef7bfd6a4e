import CContract
import Glibc

/// What a socket says about itself: options, flags, kind.
enum OptionCases {
    static let cases: [Case] = fixed + settable + sizes + flags

    private static let tcp = Int32(IPPROTO_TCP)

    private static let fixed: [Case] =
        eachFamily("SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN and SO_ERROR say what each end is") { face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            let server = try listener.accept()
            for (sock, accepts) in [(client, 0), (server, 0), (listener.sock, 1)] {
                try expect(sock.option(SOL_SOCKET, SO_TYPE), .value(Int(streamType)), "SO_TYPE")
                try expect(sock.option(SOL_SOCKET, SO_DOMAIN), .value(Int(family.number)), "SO_DOMAIN")
                try expect(sock.option(SOL_SOCKET, SO_PROTOCOL), .value(family.protocolNumber), "SO_PROTOCOL")
                try expect(sock.option(SOL_SOCKET, SO_ACCEPTCONN), .value(accepts), "SO_ACCEPTCONN")
                try expect(sock.option(SOL_SOCKET, SO_ERROR), 0, "SO_ERROR")
            }
        }
        + eachFamily("fstat says that each end is a socket, and isatty that it is no terminal") { face, family in
            let pair = try Pair(face, family)
            for (_, sock, _) in pair.ends {
                var status = stat()
                try expect(Outcome(face.fstat(sock.fd, &status)), 0)
                try expect(cx_is_socket(status.st_mode) != 0, true, "S_ISSOCK")
                try expect(isatty(sock.fd), 0)
                try expect(errno, ENOTTY)
            }
        }
        + paired("SO_TYPE can be read and not set; an unknown option is ENOPROTOOPT") { first, _ in
            try expect(first.setOption(SOL_SOCKET, SO_TYPE, 1), .failed(ENOPROTOOPT))
            try expect(first.option(SOL_SOCKET, 9999), .failed(ENOPROTOOPT))
            try expect(first.setOption(tcp, 9999, 1), .failed(ENOPROTOOPT))
        }
        + paired("an option's value of negative length is EINVAL") { first, _ in
            var time = timeval(tv_sec: 1, tv_usec: 0)
            let length = socklen_t(bitPattern: -1)
            for option in [SO_RCVTIMEO, SO_RCVBUF, SO_LINGER] {
                try expect(Outcome(first.face.setsockopt(first.fd, SOL_SOCKET, option, &time, length)), .failed(EINVAL))
                var room = length
                try expect(
                    Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, option, &time, &room)), .failed(EINVAL))
            }
        }
        + paired("an option's value is cut to the room given") { first, _ in
            var value: [UInt8] = [0xEE, 0xEE, 0xEE, 0xEE]
            var length = socklen_t(1)
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, SO_TYPE, &value, &length)), 0)
            try expect(Int(length), 1)
            try expect(value, [1, 0xEE, 0xEE, 0xEE])
        }

    private struct Setting: Sendable {
        let name: String
        let level: Int32
        let option: Int32
        let value: Int32
        let initial: Int32?
    }

    /// An option, what it is at first (where Linux promises it), and a value that comes back as it was set.
    private static let settings: [Setting] = [
        Setting(name: "TCP_NODELAY", level: tcp, option: TCP_NODELAY, value: 1, initial: 0),
        Setting(name: "TCP_CORK", level: tcp, option: 3, value: 1, initial: 0),
        Setting(name: "TCP_KEEPIDLE", level: tcp, option: TCP_KEEPIDLE, value: 33, initial: 7200),
        Setting(name: "TCP_KEEPINTVL", level: tcp, option: TCP_KEEPINTVL, value: 11, initial: 75),
        Setting(name: "TCP_KEEPCNT", level: tcp, option: TCP_KEEPCNT, value: 4, initial: 9),
        Setting(name: "TCP_USER_TIMEOUT", level: tcp, option: 18, value: 5000, initial: 0),
        Setting(name: "TCP_QUICKACK", level: tcp, option: 12, value: 1, initial: nil),
        Setting(name: "TCP_NOTSENT_LOWAT", level: tcp, option: 25, value: 16384, initial: nil),
        Setting(name: "TCP_LINGER2", level: tcp, option: TCP_LINGER2, value: 20, initial: 60),
        Setting(name: "SO_KEEPALIVE", level: SOL_SOCKET, option: SO_KEEPALIVE, value: 1, initial: 0),
        Setting(name: "SO_REUSEADDR", level: SOL_SOCKET, option: SO_REUSEADDR, value: 1, initial: 0),
        Setting(name: "SO_REUSEPORT", level: SOL_SOCKET, option: SO_REUSEPORT, value: 1, initial: 0),
        Setting(name: "SO_BROADCAST", level: SOL_SOCKET, option: SO_BROADCAST, value: 1, initial: 0),
        Setting(name: "SO_OOBINLINE", level: SOL_SOCKET, option: SO_OOBINLINE, value: 1, initial: 0),
        Setting(name: "SO_DONTROUTE", level: SOL_SOCKET, option: SO_DONTROUTE, value: 1, initial: 0),
        Setting(name: "SO_PRIORITY", level: SOL_SOCKET, option: SO_PRIORITY, value: 3, initial: nil),
        Setting(name: "SO_RCVLOWAT", level: SOL_SOCKET, option: SO_RCVLOWAT, value: 9, initial: 1),
        Setting(name: "IP_TOS", level: Int32(IPPROTO_IP), option: IP_TOS, value: 16, initial: 0),
        Setting(name: "IP_TTL", level: Int32(IPPROTO_IP), option: IP_TTL, value: 33, initial: 64),
    ]

    private static let settable: [Case] =
        settings.flatMap { setting in
            let cases = ["before connect", "on a connection"].map { time in
                Case("\(setting.name), set \(time), is read back as \(setting.value)") { face in
                    let listener = try face.listener()
                    let sock = try face.stream()
                    if time == "on a connection" { try expect(sock.connect(listener.address), 0) }
                    if let initial = setting.initial {
                        try expect(sock.option(setting.level, setting.option), .value(Int(initial)), "before it is set")
                    }
                    try expect(sock.setOption(setting.level, setting.option, setting.value), 0)
                    if time == "before connect" { try expect(sock.connect(listener.address), 0) }
                    try expect(sock.option(setting.level, setting.option), .value(Int(setting.value)))
                    let server = try listener.accept()
                    try expect(server.write("123456789"), 9)
                    try expect(sock.readFully(9), "123456789")
                }
            }
            let isTCPs = setting.level != SOL_SOCKET || setting.option == SO_REUSEPORT
            return isTCPs ? cases.holding(for: [.tcp], "TCP and IP have options of their own") : cases
        }
        + paired("SO_LINGER is off at first and read back as it was set") { first, _ in
            var value = linger()
            var length = socklen_t(8)
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, SO_LINGER, &value, &length)), 0)
            try expect([value.l_onoff, value.l_linger, Int32(length)], [0, 0, 8])
            value = linger(l_onoff: 1, l_linger: 7)
            try expect(Outcome(first.face.setsockopt(first.fd, SOL_SOCKET, SO_LINGER, &value, 8)), 0)
            value = linger()
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, SO_LINGER, &value, &length)), 0)
            try expect([value.l_onoff, value.l_linger], [1, 7])
        }
        + paired("close with a lingering time returns once the peer has everything") { first, second in
            var value = linger(l_onoff: 1, l_linger: 5)
            try expect(Outcome(first.face.setsockopt(first.fd, SOL_SOCKET, SO_LINGER, &value, 8)), 0)
            try expect(first.write("last"), 4)
            first.close()
            try expect(second.readFully(4), "last")
            try expect(second.read(), .end)
        }
        + paired("SO_RCVBUF and SO_SNDBUF are positive, and twice what was asked for") { first, _ in
            for option in [SO_RCVBUF, SO_SNDBUF] {
                let initial = try first.option(SOL_SOCKET, option).value
                try expect(initial > 0, "a positive size", got: "\(initial)")
                try expect(first.setOption(SOL_SOCKET, option, 20000), 0)
                try expect(first.option(SOL_SOCKET, option), 40000)
            }
        }
        + paired("SO_RCVBUFFORCE and SO_SNDBUFFORCE pass the limit with privilege alone, and show as the others") {
            first, _ in
            for (forced, shown) in [(SO_RCVBUFFORCE, SO_RCVBUF), (SO_SNDBUFFORCE, SO_SNDBUF)] {
                let initial = first.option(SOL_SOCKET, shown)
                let result = first.setOption(SOL_SOCKET, forced, 9_000_000)
                if result != 0 { try expect(result, .failed(EPERM)) }
                try expect(first.option(SOL_SOCKET, shown), result == 0 ? 18_000_000 : initial)
                try expect(first.option(SOL_SOCKET, forced), .failed(ENOPROTOOPT))
            }
        }

    private static let sizes: [Case] =
        paired("a small SO_SNDBUF bounds what is taken, and all of it arrives") { first, second in
            try expect(first.setOption(SOL_SOCKET, SO_SNDBUF, 20000), 0)
            try expect(second.setOption(SOL_SOCKET, SO_RCVBUF, 20000), 0)
            let block = String(repeating: "b", count: 100_000)
            var taken = 0
            while case .value(let count) = first.send(block, Msg.dontWait) { taken += count }
            try expect(taken > 0 && taken < 500_000, "some bytes and fewer than 500,000", got: "\(taken)")
            let total = taken + 1_000_000
            let reader = Worker { try second.readFully(total).utf8.count }
            for _ in 0..<10 { try expect(first.write(block), 100_000) }
            try expect(reader.join(), total)
        }

    private static let flags: [Case] =
        eachFamily("descriptor and file flags stay over connect") { face, family in
            let listener = try face.listener(family)
            let sock = try face.stream(family, flags: nonBlockType | closeOnExecType)
            try expect(Outcome(face.fcntl(sock.fd, F_GETFL, 0)), .value(Int(O_RDWR | O_NONBLOCK)))
            _ = sock.connect(listener.address)
            _ = sock.poll(.writable, milliseconds: 5000)
            try expect(Outcome(face.fcntl(sock.fd, F_GETFL, 0)), .value(Int(O_RDWR | O_NONBLOCK)))
            try expect(Outcome(face.fcntl(sock.fd, F_GETFD, 0)), .value(Int(FD_CLOEXEC)))
            let plain = try listener.connect()
            try expect(Outcome(face.fcntl(plain.fd, F_GETFL, 0)), .value(Int(O_RDWR)))
            try expect(Outcome(face.fcntl(plain.fd, F_GETFD, 0)), 0)
        }
        + paired("O_NONBLOCK goes on and off through fcntl and through FIONBIO, which see each other") {
            first, second in
            var on: Int32 = 1, off: Int32 = 0
            try expect(Outcome(first.face.ioctl(first.fd, UInt(FIONBIO), &on)), 0)
            try expect(first.face.fcntl(first.fd, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK)
            try expect(first.read(), .failed(EAGAIN))
            try first.setNonBlocking(false)
            let worker = Worker { first.read() }
            pause(milliseconds: 20)
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
            try first.setNonBlocking()
            try expect(first.read(), .failed(EAGAIN))
            try expect(Outcome(first.face.ioctl(first.fd, UInt(FIONBIO), &off)), 0)
            try expect(first.face.fcntl(first.fd, F_GETFL, 0) & O_NONBLOCK, 0)
        }
        + paired("setting O_NONBLOCK does not wake a read that already sleeps") { first, second in
            let worker = Worker { first.read() }
            pause(milliseconds: 30)
            try first.setNonBlocking()
            pause(milliseconds: 30)
            try expect(second.write("x"), 1)
            try expect(worker.join(), "x")
        }
}
