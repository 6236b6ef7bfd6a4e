import CSystem
import Glibc

/// How a server that runs and the one that takes its place speak to each other: records on the Unix socket of the
/// management channel, each with an open file or none.
///
/// The old server holds its clients and says what it has: `file` before the records that they belong to, `listener`,
/// `export`, `client`, and `complete`. The new one makes its devices of that and answers `ready`; with `done` the clients
/// are its own. Whatever else happens, the old server goes on as if nothing had been.
final class HandoverLink: Sendable {
    /// Of the records. Servers of two versions don't understand each other.
    static let version = 1
    /// Seconds that one waits for the other.
    static let patience = 30
    /// The first word of the request that begins it. The version is the second.
    static let request = "hand-over"

    enum Kind: UInt32 {
        case file = 1
        case listener, export, client, complete, ready, done
        /// It is not to be; the body says why.
        case refused
    }

    struct Record {
        let kind: Kind
        let body: [UInt8]
        /// An open file, of whoever has received it.
        let file: Int32?
    }

    private let descriptor: Int32

    /// Takes over a connected socket that waits.
    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var patience = timeval(tv_sec: HandoverLink.patience, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            _ = unsafe setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    deinit { _ = close(descriptor) }

    private static func broken() -> ExportFault {
        ExportFault("the other server has ended, or doesn't answer")
    }

    /// Sends a record. The file stays the sender's too.
    func send(_ kind: Kind, _ body: [UInt8] = [], file: Int32? = nil) throws(ExportFault) {
        // A header of its own, so that the file comes with its first byte.
        var header = (kind.rawValue, UInt32(file == nil ? 0 : 1), body.count)
        var files = [file ?? -1]
        let sent = unsafe sk_send_descriptors(
            descriptor, &header, MemoryLayout.size(ofValue: header), &files, file == nil ? 0 : 1, Int32(MSG_NOSIGNAL))
        guard sent == MemoryLayout.size(ofValue: header) else { throw HandoverLink.broken() }
        var done = 0
        while done < body.count {
            let count = unsafe body.withUnsafeBytes {
                unsafe Glibc.send(descriptor, $0.baseAddress! + done, $0.count - done, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw HandoverLink.broken() }
            done += count
        }
    }

    /// The next record.
    func receive() throws(ExportFault) -> Record {
        var header: (UInt32, UInt32, Int) = (0, 0, 0)
        var file: Int32 = -1
        var count: Int32 = 0
        let size = MemoryLayout.size(ofValue: header)
        var got: Int
        repeat {
            got = unsafe sk_receive_descriptors(descriptor, &header, size, &file, 1, &count, 0)
        } while got == -Int(EINTR)
        guard count >= 0 else { throw ExportFault("descriptors are short: raise the limit (ulimit -n)") }
        guard got == size, let kind = Kind(rawValue: header.0), Int32(header.1) == count, header.2 >= 0 else {
            throw HandoverLink.broken()
        }
        return Record(kind: kind, body: try read(header.2), file: count == 1 ? file : nil)
    }

    private func read(_ size: Int) throws(ExportFault) -> [UInt8] {
        var body = [UInt8](repeating: 0, count: size)
        var done = 0
        while done < size {
            let count = unsafe body.withUnsafeMutableBytes {
                unsafe recv(descriptor, $0.baseAddress! + done, $0.count - done, 0)
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw HandoverLink.broken() }
            done += count
        }
        return body
    }

    /// The next record, which must be of this kind; the other's own words where it refuses.
    func expect(_ kind: Kind) throws(ExportFault) {
        let record = try receive()
        if record.kind == .refused { throw ExportFault(String(decoding: record.body, as: UTF8.self)) }
        guard record.kind == kind else { throw HandoverLink.broken() }
    }
}
