import ArgumentParser
import Glibc
import Skein
import Synchronization

/// Standard input on its way to the peer, and what the peer sends on its way to standard output. Each way has a
/// thread, so that neither waits for the other.
final class Conversation: Sendable {
    private static let bufferSize = 1 << 18

    private let socket: StreamSocket
    /// What the sending way has met, for the exit code.
    private let sendingFailure = Mutex<ExitCode?>(nil)

    init(over socket: consuming StreamSocket) { self.socket = socket }

    /// Goes on until both ways have ended. Throws the exit code, with everything said, where one didn't end well.
    func run() throws {
        let sending = Thread { self.send() }
        try receive()
        // The peer may have ended its side alone, so what is left of ours still goes to it.
        if isatty(STDIN_FILENO) != 0 && sendingFailure.withLock({ $0 == nil }) {
            complain("the peer has ended its side; end yours with Ctrl-D")
        }
        sending.join()
        if let code = sendingFailure.withLock({ $0 }) { throw code }
    }

    private func send() {
        do {
            try sendAll()
            try? socket.shutdown(.sending)
        } catch let error as SystemError {
            fail("standard input can't be read: \(error.text)", Exit.failure)
            try? socket.shutdown(.sending)
        } catch {
            fail("the peer takes no more of standard input: it has closed, or was ended", Exit.peerGone)
        }
    }

    private func sendAll() throws {
        var buffer = [UInt8](repeating: 0, count: Conversation.bufferSize)
        while true {
            let count = try StandardStreams.read(into: &buffer, buffer.indices)
            if count == 0 { return }
            try socket.sendAll(buffer.span.extracting(first: count))
        }
    }

    private func fail(_ message: String, _ code: Int32) {
        sendingFailure.withLock { $0 = failure(message, code: code) }
    }

    private func receive() throws {
        var buffer = [UInt8](repeating: 0, count: Conversation.bufferSize)
        do {
            while true {
                var room = buffer.mutableSpan
                let count = try socket.receive(into: &room)
                if count == 0 { break }
                try StandardStreams.write(buffer.span.extracting(first: count))
            }
        } catch let error as SystemError {
            throw failure("standard output can't be written: \(error.text)")
        } catch let error as SocketError {
            let text = explanation(of: error)
            throw failure(error.code == .peerGone ? text : "the peer is gone: \(text)", code: Exit.peerGone)
        }
        StandardStreams.endOutput()
    }
}
