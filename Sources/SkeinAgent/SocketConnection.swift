import CSkein
import Glibc

/// A program's socket that is connected to another host: the program's end of a filament, without frames.
///
/// However the agent ends, the program's connection is reset, unless both directions had ended well before.
final class SocketConnection: LocalConnection {
    /// The program's connect is over.
    private var isAnswered: Bool
    /// The program is told of the end once it has the output.
    private var endsAfterOutput = false
    /// The other host knows that the program sends nothing more.
    private var hasTakenEnd = false
    private var isConcluded = false

    init(_ number: UInt64, _ descriptor: Int32, isAnswered: Bool) {
        self.isAnswered = isAnswered
        super.init(number, descriptor)
        setLinger(true)
    }

    deinit { if isConcluded { setLinger(false) } }

    override var isFramed: Bool { false }

    override func tell(_ notice: Notice) {
        switch notice {
        case .ready:
            if !isAnswered { skein_agent_accepted(descriptor) }
            isAnswered = true
        case .refused(let error): skein_agent_refuse(descriptor, Int32(error))
        // What has come is lost, as by a reset of TCP.
        case .reset:
            if !isAnswered { skein_agent_refuse(descriptor, EHOSTUNREACH) }
            dropOutput()
        case .end:
            endsAfterOutput = true
            endOutput()
        }
    }

    override func flush() -> Bool {
        guard super.flush() else { return false }
        endOutput()
        return true
    }

    override func concludes() { isConcluded = true }

    /// For who finds that the program's direction is over. Nil where that is because the program is gone; else whether the
    /// other host is to hear of it, which is the case once.
    func takeEnd() -> Bool? {
        if isBroken { return nil }
        defer { hasTakenEnd = true }
        return !hasTakenEnd
    }

    private func endOutput() {
        guard endsAfterOutput && isFlushed else { return }
        endsAfterOutput = false
        shutdown(descriptor, Int32(SHUT_WR))
    }

    /// SO_LINGER without time: closing resets, and so does the end of this process.
    private func setLinger(_ isOn: Bool) {
        var value = linger(l_onoff: isOn ? 1 : 0, l_linger: 0)
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
    }
}
