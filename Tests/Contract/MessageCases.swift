import CContract
import Glibc

/// The rarer ways in and out: stdio, sendfile, several messages at once, who hears of urgent data.
enum MessageCases {
    static let cases: [Case] = stdio + files + several + owners

    private static let stdio: [Case] =
        paired("stdio writes lines to a socket and reads the peer's") { first, second in
            let output = fdopen(first.fd, "w")!
            let copy = try first.duplicate()
            let input = fdopen(copy.fd, "r")!
            try expect(cx_fprintf(output, "line", 1), 7)
            try expect(second.recv(1, Msg.dontWait), .failed(EAGAIN), "before fflush")
            _ = cx_fprintf(output, "line", 2)
            try expect(fflush(output), 0)
            try expect(second.readFully(14), "line 1\nline 2\n")
            try expect(second.write("first\nsec"), 9)
            var line = [CChar](repeating: 0, count: 100)
            try expect(fgets(&line, 100, input) != nil, true)
            try expect(strcmp(line, "first\n"), 0)
            try expect(second.write("ond\n"), 4)
            try expect(fgets(&line, 100, input) != nil, true)
            try expect(strcmp(line, "second\n"), 0)
            try expect(second.shutdown(.write), 0)
            try expect(fgets(&line, 100, input) == nil, true)
            try expect(feof(input) != 0, true, "feof")
        }
        + paired("fclose flushes and ends the connection") { first, second in
            let output = fdopen(first.fd, "w")!
            _ = cx_fprintf(output, "last", 1)
            try expect(fclose(output), 0)
            try expect(second.readFully(7), "last 1\n")
            try expect(second.read(), .end)
        }
        + paired("two FILEs on one descriptor both know it, also when one is closed; neither has a position") {
            first, _ in
            let input = fdopen(first.fd, "r")!
            let output = fdopen(first.fd, "w")!
            try expect([fileno(input), fileno(output)], [first.fd, first.fd])
            try expect(Outcome(ftell(input)), .failed(ESPIPE))
            try expect(Outcome(fseek(output, 0, SEEK_SET)), .failed(ESPIPE))
            try expect(fclose(input), 0)
            try expect(fileno(output), first.fd)
        }
        + paired("what is printed goes to the connection that stands on standard output, and elsewhere afterwards") {
            first, second in
            let pipe = Pipe()
            let saved = dup(1)
            _ = cx_fprintf(cx_standard_output(), "unsent", 1)
            try expect(first.face.dup2(first.fd, 1), 1)
            try expect(cx_fprintf(cx_standard_output(), "line", 2), 7)
            try expect(fileno(cx_standard_output()), 1)
            try expect(fflush(cx_standard_output()), 0)
            try expect(second.readFully(16), "unsent 1\nline 2\n")
            try expect(dup2(pipe.writer, 1), 1)
            try expect(cx_fprintf(cx_standard_output(), "away", 3), 7)
            try expect(fflush(cx_standard_output()), 0)
            var room = [UInt8](repeating: 0, count: 9)
            try expect(Received(Glibc.read(pipe.reader, &room, 9), room), "away 3\n")
            try expect(first.write("x"), 1)
            try expect(second.read(), "x")
            try expect(dup2(saved, 1), 1)
        }
        + paired("what comes through the connection on standard input is read by stdio") { first, second in
            try expect(first.face.dup2(first.fd, 0), 0)
            try expect(second.write("a line\n"), 7)
            var line = [CChar](repeating: 0, count: 100)
            try expect(fgets(&line, 100, cx_standard_input()) != nil, true)
            try expect(strcmp(line, "a line\n"), 0)
        }
        + paired("a megabyte through fwrite and fread arrives whole") { first, second in
            let bytes = pattern(from: 5, count: 1 << 20)
            let worker = Worker {
                let output = fdopen(first.fd, "w")!
                let count = fwrite(bytes, 1, bytes.count, output)
                fclose(output)
                return count
            }
            let input = fdopen(second.fd, "r")!
            var got = [UInt8](repeating: 0, count: bytes.count + 1)
            try expect(fread(&got, 1, got.count, input), bytes.count)
            try expect(worker.join(), bytes.count)
            try expect(Array(got.dropLast()) == bytes, "the bytes that were written", got: "others")
        }

