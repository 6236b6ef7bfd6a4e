import CSkein
import Glibc

/// A connection on its way from one process to another (`struct stp_gift`): text that the giver hands to the
/// taker by any means. Whoever runs as the same user and has it can take the connection.
public struct Gift: Sendable, Hashable {
    private let token: String
}

extension Gift: LosslessStringConvertible {
    /// A gift as its giver wrote it down. Nil for text that can be no token.
    public init?(_ description: String) {
        guard description.utf8.count < MemoryLayout<stp_gift>.size, !description.isEmpty,
            !description.utf8.contains(0)
        else { return nil }
        token = description
    }

    /// The token.
    public var description: String { token }
}

extension Gift {
    init(_ gift: stp_gift) {
        token = unsafe withUnsafeBytes(of: gift) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    func withToken(_ body: (UnsafePointer<stp_gift>) -> CInt) -> CInt {
        var gift = stp_gift()
        unsafe withUnsafeMutableBytes(of: &gift) { unsafe $0.copyBytes(from: token.utf8) }
        return unsafe body(&gift)
    }
}

extension Socket {
    /// Gives the connection to process `taker`, or to whichever process of the same user and host takes it
    /// (STPgivesocket).
    ///
    /// The giver may go on using it until it is taken: then poll reports `POLLPRI` on the descriptor, receiving and sending end, and the
    /// giver closes. The connection and its unread data live on when the giver closes or dies. What nobody takes within
    /// `SocketOption.giftLimit` is the giver's again, or ends where the giver has closed it. `ENOTCONN`, `EALREADY`:
    /// given already.
    public borrowing func give(to taker: pid_t? = nil) throws(SocketError) -> Gift {
        var gift = stp_gift()
        guard unsafe STPgivesocket(descriptor, taker ?? 0, &gift) == 0 else {
            throw SocketError(lastOf: "STPgivesocket")
        }
        return Gift(gift)
    }
}
