import CContract
import Glibc

/// What the kernel takes for a mistake of the caller, and says so before it touches the connection.
enum RefusalCases {
    static let cases: [Case] = vectors + waits + names + descriptors + options

    private static let vectors: [Case] =
        paired("more than 1024 vectors are EINVAL, those of a message EMSGSIZE, and no byte moves") { first, second in
            var bytes = [UInt8](repeating: 7, count: 1025)
            try bytes.withUnsafeMutableBytes { room in
                var parts = (0..<1025).map { iovec(iov_base: room.baseAddress! + $0, iov_len: 1) }
                try expect(Outcome(first.face.writev(first.fd, parts, 1025)), .failed(EINVAL))
                try expect(Outcome(first.face.readv(first.fd, parts, 1025)), .failed(EINVAL))
                try expect(Outcome(first.face.writev(first.fd, parts, -1)), .failed(EINVAL))
                try parts.withUnsafeMutableBufferPointer { parts in
                    var message = msghdr()
                    message.msg_iov = parts.baseAddress
                    message.msg_iovlen = 1025
                    try expect(Outcome(first.face.sendmsg(first.fd, &message, 0)), .failed(EMSGSIZE))
                    try expect(Outcome(first.face.recvmsg(first.fd, &message, 0)), .failed(EMSGSIZE))
                    message.msg_iovlen = 1024
                    try expect(Outcome(first.face.sendmsg(first.fd, &message, 0)), 1024)
                }
            }
            try second.awaitReadable()
            while second.unreadCount() != 1024 { pause(milliseconds: 1) }
        }
        + paired("a negative length among the vectors is EINVAL") { first, _ in
            var byte: UInt8 = 0
            try withUnsafeMutableBytes(of: &byte) { room in
                var parts = [
                    iovec(iov_base: room.baseAddress, iov_len: 1), iovec(iov_base: room.baseAddress, iov_len: -1),
                ]
                try expect(Outcome(first.face.writev(first.fd, parts, 2)), .failed(EINVAL))
                try expect(Outcome(first.face.readv(first.fd, parts, 2)), .failed(EINVAL))
                try parts.withUnsafeMutableBufferPointer { parts in
                    var message = msghdr()
                    message.msg_iov = parts.baseAddress
                    message.msg_iovlen = 2
                    try expect(Outcome(first.face.sendmsg(first.fd, &message, 0)), .failed(EINVAL))
                    try expect(Outcome(first.face.recvmsg(first.fd, &message, 0)), .failed(EINVAL))
                }
            }
        }
        + paired("sendfile from a pipe or from the connection itself is EINVAL") { first, _ in
            let pipe = Pipe()
            pipe.write("pipe")
            try expect(Outcome(first.face.sendfile(first.fd, pipe.reader, nil, 4)), .failed(EINVAL))
            try expect(Outcome(first.face.sendfile(first.fd, first.fd, nil, 4)), .failed(EINVAL))
        }

    private static let waits: [Case] =
        paired("ppoll and pselect with a time that is none are EINVAL") { first, _ in
            for (seconds, nanoseconds) in [(0, 1_000_000_000), (0, -1), (-1, 0)] {
                var time = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
                var wait = pollfd(fd: first.fd, events: Int16(POLLOUT), revents: 0)
                try expect(Outcome(first.face.ppoll(&wait, 1, &time, nil)), .failed(EINVAL))
                var set = fd_set()
                cx_zero(&set)
                cx_set(first.fd, &set)
                try expect(Outcome(pselect(first.fd + 1, nil, &set, nil, &time, nil)), .failed(EINVAL))
            }
        }
        + paired("EPOLLEXCLUSIVE is only for adding, goes with few other flags, and can't be changed") { first, _ in
            let set = try EpollSet(first.face)
            try expect(set.add(first, [.readable, .exclusive, .oneShot]), .failed(EINVAL))
            try expect(set.add(first, [.readable, .exclusive, .edge]), 0)
            try expect(set.modify(first, .readable), .failed(EINVAL))
            try expect(set.remove(first), 0)
            try expect(set.add(first, .readable), 0)
            try expect(set.modify(first, [.readable, .exclusive]), .failed(EINVAL))
        }

    private static let negative = socklen_t.max

    private static let names: [Case] =
        (paired("getsockname and getpeername take no negative length") { first, _ in
            try withUnsafeTemporaryAllocation(of: sockaddr.self, capacity: 1) { room in
                var length = negative
                try expect(Outcome(first.face.getsockname(first.fd, room.baseAddress!, &length)), .failed(EINVAL))
                try expect(Outcome(first.face.getpeername(first.fd, room.baseAddress!, &length)), .failed(EINVAL))
            }
        }
        + eachFamily("accept takes no negative length") { face, family in
            let listener = try face.listener(family)
            let client = try listener.connect()
            try withUnsafeTemporaryAllocation(of: sockaddr.self, capacity: 1) { room in
                var length = negative
                try expect(Outcome(face.accept(listener.sock.fd, room.baseAddress!, &length)), .failed(EINVAL))
            }
            client.close()
        }
        + paired("connect to no address, or to less than a family, is EINVAL; a whole one is EISCONN") { first, _ in
            let address = first.peerName().address
            let results = address.with { pointer, length in
                [0, 1, length].map { Outcome(first.face.connect(first.fd, pointer, $0)) }
            }
            try expect(results, [.failed(EINVAL), .failed(EINVAL), .failed(EISCONN)])
        }).holding(for: [.tcp], "STP's calls have addresses of their own")