    /// An unlinked file that holds that much of the pattern.
    private static func file(_ count: Int) throws -> Int32 {
        var path = Array("/tmp/contract-XXXXXX".utf8CString)
        let fd = mkstemp(&path)
        unlink(path)
        try expect(Outcome(Glibc.write(fd, pattern(from: 0, count: count), count)), .value(count))
        return fd
    }

    private static let files: [Case] =
        paired("sendfile sends a file and moves its offset") { first, second in
            let count = 1 << 20
            let fd = try file(count)
            let worker = Worker {
                var bytes = [UInt8](repeating: 0, count: count)
                let got = second.face.recv(second.fd, &bytes, count, Msg.waitAll)
                return got == count && bytes == pattern(from: 0, count: count)
            }
            var offset = off_t(0)
            while offset < count {
                let sent = try Outcome(first.face.sendfile(first.fd, fd, &offset, count - Int(offset))).value
                try expect(sent > 0, "progress", got: "\(sent)")
            }
            try expect(Int(offset), count)
            try expect(Int(lseek(fd, 0, SEEK_CUR)), count, "the file's own offset, untouched")
            try expect(worker.join(), true, "the file's bytes")
        }
        + paired("sendfile without an offset starts at the file's own and moves that") { first, second in
            let fd = try file(100)
            lseek(fd, 90, SEEK_SET)
            try expect(Outcome(first.face.sendfile(first.fd, fd, nil, 50)), 10)
            try expect(Int(lseek(fd, 0, SEEK_CUR)), 100)
            try expect(Outcome(first.face.sendfile(first.fd, fd, nil, 50)), 0)
            var bytes = [UInt8](repeating: 0, count: 20)
            try expect(Outcome(second.face.read(second.fd, &bytes, 20)), 10)
            try expect(Array(bytes.prefix(10)), pattern(from: 90, count: 10))
        }
        + paired("sendfile to a full non-blocking socket is EAGAIN, and EPIPE after the own half-close") {
            first, second in
            cx_ignore_signal(SIGPIPE)
            let fd = try file(1 << 20)
            try first.setNonBlocking()
            var total = 0
            filling: while true {
                var offset = off_t(0)
                switch Outcome(first.face.sendfile(first.fd, fd, &offset, 1 << 20)) {
                case .value(let count): total += count
                case .failed(let code):
                    try expect(code, EAGAIN)
                    break filling
                }
            }
            try SendCases.drain(second, total)
            try expect(first.shutdown(.write), 0)
            var offset = off_t(0)
            try expect(Outcome(first.face.sendfile(first.fd, fd, &offset, 10)), .failed(EPIPE))
        }

