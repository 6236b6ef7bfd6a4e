import ArgumentParser
import Glibc
import Skein
import SkeinText
import SkeinTransfer

/// What a transfer came to, for people and for scripts.
struct Outcome {
    /// The file's name at this end; "-" for standard input and output.
    let name: String
    let bytes: UInt64
    /// So many were there from an earlier try.
    let resumedFrom: UInt64
    let checksum: Checksum
    let seconds: Double

    /// One line; `verb` says what was done.
    func text(_ verb: String) -> String {
        let resumed = resumedFrom > 0 ? ", \(resumedFrom) of them earlier" : ""
        return "\(verb) \(printable(name)): \(bytes) bytes\(resumed), xxh128 \(checksum.text)"
    }

    var json: String {
        "{\"name\":\(quoted(name)),\"bytes\":\(bytes),\"resumed_from\":\(resumedFrom),"
            + "\"xxh128\":\"\(checksum.text)\",\"seconds\":\(seconds)}"
    }
}

/// The peer went away before the end: it was closed, killed or interrupted.
struct PeerGone: Error {}

/// What to tell the user of a fault in the protocol, as the error to throw. `peer` says who the other end is.
func failure(_ fault: TransferFault, of peer: String) -> ExitCode {
    switch fault {
    case .stranger:
        return failure(
            "\(peer) doesn't speak as 'skein send' and 'skein receive' do: "
                + "give 'skein send' the address that 'skein receive' says it is ready on")
    case .version(let version):
        return failure("\(peer) speaks version \(version) of the protocol, this one another; update the older skein")
    case .nonsense: return failure("\(peer) sent what has no place there; run both commands again")
    case .checksum:
        return failure(
            "what came is not what \(peer) sent: the checksum is wrong; run both commands again",
            code: Exit.wrongChecksum)
    case .refused(let refusal):
        let code =
            switch refusal.reason {
            case .exists: Exit.exists
            case .checksum: Exit.wrongChecksum
            case .name, .failed, .nonsense: Exit.failure
            }
        return failure("\(peer) ended it: \(printable(refusal.text))", code: code)
    }
}

extension StreamSocket {
    /// The next `count` bytes. Throws `PeerGone`, or a SocketError with `EAGAIN` where a time limit was set and has
    /// passed.
    borrowing func collect(_ count: Int) throws -> [UInt8] {
        do {
            return try receive(exactly: count)
        } catch  where error.errno != EAGAIN {
            throw PeerGone()
        }
    }

    /// Sends all the bytes.
    borrowing func deliver(_ bytes: Span<UInt8>) throws(PeerGone) {
        do { try sendAll(bytes) } catch { throw PeerGone() }
    }
}