    private static let descriptors: [Case] =
        paired("close_range with a flag that it doesn't know is EINVAL and closes nothing") { first, second in
            try expect(Outcome(close_range(UInt32(first.fd), UInt32(first.fd), 64)), .failed(EINVAL))
            try expect(first.write("x"), 1)
            try expect(second.read(), "x")
        }
        + paired("SIOCOUTQNSD counts what has not been sent, and sockatmark says where the urgent byte is") {
            first, second in
            var count: Int32 = -1
            try expect(Outcome(first.face.ioctl(first.fd, 0x894B, &count)), 0)
            try expect(count, 0)
            try expect(first.send("a"), 1)
            try expect(first.send("!", Msg.outOfBand), 1)
            _ = second.settle([.readable, .priority, .writable])
            try expect(sockatmark(second.fd), 0)
            try expect(second.read(), "a")
            try expect(sockatmark(second.fd), 1)
        }

    private static let tcp = Int32(IPPROTO_TCP)

    private static let options: [Case] =
        (paired("values out of TCP's ranges are EINVAL, and change nothing") { first, _ in
            for (option, value) in [
                (TCP_KEEPIDLE, 0), (TCP_KEEPIDLE, 32768), (TCP_KEEPINTVL, -1), (TCP_KEEPCNT, 128), (18, -1), (7, 128),
            ] as [(Int32, Int32)] {
                let before = first.option(tcp, option)
                try expect(first.setOption(tcp, option, value), .failed(EINVAL), "option \(option)")
                try expect(first.option(tcp, option), before, "option \(option)")
            }
        }
        + paired("a congestion control and an upper protocol that nobody has are ENOENT") { first, _ in
            for option: Int32 in [13, 31] {
                let result = "nosuch".withCString { first.face.setsockopt(first.fd, tcp, option, $0, 6) }
                try expect(Outcome(result), .failed(ENOENT))
            }
        }
        + paired("SO_ORIGINAL_DST says that the connection was not redirected") { first, _ in
            var room = [UInt8](repeating: 0, count: 16)
            var length = socklen_t(16)
            let result = Outcome(first.face.getsockopt(first.fd, 0, 80, &room, &length))
            // The second where the kernel has no connection tracking.
            try expect([.failed(ENOENT), .failed(ENOPROTOOPT)].contains(result), "ENOENT", got: "\(result)")
        }
        + paired("SO_COOKIE is a number of eight bytes, another for each end") { first, second in
            var cookies: [UInt64] = []
            for sock in [first, second] {
                var cookie: UInt64 = 0
                var length = socklen_t(8)
                try expect(Outcome(sock.face.getsockopt(sock.fd, SOL_SOCKET, 57, &cookie, &length)), 0)
                try expect(length, 8)
                cookies.append(cookie)
            }
            try expect(cookies[0] != 0 && cookies[0] != cookies[1], "two numbers", got: "\(cookies)")
        }
        + paired("SO_PEERNAME is getpeername") { first, _ in
            let peer = first.peerName().address
            var room = [UInt8](repeating: 0, count: peer.bytes.count)
            var length = socklen_t(room.count)
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, 28, &room, &length)), 0)
            try expect(Address(bytes: room), peer)
        }
        + paired("SO_PEERCRED knows no process behind TCP, SO_PEERSEC nothing; SO_SNDLOWAT is 1, IP_MTU loopback's") {
            first, _ in
            var credentials: [UInt32] = [9, 9, 9]
            var length = socklen_t(12)
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length)), 0)
            try expect(credentials, [0, UInt32.max, UInt32.max])
            try expect(first.option(SOL_SOCKET, SO_PEERSEC), .failed(ENOPROTOOPT))
            try expect(first.option(SOL_SOCKET, SO_SNDLOWAT), 1)
            let mtu = first.option(0, 14)
            try expect([65535, 65536].contains(mtu), "65535, or IPv6's 65536", got: "\(mtu)")
        }
        + paired("an option of no protocol is refused") { first, _ in
            try expect(first.setOption(0, 9999, 1), .failed(ENOPROTOOPT))
            try expect(first.setOption(17, 1, 1), .failed(ENOPROTOOPT))
        }
        + paired("an option's room is no negative length") { first, _ in
            var value: Int32 = 0
            var length = negative
            try expect(Outcome(first.face.getsockopt(first.fd, SOL_SOCKET, SO_TYPE, &value, &length)), .failed(EINVAL))
        }).holding(for: [.tcp], "TCP and IP have options of their own")
}
