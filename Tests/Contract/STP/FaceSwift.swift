import CContract
import CSkein
import Glibc
import Skein

extension Face {
    /// Module Skein: each call that `Socket` has, where what the case passes can be said in Swift; otherwise that of
    /// skein.h. For the rest the descriptor, with the C library's calls.
    static let swift: Face = {
        var face = Face.stp
        face.name = "swift"
        face.contract = .swift
        face.socket = makeOne
        face.bind = { fd, address, length in
            guard let name = Skein.Address(address, length) else { return STPbind(fd, address, length) }
            return with(fd) { (socket) throws(SocketError) in try socket.bind(to: name) }
        }
        face.listen = { fd, backlog in
            with(fd) { (socket) throws(SocketError) in try socket.listen(backlog: Int(backlog)) }
        }
        face.accept = acceptOne
        face.accept4 = { fd, address, length, flags in
            let accepted = acceptOne(fd, address, length)
            if accepted >= 0 { setFlags(accepted, flags) }
            return accepted
        }
        face.connect = { fd, address, length in
            guard let name = Skein.Address(address, length) else { return STPconnect(fd, address, length) }
            return with(fd) { (socket) throws(SocketError) in try socket.connect(to: name) }
        }
        face.getsockname = { fd, address, length in
            with(fd) { (socket) throws(SocketError) in try socket.localAddress.store(address, length) }
        }
        face.getpeername = { fd, address, length in
            with(fd) { (socket) throws(SocketError) in try socket.peerAddress.store(address, length) }
        }
        face.getsockopt = getOption
        face.setsockopt = setOption
        face.shutdown = { fd, how in
            // Both sides at once is `close` in Swift, which takes the socket away from its owner.
            guard let direction = Skein.Socket.Direction(rawValue: how) else { return STPshutdown(fd, how) }
            return with(fd) { (socket) throws(SocketError) in try socket.shutdown(direction) }
        }
        face.close = closeOne
        face.recv = { fd, room, count, flags in
            guard let room else { return STPrecv(fd, room, count, flags) }
            return Int(
                with(fd) { (socket) throws(SocketError) in
                    try socket.receive(
                        into: UnsafeMutableRawBufferPointer(start: room, count: count),
                        flags: ReceiveFlags(rawValue: flags))
                })
        }
        face.send = { fd, bytes, count, flags in
            // Without MSG_NOSIGNAL a case counts the signals, which module Skein never raises.
            guard flags & Msg.noSignal != 0 else { return STPsend(fd, bytes, count, flags) }
            return Int(
                with(fd) { (socket) throws(SocketError) in
                    try socket.send(
                        UnsafeRawBufferPointer(start: bytes, count: count), flags: SendFlags(rawValue: flags))
                })
        }
        return face
    }()
}

/// Lends a descriptor to a `Socket` for one call, and gives back what the C call would: the value, or -1 and errno.
func with(_ fd: Int32, _ call: (borrowing Skein.Socket) throws(SocketError) -> Int) -> Int32 {
    let socket = Skein.Socket(adopting: fd)
    var result: Int32 = -1
    var code: Int32 = 0
    do { result = Int32(try call(socket)) } catch { code = error.errno }
    _ = socket.release()
    if result < 0 { errno = code }
    return result
}

func with(_ fd: Int32, _ call: (borrowing Skein.Socket) throws(SocketError) -> Void) -> Int32 {
    with(fd) { (socket) throws(SocketError) -> Int in
        try call(socket)
        return 0
    }
}

private func makeOne(_ family: Int32, _ type: Int32, _ number: Int32) -> Int32 {
    guard family == AF_STP, type & ~(nonBlockType | closeOnExecType) == streamType, number == 0 else {
        return STPsocket(family, type, number)
    }
    do {
        let fd = try Skein.Socket(nonBlocking: type & nonBlockType != 0).release()
        setFlags(fd, type & closeOnExecType)
        return fd
    } catch {
        errno = error.errno
        return -1
    }
}

private func acceptOne(
    _ fd: Int32, _ address: UnsafeMutablePointer<sockaddr>?, _ length: UnsafeMutablePointer<socklen_t>?
) -> Int32 {
    with(fd) { (listener) throws(SocketError) -> Int in
        let connection = try listener.accept()
        if let address, let length { try connection.peerAddress.store(address, length) }
        try connection.setClosesOnExec(false)
        return Int(connection.release())
    }
}

/// Close-on-exec, which module Skein sets unless told not to, and O_NONBLOCK as a case wants them.
private func setFlags(_ fd: Int32, _ flags: Int32) {
    _ = with(fd) { (socket) throws(SocketError) -> Void in
        try socket.setClosesOnExec(flags & closeOnExecType != 0)
        if flags & nonBlockType != 0 { try socket.setNonBlocking(true) }
    }
}

private func closeOne(_ fd: Int32) -> Int32 {
    do {
        try Skein.Socket(adopting: fd).close()
        return 0
    } catch {
        // What the peer hasn't read is no failure of STPclose.
        if error.code == .unread { return 0 }
        errno = error.errno
        return -1
    }
}
