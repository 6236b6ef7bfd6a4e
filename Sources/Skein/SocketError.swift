import CSkein
import Glibc

/// Why a call failed: errno as for every socket, and beside it the code and the sentence of STP.
public struct SocketError: Error, Sendable, Hashable {
    /// The errno, as the call's BSD namesake has it: `ECONNREFUSED`, `EAGAIN`, …
    public let errno: CInt
    /// What STPerror says: the reason where errno alone is too coarse. `.none` where errno says it all.
    public let code: Code
    /// What STPstrerror says: a sentence that says what to do. Empty where the code is `.none`.
    public let advice: String
    /// The call that failed, by its name in C.
    public let call: String

    /// The error of this thread's last call of the library. To be made right after the call.
    init(lastOf call: StaticString) {
        errno = Glibc.errno
        code = Code(rawValue: STPerror(-1))
        advice = code == .none ? "" : unsafe STPstrerror(-1).map { unsafe String(cString: $0) } ?? ""
        self.call = "\(call)"
    }

    /// An error that is not the library's.
    init(_ call: StaticString, errno: CInt, advice: String = "") {
        self.errno = errno
        self.code = .none
        self.advice = advice
        self.call = "\(call)"
    }
}

extension SocketError: CustomStringConvertible {
    /// For example "STPconnect: Connection refused. Nobody listens on that port: start the server, …".
    public var description: String {
        let reason = unsafe String(cString: strerror(errno))
        return advice.isEmpty ? "\(call): \(reason)" : "\(call): \(reason). \(advice)"
    }
}

extension SocketError {
    /// The codes of STPerror.
    public struct Code: RawRepresentable, Sendable, Hashable {
        /// The number in skein.h.
        public let rawValue: CInt
        /// A code by its number in skein.h; a newer library may know more than are named here.
        public init(rawValue: CInt) { self.rawValue = rawValue }

        /// STP has nothing to add to errno.
        public static let none = Code(rawValue: STP_ENONE)
        /// Skein is switched off (`SKEIN_OFF`), or the program is a setuid one.
        public static let off = Code(rawValue: STP_EOFF)
        /// The runtime folder can't be opened.
        public static let folder = Code(rawValue: STP_EFOLDER)
        /// Others could tamper with the runtime folder.
        public static let unsafeFolder = Code(rawValue: STP_EUNSAFE)
        /// The runtime folder's file system is full.
        public static let full = Code(rawValue: STP_EFULL)
        /// The runtime folder's file system is read-only.
        public static let readOnly = Code(rawValue: STP_EREADONLY)
        /// The descriptor is no STP socket.
        public static let notSTP = Code(rawValue: STP_ENOTSTP)
        /// The address is none of STP, or not of this host.
        public static let address = Code(rawValue: STP_EADDRESS)
        /// Another group or host, and no agent that knows it.
        public static let noAgent = Code(rawValue: STP_ENOAGENT)
        /// STP or TCP has the port.
        public static let portTaken = Code(rawValue: STP_EPORTTAKEN)
        /// The port can't be had: below 1024 it takes a privilege, and nobody is reached at port 0.
        public static let port = Code(rawValue: STP_EPORT)
        /// Nobody listens on the port.
        public static let noListener = Code(rawValue: STP_ENOLISTENER)
        /// The server's queue is full.
        public static let queue = Code(rawValue: STP_EQUEUE)
        /// The server closed before it accepted.
        public static let notAccepted = Code(rawValue: STP_ENOTACCEPTED)
        /// No memory for rings.
        public static let memory = Code(rawValue: STP_EMEMORY)
        /// The limit of descriptors is reached.
        public static let descriptors = Code(rawValue: STP_EDESCRIPTORS)
        /// The close limit passed before the peer had read everything.
        public static let unread = Code(rawValue: STP_EUNREAD)
        /// The peer has closed, or has stopped receiving.
        public static let refused = Code(rawValue: STP_EREFUSED)
        /// The peer is gone and left bytes unread.
        public static let peerGone = Code(rawValue: STP_EPEERGONE)
        /// No such option, or a value out of range.
        public static let option = Code(rawValue: STP_EOPTION)
        /// The socket is not in a state for this call.
        public static let state = Code(rawValue: STP_ESTATE)
        /// A type or protocol that STP doesn't have.
        public static let type = Code(rawValue: STP_ETYPE)
        /// The other end belongs to a user who may not have that port or take that gift.
        public static let user = Code(rawValue: STP_EUSER)
        /// The system refused it: errno says why.
        public static let system = Code(rawValue: STP_ESYSTEM)
        /// No such gift: taken already, its time over, or no token.
        public static let gift = Code(rawValue: STP_EGIFT)
        /// SKEIN_GROUP has more than 15 bytes, or SKEIN_HOST more than 31.
        public static let name = Code(rawValue: STP_ENAME)
        /// The address is of another group or host, and a socket's own can't be.
        public static let host = Code(rawValue: STP_EHOST)
        /// No urgent byte waits, or it comes in line.
        public static let urgent = Code(rawValue: STP_EURGENT)
        /// The limit of descriptors is below the 64 that STP needs.
        public static let limit = Code(rawValue: STP_ELIMIT)
        /// The gift names another process, or no process at all.
        public static let taker = Code(rawValue: STP_ETAKER)
    }
}
