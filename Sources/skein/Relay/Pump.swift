import Glibc
import Skein

/// One way of a relayed connection: bytes from one socket to the other, neither of which waits. What a slow
/// reader doesn't take stays here, and no more is read until it has: so the writer is slowed down.
struct Pump {
    /// What can be under way between the two sockets.
    static let capacity = 1 << 17

    private enum State {
        case open
        /// The source has ended; what is left still goes to the sink.
        case ending
        /// The sink has been told, or takes no more.
        case ended
    }

    /// What a step came to.
    enum Step {
        case moved
        /// Nothing moves until a socket has an event.
        case waits
        case ended
        /// The source was reset: so must the sink be.
        case reset
    }

    private var state = State.open
    private var rest: [UInt8] = []
    /// How much of `rest` is written.
    private var written = 0
    /// Bytes that the sink has taken.
    private(set) var count: UInt64 = 0

    /// Moves what can be moved at once. `room` is anybody's: it holds nothing between two steps.
    mutating func step(
        from source: borrowing StreamSocket, to sink: borrowing StreamSocket, through room: inout [UInt8]
    ) -> Step {
        if state == .ended { return .ended }
        if !rest.isEmpty { return flush(to: sink) }
        if state == .ending {
            try? sink.shutdown(.sending)
            state = .ended
            return .ended
        }
        do {
            var all = room.mutableSpan
            let received = try source.receive(into: &all)
            if received == 0 {
                state = .ending
                return .moved
            }
            return forward(room.span.extracting(first: received), to: sink)
        } catch {
            return error.errno == EAGAIN ? .waits : .reset
        }
    }

    private mutating func forward(_ bytes: Span<UInt8>, to sink: borrowing StreamSocket) -> Step {
        do {
            let sent = try sink.send(bytes)
            count += UInt64(sent)
            keep(bytes.extracting(droppingFirst: sent))
            return .moved
        } catch  where error.errno == EAGAIN {
            keep(bytes)
            return .waits
        } catch {
            return refuse()
        }
    }

    private mutating func flush(to sink: borrowing StreamSocket) -> Step {
        do {
            let sent = try sink.send(rest.span.extracting(droppingFirst: written))
            written += sent
            count += UInt64(sent)
            if written == rest.count {
                rest = []
                written = 0
            }
            return .moved
        } catch  where error.errno == EAGAIN {
            return .waits
        } catch {
            return refuse()
        }
    }

    private mutating func keep(_ bytes: Span<UInt8>) {
        rest.reserveCapacity(bytes.count)
        for index in bytes.indices { rest.append(bytes[index]) }
    }

    /// The sink takes no more. What it sends itself still arrives: the other way goes on.
    private mutating func refuse() -> Step {
        rest = []
        state = .ended
        return .ended
    }
}
