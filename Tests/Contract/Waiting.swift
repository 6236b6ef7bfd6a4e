import CContract
import Glibc

/// One record of epoll_wait.
struct Ready: Equatable, Sendable, CustomStringConvertible {
    let events: Events
    let data: UInt64

    var description: String { "\(events) with data \(data)" }
}

/// An epoll descriptor and its calls in their shortest form.
struct EpollSet: Sendable {
    let face: Face
    let fd: Int32

    init(_ face: Face, flags: Int32 = 0) throws {
        self.face = face
        fd = Int32(try Outcome(face.epollCreate(flags)).value)
    }

    /// A duplicate of a set.
    init(_ face: Face, _ copy: Sock) {
        self.face = face
        fd = copy.fd
    }

    func add(_ sock: Sock, _ events: Events, data: UInt64 = 0) -> Outcome {
        control(EPOLL_CTL_ADD, sock.fd, events, data)
    }
    func modify(_ sock: Sock, _ events: Events, data: UInt64 = 0) -> Outcome {
        control(EPOLL_CTL_MOD, sock.fd, events, data)
    }
    func remove(_ sock: Sock) -> Outcome { control(EPOLL_CTL_DEL, sock.fd, [], 0) }

    func control(_ operation: Int32, _ fd: Int32, _ events: Events, _ data: UInt64) -> Outcome {
        Outcome(face.epollControl(self.fd, operation, fd, events.rawValue, data))
    }

    func wait(milliseconds: Int32 = 0, maximum: Int = 64) throws -> [Ready] {
        var events = [UInt32](repeating: 0, count: 64)
        var data = [UInt64](repeating: 0, count: 64)
        let count = try Outcome(face.epollWait(fd, &events, &data, Int32(maximum), milliseconds)).value
        return (0..<count).map { Ready(events: Events(rawValue: events[$0]), data: data[$0]) }
    }

    func close() { _ = face.close(fd) }
    var asSock: Sock { Sock(face: face, fd: fd) }
}

/// select's three sets.
struct Selected: OptionSet, Sendable, CustomStringConvertible {
    let rawValue: Int

    static let read = Selected(rawValue: 1)
    static let write = Selected(rawValue: 2)
    static let exceptional = Selected(rawValue: 4)

    var description: String {
        let names: [(Selected, String)] = [(.read, "read"), (.write, "write"), (.exceptional, "except")]
        let words = names.filter { contains($0.0) }.map(\.1)
        return words.isEmpty ? "nothing" : words.joined(separator: "+")
    }
}

/// select on one descriptor; a nil time-out waits for ever.
func select(_ sock: Sock, _ asked: Selected, milliseconds: Int? = 0) -> (count: Outcome, ready: Selected) {
    var sets = [fd_set](repeating: fd_set(), count: 3)
    for index in 0..<3 {
        cx_zero(&sets[index])
        if asked.contains(Selected(rawValue: 1 << index)) { cx_set(sock.fd, &sets[index]) }
    }
    var time = timeval(tv_sec: (milliseconds ?? 0) / 1000, tv_usec: (milliseconds ?? 0) % 1000 * 1000)
    let count = sets.withUnsafeMutableBufferPointer { sets in
        withUnsafeMutablePointer(to: &time) { time in
            let base = sets.baseAddress!
            return Outcome(sock.face.select(sock.fd + 1, base, base + 1, base + 2, milliseconds == nil ? nil : time))
        }
    }
    var ready: Selected = []
    for index in 0..<3 where cx_isset(sock.fd, &sets[index]) != 0 { ready.insert(Selected(rawValue: 1 << index)) }
    return (count, ready)
}
