import CSystem

/// The codes of STPerror, in the order of skein.h.
enum STPCode: Int32 {
    case none = 0
    case off, folder, unsafeFolder, full, readOnly, notSTP, address, noAgent, portTaken, port, noListener, queue
    case notAccepted, memory, descriptors, unread, refused, peerGone, option, state, type, user, system, gift, name
    case host, urgent, limit, taker

    /// What happened and what to do.
    var text: StaticString {
        switch self {
        case .none: "No STP error"
        case .off: "Skein is switched off here: by SKEIN_OFF, by 'off' in skein.conf, or because the program is setuid"
        case .folder where unsafe sk_environment("SKEIN_DIR") != nil:
            "SKEIN_DIR names a folder that can't be opened: make it with 'mkdir -m 1777', or set SKEIN_DIR to another"
        case .folder:
            "The runtime folder can't be opened: make it with 'mkdir -m 1777 /run/skein', or set SKEIN_DIR to a folder of your own"
        case .unsafeFolder:
            "Others could tamper with the runtime folder: it must belong to root or to you, and be writable by nobody else or have the sticky bit ('chmod 1777')"
        case .full:
            "The runtime folder's file system is full: free about 4 KiB there, or set SKEIN_DIR to another folder"
        case .readOnly:
            "The runtime folder's file system is read-only: mount it writable, or set SKEIN_DIR to another folder"
        case .notSTP:
            "The descriptor is no STP socket: only one that STPsocket, STPaccept or STPtakesocket returned will do"
        case .address:
            "The address is no STP address of this use: family AF_STP, the whole of struct sockaddr_stp, names ended by a NUL"
        case .noAgent:
            "No agent connects this host to the group and host of that address: check its spelling, SKEIN_GROUP and SKEIN_HOST, and that both processes use the same SKEIN_DIR"
        case .portTaken:
            "The port is taken by an STP or TCP socket of this host: choose another one, or port 0 for any free one"
        case .port: "The port can't be had: 1 to 1023 are for root, and nobody can be reached at port 0"
        case .noListener:
            "Nobody listens on that port: start the server, an STP one with SKEIN_DIR as here, a TCP one under 'skein run'"
        case .queue: "The server's queue is full: try again, or give STPlisten a larger backlog there"
        case .notAccepted: "The server closed its listening socket before it accepted: connect again with a new socket"
        case .memory: "No memory for rings: raise the memory limit, or close connections"
        case .descriptors: "The limit of descriptors is reached: close some, or raise it with 'ulimit -n'"
        case .unread:
            "The peer had not read everything when the close limit passed: raise STP_CLOSE_LIMIT to wait longer"
        case .refused: "The peer has closed or has stopped receiving, and refuses what is sent"
        case .peerGone: "The peer has reset the connection: it is gone with bytes unread, or gave up at once"
        case .option: "No such STP option, it can't be set, or the value is out of range: see skein.h"
        case .state: "The socket is not in a state for this call: bound, listening or connected already, or not yet"
        case .type: "STP sockets are of type SOCK_STREAM, protocol PF_STP or 0"
        case .user: "The other end belongs to a user who may not have that port or take that gift"
        case .system: "The system refused it: errno says why"
        case .name: "SKEIN_GROUP has more than 15 bytes, or SKEIN_HOST more than 31: set a shorter one"
        case .host:
            "The address is of another group or host than this process, and a socket's own can't be: leave both empty, or set SKEIN_GROUP and SKEIN_HOST"
        case .urgent:
            "No urgent byte waits, or SO_OOBINLINE leaves it in the stream: wait for POLLPRI before MSG_OOB"
        case .limit: "STP sockets need a limit of 64 descriptors or more: raise it with 'ulimit -n 64' or RLIMIT_NOFILE"
        case .taker:
            "A gift is for the process whose number STPgivesocket got as its taker: give it that one's, or 0 for any of the same user"
        case .gift: "There is no such gift: it was taken, its time limit passed, or the token is wrong"
        }
    }
}

/// The code for what a call of the system or of the stream said.
func code(for error: Int32) -> STPCode {
    switch error {
    case EPIPE: .refused
    case ECONNRESET: .peerGone
    case ECONNREFUSED: .notAccepted
    case EHOSTUNREACH, ENETUNREACH, ENETDOWN: .noAgent
    case ENOTCONN, EISCONN, EALREADY, EINVAL: .state
    case EMFILE where descriptorLimit() < tightLimit: .limit
    case EMFILE, ENFILE: .descriptors
    case ENOMEM, ENOBUFS: .memory
    case EADDRINUSE: .portTaken
    case EACCES: .port
    case ENOPROTOOPT: .option
    case EAGAIN, EINTR, EINPROGRESS: .none
    default: .system
    }
}

/// Ends a call that has set errno itself.
@inline(__always) func report(_ result: Int) -> Int {
    sk_set_stp_error(result >= 0 ? 0 : code(for: sk_errno()).rawValue)
    return result
}
@inline(__always) func report(_ result: Int32) -> Int32 { Int32(report(Int(result))) }

/// Ends a call that sets or asks an option, and has set errno itself.
func reportOption(_ result: Int32) -> Int32 {
    let error = sk_errno()
    if result >= 0 || (error != EINVAL && error != EDOM) { return report(result) }
    return fail(error, .option)
}

/// Sets errno and the code from a kernel-style result.
func end(_ result: Int) -> Int32 {
    result >= 0 ? succeed(Int32(result)) : fail(Int32(-result), code(for: Int32(-result)))
}

/// Refuses what is no STP socket: the errno that says which mistake it was.
func refuseOther(_ descriptor: Int32) -> Int32 {
    var type: Int32 = 0
    var length: UInt32 = 4
    let result = unsafe sk_getsockopt(descriptor, SOL_SOCKET, 3 /* SO_TYPE */, &type, &length)
    return fail(result == 0 ? EOPNOTSUPP : Int32(-result), .notSTP)
}

@c(STPerror) public func stpError(_ descriptor: Int32) -> Int32 {
    if descriptor >= 0 && !isSTP(descriptor) { return refuseOther(descriptor) }
    return sk_stp_error()
}

@c(STPstrerror) public func stpErrorText(_ descriptor: Int32) -> UnsafePointer<CChar>? {
    if descriptor >= 0 && !isSTP(descriptor) {
        _ = refuseOther(descriptor)
        return nil
    }
    let text = (STPCode(rawValue: sk_stp_error()) ?? .none).text
    return unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
