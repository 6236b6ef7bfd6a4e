import CSystem

/// Two numbers that a listening process keeps for the time when all others are taken: a socket's and its copy's. What
/// a client sends, and one that was put back, needs so many for a moment; and the socket puts a client back.
@safe
package struct Spares {
    /// Unconnected; -1 for none, as the copy.
    private var socket: Int32 = -1
    private var copy: Int32 = -1
    /// They are among the program's own numbers, since it may have no others: for one accept only.
    package private(set) var areLent = false

    package init() {}

    /// Something is left to do for them after an accept.
    package var wantCare: Bool { copy < 0 || areLent }

    /// Has both, lent ones if need be; false where every number is taken. Call everything here under the process lock.
    package mutating func keep(lending: Bool) -> Bool {
        if copy >= 0 { return true }
        if socket < 0 {
            let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec | Flag.nonBlock /* SOCK_SEQPACKET */, 0)
            // What else may be wrong is no reason to keep clients waiting.
            if made < 0 { return made != -Int(EMFILE) }
            socket = raised(Int32(made), lending)
            _ = sk_close(Int32(made))
            if socket < 0 { return false }
            unsafe process.noteHidden?(socket, true)
        }
        copy = raised(socket, lending)
        if copy >= 0 {
            unsafe process.noteHidden?(copy, true)
        } else {
            giveUpLent()
        }
        return copy >= 0
    }

    /// A copy above the program's numbers, or among them where its limit is a tight one.
    private mutating func raised(_ descriptor: Int32, _ lending: Bool) -> Int32 {
        let raised = hiddenCopy(of: descriptor)
        guard lending, raised < 0, descriptorLimit() < tightLimit else { return raised }
        areLent = true
        return Int32(max(sk_fcntl(descriptor, F_DUPFD_CLOEXEC, 0), -1))
    }

    /// After an accept, which may have used them: the program gets its numbers back, and what it has no use for
    /// just now is kept for the next one.
    package mutating func careFor() {
        giveUpLent()
        _ = keep(lending: false)
    }

    /// Hands both over, to be used and closed; -1 for none.
    mutating func take() -> (socket: Int32, copy: Int32) {
        defer { (socket, copy, areLent) = (-1, -1, false) }
        if socket >= 0 { unsafe process.noteHidden?(socket, false) }
        if copy >= 0 { unsafe process.noteHidden?(copy, false) }
        return (socket, copy)
    }

    private mutating func giveUpLent() {
        if !areLent { return }
        let (socket, copy) = take()
        if socket >= 0 { _ = sk_close(socket) }
        if copy >= 0 { _ = sk_close(copy) }
    }

    /// The program took the number `from`; what lay there is at `to` now.
    package mutating func moved(_ from: Int32, to: Int32) {
        if socket == from { socket = to }
        if copy == from { copy = to }
    }
}
