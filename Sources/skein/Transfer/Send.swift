import ArgumentParser
import Glibc
import Skein
import SkeinTransfer

/// `skein send`: gives a file, or standard input, to a `skein receive`.
struct Send: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "send",
        abstract: "Send a file or standard input to 'skein receive'.",
        discussion: """
            What the receiver has from an earlier try is not sent again, if it is the beginning of this file. Standard \
            input can't be resumed.
            """)

    @Argument(help: ArgumentHelp("The file, or '-' for standard input.", valueName: "file"), completion: .file())
    var path: String

    @Argument(help: "The STP address that the receiver listens on.", transform: stpAddress)
    var address: Address

    @Option(help: ArgumentHelp("The name to offer instead of the file's own.", valueName: "name"))
    var name: String?

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() throws {
        StandardStreams.reserve()
        let source = try Source(path, name: name)
        let advice =
            source.isFile
            ? "run both commands again: what has arrived stays, and only the rest is sent"
            : "standard input can't be sent from the middle: run both commands again from the beginning"
        Interruption.say { "interrupted; \(advice)" }
        var delivery = Delivery(source, to: try connected(to: address))
        do {
            let outcome = try delivery.run(as: path == "-" ? "-" : lastPart(path))
            try output(json ? outcome.json : outcome.text("sent"))
        } catch let fault as TransferFault {
            throw failure(fault, of: "the receiver")
        } catch is PeerGone {
            throw failure("the receiver is gone; \(advice)", code: Exit.peerGone)
        } catch let error as SystemError {
            throw failure("\(path) can't be read: \(error.text)")
        }
    }
}

/// One transfer from this end: the state machine with its I/O.
private struct Delivery: ~Copyable {
    private let source: Source
    private let socket: StreamSocket
    private var machine: Transmission
    private var resumedFrom: UInt64 = 0

    init(_ source: consuming Source, to socket: consuming StreamSocket) {
        machine = Transmission(source.offer)
        self.source = source
        self.socket = socket
    }

    mutating func run(as name: String) throws -> Outcome {
        try socket.deliver(machine.opening.span)
        guard case .compare(let count, let checksum) = try answer() else { throw TransferFault.nonsense }
        let opening = try beginning(after: count, checksum)
        var progress = Progress(from: resumedFrom, total: source.offer.size)
        defer { progress.clear() }
        do {
            try socket.deliver(opening.span)
            let bytes = try sendContent(&progress)
            try socket.deliver(machine.end().span)
            guard case .done = try answer() else { throw TransferFault.nonsense }
            return Outcome(
                name: name, bytes: bytes, resumedFrom: resumedFrom, checksum: machine.sum, seconds: progress.seconds)
        } catch let gone as PeerGone {
            // The receiver may have said why, while we were sending.
            do { _ = try answer() } catch let fault as TransferFault { throw fault } catch {}
            throw gone
        } catch let error as SystemError {
            try? socket.deliver(Refusal(.failed, "the file can't be read: \(error.text)").message.span)
            throw error
        }
    }

    /// Goes on after what the receiver has, if that is the beginning of what we have.
    private mutating func beginning(after count: UInt64, _ checksum: Checksum) throws(SystemError) -> [UInt8] {
        guard count > 0, let own = try source.checksum(ofFirst: count) else { return machine.start() }
        let isSame = own.value == checksum
        if !isSame { return machine.start() }
        resumedFrom = count
        return machine.resume(own)
    }

    /// The size of all that the receiver has at the end.
    private mutating func sendContent(_ progress: inout Progress) throws -> UInt64 {
        var buffer = [UInt8](repeating: 0, count: Limit.message)
        let content = Transmission.contentOffset..<Transmission.contentOffset + Send.chunkSize
        var position = resumedFrom
        while true {
            let count = try source.read(into: &buffer, content, at: position)
            if count == 0 { break }
            let length = machine.seal(&buffer, count: count)
            try socket.deliver(buffer.span.extracting(first: length))
            position += UInt64(count)
            progress.advance(to: position)
        }
        if let size = source.offer.size, position < size {
            try? socket.deliver(Refusal(.failed, "the file became shorter while it was sent").message.span)
            throw failure("the file became shorter while it was sent; run both commands again")
        }
        return position
    }

    private mutating func answer() throws -> Transmission.Action {
        while true {
            let message = try socket.collect(machine.wanted)
            let action = try machine.take(message.span)
            if action != .read { return action }
        }
    }
}

extension Send {
    /// Bytes of content in a message: it and what the receiver does with it fit into the processor's cache.
    fileprivate static let chunkSize = 1 << 18
}
