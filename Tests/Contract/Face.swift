import CContract
import Glibc

/// Whose rules a face follows where they differ.
enum Contract: CaseIterable, Sendable {
    /// The system's calls on TCP sockets.
    case tcp
    /// The calls of skein.h.
    case stp
    /// Module Skein: as `stp`, and no signal interrupts a call.
    case swift
}

/// One way to reach a stream socket: every call that a case makes on a socket, as the C function it stands for.
///
/// Results are the C function's own (-1 and errno). Another face is one more file that fills these in,
/// or takes over what it has in common with another.
struct Face: Sendable {
    var name: String
    var contract: Contract
    /// One or two.
    var families: [Family]
    /// An address of this host.
    var address: @Sendable (Family, _ port: UInt16) -> Address
    /// STPsetopt, with an int; TCP has nothing of the kind.
    var setParameter: @Sendable (_ fd: Int32, _ parameter: Int32, Int32) -> Int32
    var socket: @Sendable (_ family: Int32, _ type: Int32, _ protocol: Int32) -> Int32
    var bind: @Sendable (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    var listen: @Sendable (_ fd: Int32, _ backlog: Int32) -> Int32
    var accept: @Sendable (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
    var accept4: @Sendable (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?, Int32) -> Int32
    var connect: @Sendable (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    var getsockname: @Sendable (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    var getpeername: @Sendable (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    var getsockopt: @Sendable (Int32, Int32, Int32, UnsafeMutableRawPointer, UnsafeMutablePointer<socklen_t>) -> Int32
    var setsockopt: @Sendable (Int32, Int32, Int32, UnsafeRawPointer, socklen_t) -> Int32
    var shutdown: @Sendable (_ fd: Int32, _ how: Int32) -> Int32
    var close: @Sendable (Int32) -> Int32

    var read: @Sendable (Int32, UnsafeMutableRawPointer?, Int) -> Int
    var write: @Sendable (Int32, UnsafeRawPointer?, Int) -> Int
    var recv: @Sendable (Int32, UnsafeMutableRawPointer?, Int, Int32) -> Int
    var send: @Sendable (Int32, UnsafeRawPointer?, Int, Int32) -> Int
    var recvfrom:
        @Sendable (
            Int32, UnsafeMutableRawPointer?, Int, Int32, UnsafeMutablePointer<sockaddr>?,
            UnsafeMutablePointer<socklen_t>?
        ) -> Int
    var sendto: @Sendable (Int32, UnsafeRawPointer?, Int, Int32, UnsafePointer<sockaddr>?, socklen_t) -> Int
    var recvmsg: @Sendable (Int32, UnsafeMutablePointer<msghdr>, Int32) -> Int
    var sendmsg: @Sendable (Int32, UnsafePointer<msghdr>, Int32) -> Int
    var recvmmsg:
        @Sendable (Int32, UnsafeMutablePointer<cx_mmsghdr>, UInt32, Int32, UnsafeMutablePointer<timespec>?) -> Int32
    var sendmmsg: @Sendable (Int32, UnsafeMutablePointer<cx_mmsghdr>, UInt32, Int32) -> Int32
    var readv: @Sendable (Int32, UnsafePointer<iovec>, Int32) -> Int
    var writev: @Sendable (Int32, UnsafePointer<iovec>, Int32) -> Int
    var sendfile: @Sendable (_ to: Int32, _ from: Int32, UnsafeMutablePointer<off_t>?, Int) -> Int

    var poll: @Sendable (UnsafeMutablePointer<pollfd>, nfds_t, Int32) -> Int32
    var ppoll:
        @Sendable (UnsafeMutablePointer<pollfd>, nfds_t, UnsafePointer<timespec>?, UnsafePointer<sigset_t>?) -> Int32
    var select:
        @Sendable (
            Int32, UnsafeMutablePointer<fd_set>?, UnsafeMutablePointer<fd_set>?, UnsafeMutablePointer<fd_set>?,
            UnsafeMutablePointer<timeval>?
        ) -> Int32
    var epollCreate: @Sendable (_ flags: Int32) -> Int32
    var epollControl:
        @Sendable (_ set: Int32, _ operation: Int32, _ fd: Int32, _ events: UInt32, _ data: UInt64) -> Int32
    var epollWait:
        @Sendable (
            _ set: Int32, UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<UInt64>, _ maximum: Int32,
            _ milliseconds: Int32
        ) -> Int32

    var dup: @Sendable (Int32) -> Int32
    var dup2: @Sendable (_ fd: Int32, _ onto: Int32) -> Int32
    var fcntl: @Sendable (_ fd: Int32, _ command: Int32, _ argument: Int32) -> Int32
    var ioctl: @Sendable (_ fd: Int32, _ request: UInt, UnsafeMutablePointer<Int32>) -> Int32
    var fstat: @Sendable (Int32, UnsafeMutablePointer<stat>) -> Int32
}

extension Face {
    func family(_ choice: FamilyChoice) -> Family { choice == .first ? families[0] : families[families.count - 1] }
}
