import CContract
import Glibc

/// One connection with several holders: duplicates, forked processes, passed descriptors.
enum SharingCases {
    static let cases: [Case] = duplicates + processes + pieces + passing

    private static let duplicates: [Case] =
        paired("a duplicate reads what its original's peer sent, from where the original stopped") { first, second in
            let copy = try first.duplicate()
            try expect(second.write("abcdef"), 6)
            try first.awaitReadable()
            try expect(first.read(2), "ab")
            try expect(copy.read(2), "cd")
            try expect(first.read(2), "ef")
        }
        + paired("closing one of two duplicates ends nothing; closing the last is the end of file") { first, second in
            let copy = try first.duplicate()
            first.close()
            try expect(second.poll([.readable, .peerHalfClosed]), [])
            try expect(copy.write("x"), 1)
            try expect(second.read(), "x")
            try expect(second.write("y"), 1)
            try expect(copy.read(), "y")
            copy.close()
            try expect(second.read(), .end)
        }
        + paired("a shutdown through one duplicate holds for the other") { first, second in
            cx_ignore_signal(SIGPIPE)
            let copy = try first.duplicate()
            try expect(copy.shutdown(.write), 0)
            try expect(second.read(), .end)
            try expect(first.write("x"), .failed(EPIPE))
        }
        + paired("O_NONBLOCK set through one duplicate holds for the other, close-on-exec does not") { first, _ in
            let copy = try first.duplicate()
            try copy.setNonBlocking()
            try expect(first.read(), .failed(EAGAIN))
            try expect(Outcome(first.face.fcntl(copy.fd, F_SETFD, FD_CLOEXEC)), 0)
            try expect(Outcome(first.face.fcntl(first.fd, F_GETFD, 0)), 0)
        }
        + paired("dup2 onto a socket closes the connection that was there") { first, second in
            let other = try Pair(first.face)
            try expect(Outcome(first.face.dup2(other.client.fd, first.fd)), .value(Int(first.fd)))
            try expect(second.read(), .end)
            try expect(other.server.write("x"), 1)
            try expect(first.read(), "x")
            other.client.close()
            try expect(first.write("y"), 1)
            try expect(other.server.read(), "y")
        }
        + paired("dup2 onto itself changes nothing") { first, second in
            try expect(Outcome(first.face.dup2(first.fd, first.fd)), .value(Int(first.fd)))
            try expect(second.write("x"), 1)
            try expect(first.read(), "x")
        }
        + paired("dup2 of a file onto a socket is a close") { first, second in
            let null = open("/dev/null", O_RDWR)
            try expect(Outcome(first.face.dup2(null, first.fd)), .value(Int(first.fd)))
            try expect(second.read(), .end)
            try expect(first.read(), .end)
            try expect(first.write("abc"), 3)
            try expect(first.recv(), .failed(ENOTSOCK))
        }
        + paired("F_DUPFD and F_DUPFD_CLOEXEC give duplicates at or above a number") { first, second in
            let low = Int32(try Outcome(first.face.fcntl(first.fd, F_DUPFD, 100)).value)
            try expect(low >= 100, "100 or more", got: "\(low)")
            let closing = Int32(try Outcome(first.face.fcntl(first.fd, 1030, 100)).value)
            try expect(Outcome(first.face.fcntl(closing, F_GETFD, 0)), .value(Int(FD_CLOEXEC)))
            first.close()
            try expect(second.write("xy"), 2)
            try expect(Sock(face: first.face, fd: low).read(1), "x")
            try expect(Sock(face: first.face, fd: closing).read(1), "y")
        }
        + paired("a descriptor's number is free again after close") { first, _ in
            // The first one fills the hole that the listener left.
            _ = try first.face.stream()
            first.close()
            try expect(try first.face.stream().fd, first.fd)
        }