    private static let several: [Case] =
        paired("sendmmsg sends several messages, recvmmsg receives them as one stream") { first, second in
            var bytes = Array("abcdef".utf8)
            let sent = bytes.withUnsafeMutableBytes { room in
                batch(room, lengths: [1, 2, 3]) { first.face.sendmmsg(first.fd, $0, 3, 0) }
            }
            try expect(sent.result, 3)
            try expect(sent.lengths, [1, 2, 3])
            while second.unreadCount() != 6 { pause(milliseconds: 1) }
            var room = [UInt8](repeating: 0, count: 8)
            let got = room.withUnsafeMutableBytes { room in
                batch(room, lengths: [4, 4]) { second.face.recvmmsg(second.fd, $0, 2, Msg.dontWait, nil) }
            }
            try expect(got.result, 2)
            try expect(got.lengths, [4, 2])
            try expect(String(decoding: room.prefix(6), as: UTF8.self), "abcdef")
        }
        + paired("recvmmsg with MSG_WAITFORONE returns after the first message") { first, second in
            try expect(second.write("abc"), 3)
            try first.awaitReadable()
            var room = [UInt8](repeating: 0, count: 8)
            let got = room.withUnsafeMutableBytes { room in
                batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, cxMsgWaitForOne, nil) }
            }
            try expect(got.result, 1)
            try expect(got.lengths[0], 3)
        }
        + paired("sendmsg and recvmsg without any vector move nothing, and take nothing") { first, second in
            var message = msghdr()
            try expect(Outcome(first.face.sendmsg(first.fd, &message, 0)), 0)
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(Outcome(first.face.recvmsg(first.fd, &message, Msg.dontWait)), 0)
            try expect(first.read(), "x")
        }
        + paired("recvmmsg waits for all its messages, or until its time is over when a message comes") {
            first, second in
            let worker = Worker {
                var room = [UInt8](repeating: 0, count: 8)
                return room.withUnsafeMutableBytes { room in
                    batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, 0, nil) }.result
                }
            }
            try expect(second.write("abc"), 3)
            pause(milliseconds: 30)
            try expect(second.write("def"), 3)
            try expect(worker.join(), 2)
            try expect(second.write("ghi"), 3)
            var time = timespec(tv_sec: 0, tv_nsec: 1)
            var room = [UInt8](repeating: 0, count: 8)
            let got = room.withUnsafeMutableBytes { room in
                batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, 0, &time) }
            }
            try expect(got.result, 1)
            try expect([time.tv_sec, time.tv_nsec], [0, 0])
            time.tv_nsec = -1
            let refused = room.withUnsafeMutableBytes { room in
                batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, 0, &time) }
            }
            try expect(refused.result, .failed(EINVAL))
        }
        + paired("recvmmsg of an empty non-blocking socket is EAGAIN") { first, _ in
            var room = [UInt8](repeating: 0, count: 8)
            let got = room.withUnsafeMutableBytes { room in
                batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, Msg.dontWait, nil) }
            }
            try expect(got.result, .failed(EAGAIN))
        }

        + paired("recvmmsg reports a pending error before what is unread") { first, second in
            try expect(second.write("abc"), 3)
            try second.lingerZero()
            second.close()
            try expect(first.poll([], milliseconds: 5000).contains(.error), true)
            func receive() -> (result: Outcome, lengths: [Int]) {
                var room = [UInt8](repeating: 0, count: 8)
                return room.withUnsafeMutableBytes { room in
                    batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, 0, nil) }
                }
            }
            try expect(receive().result, .failed(ECONNRESET))
            let got = receive()
            try expect(got.result, 2)
            try expect(got.lengths, [3, 0])
        }
        + paired("recvmmsg leaves a reset that comes behind a message to the next call") { first, second in
            let worker = Worker {
                var room = [UInt8](repeating: 0, count: 8)
                return room.withUnsafeMutableBytes { room in
                    batch(room, lengths: [4, 4]) { first.face.recvmmsg(first.fd, $0, 2, 0, nil) }.result
                }
            }
            try expect(second.write("abc"), 3)
            pause(milliseconds: 30)
            try second.lingerZero()
            second.close()
            try expect(worker.join(), 1)
            try expect(first.read(), .failed(ECONNRESET))
            try expect(first.read(), .end)
        }
        + paired("readv and writev of no bytes are 0, however the connection stands") { first, second in
            cx_ignore_signal(SIGPIPE)
            func moveNothing(_ place: String) throws {
                let parts = [iovec](repeating: iovec(), count: 2)
                for count: Int32 in [0, 1, 2] {
                    try expect(Outcome(first.face.readv(first.fd, parts, count)), 0, place)
                    try expect(Outcome(first.face.writev(first.fd, parts, count)), 0, place)
                }
            }
            try moveNothing("while nothing comes")
            try expect(first.shutdown(.write), 0)
            try moveNothing("after the own half-close")
            try second.lingerZero()
            second.close()
            try expect(first.poll([], milliseconds: 5000).contains(.error), true)
            try moveNothing("after a reset")
            try expect(first.pendingError(), "ECONNRESET")
        }
        + paired("recvmsg gives MSG_CMSG_CLOEXEC back") { first, second in
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(first.receive(into: [1], Msg.closeOnExec), Message(count: 1, bytes: "x", flags: Msg.closeOnExec))
        }

    /// Lays messages of those lengths over the room, one after the other.
    private static func batch(
        _ room: UnsafeMutableRawBufferPointer, lengths: [Int], _ call: (UnsafeMutablePointer<cx_mmsghdr>) -> Int32
    ) -> (result: Outcome, lengths: [Int]) {
        var parts: [iovec] = []
        for length in lengths {
            let start = parts.reduce(0) { $0 + $1.iov_len }
            parts.append(iovec(iov_base: room.baseAddress! + start, iov_len: length))
        }
        return parts.withUnsafeMutableBufferPointer { parts in
            var messages = parts.indices.map { index in
                var message = cx_mmsghdr()
                message.header.msg_iov = parts.baseAddress! + index
                message.header.msg_iovlen = 1
                return message
            }
            let result = messages.withUnsafeMutableBufferPointer { Outcome(call($0.baseAddress!)) }
            return (result, messages.map { Int($0.length) })
        }
    }

    private static let owners: [Case] =
        paired("each urgent send signals SIGURG to the owner, and other data doesn't") { first, second in
            SignalCount.start(SIGURG, flags: SA_RESTART)
            try expect(Outcome(first.face.fcntl(first.fd, F_SETOWN, getpid())), 0)
            try expect(second.write("plain"), 5)
            try expect(first.read(), "plain")
            for round in 1...20 {
                try expect(SignalCount.value, Int32(round - 1))
                try expect(second.send("!", Msg.outOfBand), 1)
                try SignalCount.wait(for: Int32(round))
                try expect(first.recv(1, Msg.outOfBand), "!")
            }
        }
        + paired("without an owner there is no SIGURG, nor once it is taken back") { first, second in
            SignalCount.start(SIGURG, flags: SA_RESTART)
            try expect(second.send("!", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            try expect(first.recv(1, Msg.outOfBand), "!")
            try expect(Outcome(first.face.fcntl(first.fd, F_SETOWN, getpid())), 0)
            try expect(Outcome(first.face.fcntl(first.fd, F_SETOWN, 0)), 0)
            try expect(second.send("!", Msg.outOfBand), 1)
            try expect(first.poll(.priority, milliseconds: 5000), .priority)
            pause(milliseconds: 20)
            try expect(SignalCount.value, 0)
        }
        + paired("SIGURG comes also where the urgent byte is read in its place") { first, second in
            SignalCount.start(SIGURG, flags: SA_RESTART)
            try expect(first.setOption(SOL_SOCKET, SO_OOBINLINE, 1), 0)
            try expect(Outcome(first.face.fcntl(first.fd, F_SETOWN, getpid())), 0)
            for round in 1...20 {
                try expect(second.send("!", Msg.outOfBand), 1)
                try SignalCount.wait(for: Int32(round))
                try expect(first.readFully(1), "!")
            }
        }
        + eachFamily("an owner that is set before connect hears of urgent data") { face, family in
            SignalCount.start(SIGURG, flags: SA_RESTART)
            let listener = try face.listener(family)
            let client = try face.stream(family)
            try expect(Outcome(face.fcntl(client.fd, F_SETOWN, getpid())), 0)
            try expect(client.connect(listener.address), 0)
            let server = try listener.accept()
            try expect(Outcome(face.fcntl(client.fd, F_GETOWN, 0)), .value(Int(getpid())))
            try expect(server.send("!", Msg.outOfBand), 1)
            try SignalCount.wait(for: 1)
        }
        + [false, true].flatMap { early in
            eachFamily(
                "a listener with O_ASYNC, set \(early ? "before" : "after") listen, signals SIGIO for a connection"
            ) {
                face, family in
                SignalCount.start(SIGIO, flags: SA_RESTART)
                func sign(_ fd: Int32) throws {
                    try expect(Outcome(face.fcntl(fd, F_SETOWN, getpid())), 0)
                    try expect(Outcome(face.fcntl(fd, F_SETFL, O_RDWR | 0o20000)), 0)
                }
                let sock = try face.stream(family)
                try expect(face.address(family, 0).with { Outcome(face.bind(sock.fd, $0, $1)) }, 0)
                if early { try sign(sock.fd) }
                try expect(Outcome(face.listen(sock.fd, 4)), 0)
                if !early { try sign(sock.fd) }
                let client = try face.connected(sock.name().address, family)
                try SignalCount.wait(for: 1)
                try expect(Outcome(face.fcntl(sock.fd, F_SETFL, O_RDWR)), 0)
                pause(milliseconds: 20)
                SignalCount.start(SIGIO, flags: SA_RESTART)
                let other = try face.connected(sock.name().address, family)
                pause(milliseconds: 20)
                try expect(SignalCount.value, 0)
                client.close()
                other.close()
            }
        }
}
