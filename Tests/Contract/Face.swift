import CContract
import Glibc

/// One way to reach a stream socket: every call that a case makes on a socket, as the C function it stands for.
///
/// Results are the C function's own (-1 and errno). Another face is one more file that fills these in.
struct Face: Sendable {
    let name: String
    let socket: @Sendable (_ family: Int32, _ type: Int32, _ protocol: Int32) -> Int32
    let bind: @Sendable (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    let listen: @Sendable (_ fd: Int32, _ backlog: Int32) -> Int32
    let accept: @Sendable (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
    let accept4: @Sendable (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?, Int32) -> Int32
    let connect: @Sendable (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    let getsockname: @Sendable (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    let getpeername: @Sendable (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    let getsockopt: @Sendable (Int32, Int32, Int32, UnsafeMutableRawPointer, UnsafeMutablePointer<socklen_t>) -> Int32
    let setsockopt: @Sendable (Int32, Int32, Int32, UnsafeRawPointer, socklen_t) -> Int32
    let shutdown: @Sendable (_ fd: Int32, _ how: Int32) -> Int32
    let close: @Sendable (Int32) -> Int32

    let read: @Sendable (Int32, UnsafeMutableRawPointer?, Int) -> Int
    let write: @Sendable (Int32, UnsafeRawPointer?, Int) -> Int
    let recv: @Sendable (Int32, UnsafeMutableRawPointer?, Int, Int32) -> Int
    let send: @Sendable (Int32, UnsafeRawPointer?, Int, Int32) -> Int
    let recvfrom:
        @Sendable (
            Int32, UnsafeMutableRawPointer?, Int, Int32, UnsafeMutablePointer<sockaddr>?,
            UnsafeMutablePointer<socklen_t>?
        ) -> Int
    let sendto: @Sendable (Int32, UnsafeRawPointer?, Int, Int32, UnsafePointer<sockaddr>?, socklen_t) -> Int
    let recvmsg: @Sendable (Int32, UnsafeMutablePointer<msghdr>, Int32) -> Int
    let sendmsg: @Sendable (Int32, UnsafePointer<msghdr>, Int32) -> Int
    let recvmmsg:
        @Sendable (Int32, UnsafeMutablePointer<cx_mmsghdr>, UInt32, Int32, UnsafeMutablePointer<timespec>?) -> Int32
    let sendmmsg: @Sendable (Int32, UnsafeMutablePointer<cx_mmsghdr>, UInt32, Int32) -> Int32
    let readv: @Sendable (Int32, UnsafePointer<iovec>, Int32) -> Int
    let writev: @Sendable (Int32, UnsafePointer<iovec>, Int32) -> Int
    let sendfile: @Sendable (_ to: Int32, _ from: Int32, UnsafeMutablePointer<off_t>?, Int) -> Int

    let poll: @Sendable (UnsafeMutablePointer<pollfd>, nfds_t, Int32) -> Int32
    let ppoll:
        @Sendable (UnsafeMutablePointer<pollfd>, nfds_t, UnsafePointer<timespec>?, UnsafePointer<sigset_t>?) -> Int32
    let select:
        @Sendable (
            Int32, UnsafeMutablePointer<fd_set>?, UnsafeMutablePointer<fd_set>?, UnsafeMutablePointer<fd_set>?,
            UnsafeMutablePointer<timeval>?
        ) -> Int32
    let epollCreate: @Sendable (_ flags: Int32) -> Int32
    let epollControl:
        @Sendable (_ set: Int32, _ operation: Int32, _ fd: Int32, _ events: UInt32, _ data: UInt64) -> Int32
    let epollWait:
        @Sendable (
            _ set: Int32, UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<UInt64>, _ maximum: Int32,
            _ milliseconds: Int32
        ) -> Int32

    let dup: @Sendable (Int32) -> Int32
    let dup2: @Sendable (_ fd: Int32, _ onto: Int32) -> Int32
    let fcntl: @Sendable (_ fd: Int32, _ command: Int32, _ argument: Int32) -> Int32
    let ioctl: @Sendable (_ fd: Int32, _ request: UInt, UnsafeMutablePointer<Int32>) -> Int32
    let fstat: @Sendable (Int32, UnsafeMutablePointer<stat>) -> Int32
}
