import CContract
import Glibc

/// splice between a connection and a pipe: how much goes through, and who waits.
enum SpliceCases {
    static let cases: [Case] = moving + waiting + refusing

    private static let nonBlocking: UInt32 = 2  // SPLICE_F_NONBLOCK

    private static let moving: [Case] =
        paired("splice moves bytes from a pipe into the socket and from the socket into a pipe") { first, second in
            let pipe = Pipe()
            pipe.write("through")
            try expect(splice(pipe.reader, nil, first.fd, nil, 100, 0), 7)
            try second.awaitReadable()
            try expect(splice(second.fd, nil, pipe.writer, nil, 100, 0), 7)
            var room = [UInt8](repeating: 0, count: 9)
            try expect(Received(Glibc.read(pipe.reader, &room, 9), room), "through")
        }
        + paired("splice into a pipe with little room moves what fits, and leaves the rest in the socket") {
            first, second in
            let pipe = try Pipe(holding: 60_000)
            try expect(second.write(String(repeating: "x", count: 8000)), 8000)
            try first.awaitReadable()
            let moved = splice(first.fd, nil, pipe.writer, nil, 8000, 0)
            try expect(moved > 0 && moved < 8000, "a part of 8000", got: "\(moved)")
            try expect(first.unreadCount(), .value(8000 - moved))
        }
        + paired("splice of the end of the stream is 0") { first, second in
            let pipe = Pipe()
            second.close()
            try expect(splice(first.fd, nil, pipe.writer, nil, 100, 0), 0)
        }
        + paired("splice of no bytes is 0") { first, _ in
            try expect(splice(Pipe().reader, nil, first.fd, nil, 0, 0), 0)
        }

    private static let waiting: [Case] =
        paired("splice from an empty pipe with SPLICE_F_NONBLOCK is EAGAIN") { first, _ in
            try expect(Outcome(splice(Pipe().reader, nil, first.fd, nil, 100, nonBlocking)), .failed(EAGAIN))
        }
        + paired("splice into a full pipe with SPLICE_F_NONBLOCK is EAGAIN, and takes nothing") { first, second in
            let pipe = try Pipe(holding: 65_536)
            try expect(second.write("abc"), 3)
            try first.awaitReadable()
            try expect(Outcome(splice(first.fd, nil, pipe.writer, nil, 100, nonBlocking)), .failed(EAGAIN))
            try expect(first.read(), "abc")
        }
        + paired("splice from a non-blocking socket without data is EAGAIN") { first, _ in
            try first.setNonBlocking()
            try expect(Outcome(splice(first.fd, nil, Pipe().writer, nil, 100, 0)), .failed(EAGAIN))
        }
        + paired("splice from an empty pipe waits until somebody writes into it") { first, second in
            let pipe = Pipe()
            let worker = Worker { Outcome(splice(pipe.reader, nil, first.fd, nil, 100, 0)) }
            pause(milliseconds: 30)
            pipe.write("late")
            try expect(worker.join(), 4)
            try expect(second.read(), "late")
        }
        + paired("splice from a socket without data waits until the peer writes, whatever SPLICE_F_NONBLOCK says") {
            first, second in
            let pipe = Pipe()
            let worker = Worker { Outcome(splice(first.fd, nil, pipe.writer, nil, 100, nonBlocking)) }
            pause(milliseconds: 30)
            try expect(second.write("late"), 4)
            try expect(worker.join(), 4)
        }

    private static let refusing: [Case] =
        paired("splice with an offset is ESPIPE for the pipe and EINVAL for the socket") { first, _ in
            let pipe = Pipe()
            pipe.write("x")
            var offset = 0
            try expect(Outcome(splice(pipe.reader, &offset, first.fd, nil, 1, 0)), .failed(ESPIPE))
            try expect(Outcome(splice(pipe.reader, nil, first.fd, &offset, 1, 0)), .failed(EINVAL))
        }
        + paired("splice from one socket to another is EINVAL") { first, second in
            try expect(Outcome(splice(first.fd, nil, second.fd, nil, 1, 0)), .failed(EINVAL))
        }
        + paired("splice into a pipe that nobody reads is EPIPE") { first, second in
            cx_ignore_signal(SIGPIPE)
            let pipe = Pipe()
            pipe.closeReader()
            try expect(second.write("x"), 1)
            try first.awaitReadable()
            try expect(Outcome(splice(first.fd, nil, pipe.writer, nil, 1, 0)), .failed(EPIPE))
        }
}

extension Pipe {
    /// A pipe with that many bytes in it.
    fileprivate init(holding count: Int) throws {
        self.init()
        let bytes = [UInt8](repeating: 1, count: count)
        try expect(Outcome(Glibc.write(writer, bytes, count)), .value(count))
    }
}