    private static let processes: [Case] =
        paired("a forked child writes and its parent reads the peer") { first, second in
            let child = Child { _ in try expect(first.write("from the child"), 14) }
            try expect(second.readFully(14), "from the child")
            try child.join()
            try expect(first.write("x"), 1)
            try expect(second.read(), "x")
        }
        + eachFamily("a socket that a forked child connects is connected for its parent too") { face, family in
            let listener = try face.listener(family)
            let sock = try face.stream(family)
            let child = Child { turns in
                try expect(sock.connect(listener.address), 0)
                turns.signal()
                turns.stay()
            }
            try child.takeTurn()
            let server = try listener.accept()
            try expect(sock.write("x"), 1)
            try expect(server.read(), "x")
            child.kill()
        }.holding(for: [.tcp], "an STP socket is its process's own until it is connected")
        + paired("a forked child reads a part and its parent the rest") { first, second in
            try expect(second.write("abcdef"), 6)
            try first.awaitReadable()
            let child = Child { _ in try expect(first.read(3), "abc") }
            try child.join()
            try expect(first.read(), "def")
        }
        + paired("end of file comes only after the last of two processes closes") { first, second in
            let child = Child { $0.stay() }
            first.close()
            try expect(second.poll([.readable, .peerHalfClosed], milliseconds: 30), [])
            child.kill()
            try expect(second.read(), .end)
        }
        + paired("the death of a child that shares a socket ends nothing for its parent") { first, second in
            let child = Child { $0.stay() }
            child.kill()
            try expect(first.write("x"), 1)
            try expect(second.read(), "x")
            try expect(second.poll([.readable, .peerHalfClosed], milliseconds: 20), [])
        }
        + paired("parent and child write in turn and the reader sees one stream in order") { first, second in
            let child = Child { turns in
                for number in 0..<50 {
                    try turns.takeTurn()
                    try expect(first.write("\(number % 10)"), 1)
                    turns.signal()
                }
            }
            for number in 0..<50 {
                try expect(first.write("\(number % 10)"), 1)
                child.signal()
                try child.takeTurn()
            }
            try child.join()
            try expect(second.readFully(100), (0..<50).map { "\($0 % 10)\($0 % 10)" }.joined())
        }
        + paired("a shutdown in the child holds in the parent") { first, second in
            cx_ignore_signal(SIGPIPE)
            let child = Child { _ in try expect(first.shutdown(.write), 0) }
            try child.join()
            try expect(second.read(), .end)
            try expect(first.write("x"), .failed(EPIPE))
        }
        + paired("O_NONBLOCK set in the child holds in the parent") { first, _ in
            let child = Child { _ in try first.setNonBlocking() }
            try child.join()
            try expect(first.read(), .failed(EAGAIN))
        }
        + eachFamily("O_NONBLOCK of a listener is one for all processes that hold it, however it is set") {
            face, family in
            let listener = try face.listener(family)
            let none = Outcome.failed(EAGAIN)
            func accept() -> Outcome { Outcome(face.accept(listener.sock.fd, nil, nil)) }
            func isNonBlocking() throws -> Bool {
                try Outcome(face.fcntl(listener.sock.fd, F_GETFL, 0)).value & Int(O_NONBLOCK) != 0
            }
            let child = Child { turns in
                try turns.takeTurn()
                try expect(isNonBlocking(), true)
                try expect(accept(), none)
                try listener.sock.setNonBlocking(false)
                turns.signal()
                try turns.takeTurn()
                var on: Int32 = 1
                try expect(Outcome(face.ioctl(listener.sock.fd, UInt(FIONBIO), &on)), 0)
            }
            try expect(isNonBlocking(), false)
            try listener.sock.setNonBlocking()
            child.signal()
            try child.takeTurn()
            try expect(isNonBlocking(), false)
            let worker = Worker { try listener.accept().readFully(1) }
            worker.waitUntilAsleep()
            let client = try listener.connect()
            try expect(client.write("x"), 1)
            try expect(worker.join(), "x")
            child.signal()
            try child.join()
            try expect(isNonBlocking(), true)
            try expect(accept(), none)
        }
        + paired("two processes reading one socket get each byte once") { first, second in
            let pipe = Pipe()
            let children = (0..<2).map { _ in
                Child { _ in
                    second.close()
                    var count = 0
                    while case .text(let text) = first.read(7) { count += text.utf8.count }
                    pipe.write("\(count) ")
                }
            }
            first.close()
            try expect(second.write(String(repeating: "x", count: 10_000)), 10_000)
            second.close()
            for child in children { try child.join() }
            pipe.closeWriter()
            let counts = (pipe.readAll(timeoutSeconds: 1) ?? "").split(separator: " ").compactMap { Int($0) }
            try expect(counts.reduce(0, +), 10_000)
        }
        + paired("a read that waits in the child is woken by the parent's data") { first, second in
            let child = Child { _ in try expect(first.read(), "x") }
            pause(milliseconds: 20)
            try expect(second.write("x"), 1)
            try child.join()
        }
        + forked("two processes talk in both directions, a thousand round trips") { sock, _ in
            for _ in 0..<1000 { try expect(sock.write(try sock.readFully(4)), 4) }
            try expect(sock.read(), .end)
        } ours: { sock, _ in
            for number in 1000..<2000 {
                try expect(sock.write("\(number)"), 4)
                try expect(sock.readFully(4), "\(number)")
            }
            sock.close()
        }
        + forked("a SIGKILLed peer's last bytes are read before the end") { sock, turns in
            try expect(sock.write("last"), 4)
            turns.signal()
            turns.stay()
        } ours: { sock, child in
            try child.takeTurn()
            kill(child.pid, SIGKILL)
            try expect(sock.readFully(4), "last")
            try expect(sock.read(), .end)
            throw Done()
        }.map(\.toleratingDone)
        + forked("a stopped peer ends nothing, and goes on when it is continued") { sock, turns in
            turns.signal()
            try expect(sock.write(try sock.readFully(2)), 2)
        } ours: { sock, child in
            try child.takeTurn()
            kill(child.pid, SIGSTOP)
            try expect(sock.write("hi"), 2)
            try expect(sock.poll([.readable, .writable, .peerHalfClosed], milliseconds: 20), .writable)
            kill(child.pid, SIGCONT)
            try expect(sock.readFully(2), "hi")
        }

