import ArgumentParser
import Glibc
import Skein
import SkeinTransfer

/// One transfer to this end: the state machine with its I/O.
struct Arrival: ~Copyable {
    private static let greetingLimit = Duration.seconds(10)

    private let socket: StreamSocket
    /// Who is at the other end, for people.
    private let client: String
    private let destination: Destination
    private let force: Bool
    private var machine = Reception()
    private var part: PartFile?
    private var resumedFrom: UInt64 = 0

    init(from socket: consuming StreamSocket, to destination: Destination, force: Bool) {
        client = Arrival.name(of: socket)
        self.socket = socket
        self.destination = destination
        self.force = force
    }

    /// Its process, as far as the kernel tells.
    private static func name(of socket: borrowing StreamSocket) -> String {
        guard let process = (try? socket.peerCredentials)?.process, process > 0 else { return "a client" }
        let name = printable(Process(process).name)
        return name.isEmpty ? "process \(process)" : "process \(process) (\(name))"
    }

    /// What the client offers. Nil, with the reason said, where it is no sender: another one may come.
    mutating func greet() throws -> Offer? {
        do {
            try socket.setOption(.receiveTimeout, to: Arrival.greetingLimit)
            var message: [UInt8] = []
            guard case .decide(let offer) = try next(&message) else { throw TransferFault.nonsense }
            try socket.setOption(.receiveTimeout, to: nil)
            return offer
        } catch let fault as TransferFault {
            _ = failure(fault, of: client)
            refuse(Refusal(.nonsense, "what came is no message of this version of skein"))
        } catch is PeerGone {
            complain("\(client) came, and went before it had offered a file; still waiting")
        } catch let error as SocketError {
            complain("\(client) came and offers no file (\(explanation(of: error))); still waiting for a sender")
        }
        return nil
    }

    /// Receives what is offered, to its end.
    mutating func take(_ offer: Offer) throws -> Outcome {
        do {
            let target = try destination.target(for: offer)
            try accept(offer, as: target)
            return try receive(offer, as: target)
        } catch let refusal as Refusal {
            refuse(refusal)
            throw failure(refusal.text, code: refusal.reason == .exists ? Exit.exists : Exit.failure)
        } catch let problem as PartFile.Problem {
            refuse(Refusal(problem.reason, problem.text))
            throw failure(problem.text, code: problem.reason == .exists ? Exit.exists : Exit.failure)
        } catch let error as SystemError {
            let text = "standard output can't be written: \(error.text)"
            refuse(Refusal(.failed, text))
            throw failure(text)
        } catch let fault as TransferFault {
            switch fault {
            case .refused: break
            case .checksum: refuse(Refusal(.checksum, "the checksum of what came is wrong; run both commands again"))
            case .stranger, .version, .nonsense: refuse(Refusal(.nonsense, "what came has no place there"))
            }
            throw failure(fault, of: "the sender")
        } catch is PeerGone {
            throw failure("the sender is gone; \(advice(offer))", code: Exit.peerGone)
        }
    }

    private func advice(_ offer: Offer) -> String {
        guard let part, part.size > 0 else { return "run both commands again" }
        return "\(part.size) bytes are kept in \(part.path): run both commands again"
            + (offer.size == nil ? "" : ", and only the rest is sent")
    }

    /// Opens the file in progress, and tells the sender what is in it.
    private mutating func accept(_ offer: Offer, as target: String?) throws {
        var checksum = RunningChecksum()
        var count: UInt64 = 0
        if let target {
            let standing = Destination.Standing(of: target)
            if let reason = standing?.irreplaceable(target) { throw Refusal(.exists, reason) }
            if !force && standing != nil {
                throw Refusal(.exists, "\(target) exists; move it away, or receive with --force")
            }
            let part = try PartFile(for: target)
            if let size = offer.size {
                if let room = part.room, room < size - min(size, part.size) {
                    throw Refusal(.failed, "\(target) needs \(size) bytes, and its disk has \(room); make room there")
                }
                checksum = try part.checksum()
                count = part.size
            }
            self.part = part
        }
        try socket.deliver(machine.accept(having: count, checksum).span)
    }

    private mutating func receive(_ offer: Offer, as target: String?) throws -> Outcome {
        var progress = Progress(from: 0, total: offer.size)
        defer { progress.clear() }
        var position: UInt64 = 0
        var message: [UInt8] = []
        while true {
            switch try next(&message) {
            case .begin(let offset):
                try part?.cut(to: offset)
                resumedFrom = offset
                position = offset
                progress = Progress(from: offset, total: offer.size)
            case .store(let count):
                try store(message.span.extracting(first: count))
                position += UInt64(count)
                progress.advance(to: position)
            case .finish(let size, let checksum):
                try complete(target, mode: offer.mode)
                // The file is complete, whether or not the sender is still there to hear it.
                try? socket.deliver(machine.stored.span)
                return Outcome(
                    name: target ?? "-", bytes: size, resumedFrom: resumedFrom, checksum: checksum,
                    seconds: progress.seconds)
            case .read, .decide: throw TransferFault.nonsense
            }
        }
    }

    private func complete(_ target: String?, mode: UInt16) throws {
        if let target { try part?.become(target, mode: mode, replacing: force) }
    }

    private func store(_ content: Span<UInt8>) throws {
        if let part { try part.append(content) } else { try StandardStreams.write(content) }
    }

    /// The machine's next action that isn't 'read on', and the bytes that led to it.
    private mutating func next(_ message: inout [UInt8]) throws -> Reception.Action {
        while true {
            message = try socket.collect(machine.wanted)
            let action = try machine.take(message.span)
            if action != .read { return action }
        }
    }

    /// Says why this is the end. A sender that is sending finds out by not being able to.
    private func refuse(_ refusal: Refusal) {
        try? socket.deliver(refusal.message.span)
        try? socket.shutdown(.receiving)
    }
}