    /// One call is one piece of the stream, whatever others do at the same time; as long as the buffer isn't full.
    private static let pieces: [Case] =
        paired("what several threads send from several vectors is not parted") { first, second in
            let workers = letters.map { letter in Worker { writeRecords(first, letter) } }
            try expect(partedRecords(second), 0)
            for worker in workers { try expect(worker.join(), recordCount) }
        }
        + paired("what several processes write from several vectors is not parted") { first, second in
            let children = letters.map { letter in
                Child { _ in try expect(writeRecords(first, letter), recordCount) }
            }
            try expect(partedRecords(second), 0)
            for child in children { try child.join() }
        }
        + paired("each of several threads that read into several vectors gets one piece") { first, second in
            let workers = letters.map { _ in
                Worker {
                    var parted = 0
                    while case .text(let text) = first.readv(8) { parted += Set(text.utf8).count == 1 ? 0 : 1 }
                    return parted
                }
            }
            let batch = (0..<2000).map { String(repeating: "\($0 % 8)", count: 8) }.joined()
            for _ in 0..<20 {
                try expect(second.write(batch), 16000)
                while first.unreadCount() != 0 { pause(milliseconds: 1) }
            }
            try expect(second.shutdown(.write), 0)
            for worker in workers { try expect(worker.join(), 0) }
        }

    private static let letters = ["a", "b", "c", "d"]
    private static let recordCount = 4000
    private static let recordSize = 16

    /// Records of one letter, each from two vectors; how many were written whole.
    private static func writeRecords(_ sock: Sock, _ letter: String) -> Int {
        let half = String(repeating: letter, count: recordSize / 2)
        return (0..<recordCount).count { number in
            if number % 8 == 0 { usleep(50) }
            let written = number % 2 == 0 ? sock.writev([half, half]) : sock.sendmsg([half, half])
            return written == .value(recordSize)
        }
    }

    /// At how many places of the stream another letter begins within a record.
    private static func partedRecords(_ sock: Sock) throws -> Int {
        var (parted, left, last, run) = (0, letters.count * recordCount * recordSize, UInt8(0), 0)
        while left > 0 {
            guard case .text(let text) = sock.read() else {
                throw Mismatch(expected: "\(left) bytes", got: "an end", "")
            }
            for letter in text.utf8 {
                if letter != last && run % recordSize != 0 { parted += 1 }
                (run, last) = letter == last ? (run + 1, last) : (1, letter)
            }
            left -= text.utf8.count
        }
        return parted
    }

    private static let passing: [Case] =
        paired("a connection passed to another process over a Unix socket goes on there") { first, second in
            var ends: [Int32] = [-1, -1]
            try expect(Outcome(socketpair(AF_UNIX, streamType, 0, &ends)), 0)
            let (reader, writer) = (ends[0], ends[1])
            let child = Child { _ in
                first.close()
                second.close()
                let fd = cx_receive_descriptor(reader)
                let sock = Sock(face: first.face, fd: fd)
                try expect(sock.readFully(3), "abc")
                try expect(sock.write("def"), 3)
            }
            try expect(second.write("abc"), 3)
            try expect(Outcome(cx_send_descriptor(writer, first.fd)), 1)
            first.close()
            try expect(second.readFully(3), "def")
            try expect(second.read(), .end)
            try child.join()
        }
        + paired("a program started with the socket as its standard input and output talks through it") {
            first, second in
            let child = Child { _ in
                _ = first.face.dup2(first.fd, 0)
                _ = first.face.dup2(first.fd, 1)
                second.close()
                first.close()
                var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("cat"), nil]
                execvp("cat", &arguments)
            }
            first.close()
            try expect(second.write("through cat\n"), 12)
            try expect(second.shutdown(.write), 0)
            try expect(second.readFully(12), "through cat\n")
            try expect(second.read(), .end)
            try child.join()
        }
        + paired("a socket with close-on-exec ends when the only process that holds it becomes another program") {
            first, second in
            let child = Child { _ in
                second.close()
                _ = first.face.fcntl(first.fd, F_SETFD, FD_CLOEXEC)
                var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("5"), nil]
                execvp("sleep", &arguments)
            }
            first.close()
            try expect(second.read(), .end)
            child.kill()
        }
}

/// A case that killed its child on purpose says so, for a helper that would join it.
private struct Done: Error {}

extension Case {
    fileprivate var toleratingDone: Case {
        Case(sentence, setting, watchdogSeconds: watchdogSeconds) { [body] face in
            do { try body(face) } catch is Done {}
        }
    }
}
