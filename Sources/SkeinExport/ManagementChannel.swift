import Glibc
import SkeinDevice

/// Where local tools list, add, remove and watch exports while the server runs: a Unix socket of the server's user.
///
/// A request is words, each with a NUL behind it, up to the end of the stream. The answer is `ok` or `error` and a
/// newline, then text for people.
final class ManagementChannel: Sendable {
    private static let longestRequest = 64 << 10

    let transport: RemoteTransport
    private let catalogue: Catalogue
    private let local: LocalTransport
    private let drop: @Sendable (Export) -> Void

    /// `drop` ends the connections of an export that is removed.
    init(
        _ transport: RemoteTransport, _ catalogue: Catalogue, _ local: LocalTransport,
        drop: @escaping @Sendable (Export) -> Void
    ) {
        self.transport = transport
        self.catalogue = catalogue
        self.local = local
        self.drop = drop
    }

    /// Serves the next tool, in a thread of its own: a device may take long to open.
    func accept() {
        let descriptor = transport.accept()
        guard descriptor >= 0 else { return }
        guard isAuthorised(descriptor) else {
            _ = close(descriptor)
            return
        }
        Thread.start {
            self.serve(descriptor)
            _ = close(descriptor)
        }
    }

    /// The server's own user, and root.
    private func isAuthorised(_ descriptor: Int32) -> Bool {
        // struct ucred: process, user, group.
        var peer: (Int32, UInt32, UInt32) = (0, 0, 0)
        var length = socklen_t(MemoryLayout<(Int32, UInt32, UInt32)>.size)
        guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 else { return false }
        return peer.1 == geteuid() || peer.1 == 0
    }

    private func serve(_ descriptor: Int32) {
        // The transport's sockets don't wait; this thread may.
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            _ = unsafe setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        var request: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while request.count <= ManagementChannel.longestRequest {
            let count = unsafe piece.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count < 0 { return }
            if count == 0 { break }
            request += piece[..<count]
        }
        let words = request.split(separator: 0, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        let answer: String
        do throws(ExportFault) {
            answer = "ok\n" + (try perform(words.dropLast()))
        } catch {
            answer = "error\n" + error.text
        }
        var bytes = Array(answer.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes.withUnsafeMutableBytes {
                unsafe send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            sent += count
        }
    }

    // MARK: - Requests

    private func perform(_ words: ArraySlice<String>) throws(ExportFault) -> String {
        switch (words.first, words.count) {
        case ("ls", 1): return rows.reduce(Row.heading) { $0 + $1.text }
        case ("ls-json", 1): return "[\(rows.map(\.json).joined(separator: ", "))]\n"
        case ("stats", 1): return rows.reduce(Row.statsHeading) { $0 + $1.statsText }
        case ("stats-json", 1): return "[\(rows.map(\.statsJSON).joined(separator: ", "))]\n"
        case ("add", 2):
            let specification = try DeviceSpecification(words[1])
            guard catalogue.add(try local.export(specification)) else {
                throw ExportFault("there is an export '\(specification.name)' already; choose another name")
            }
            return ""
        case ("remove", 2):
            guard let export = catalogue.remove(words[1]) else { throw unknown(words[1]) }
            drop(export)
            return ""
        case ("resize", 3): return try resize(words[1], words[2])
        default: throw ExportFault("this server doesn't know the request '\(words.first ?? "")'")
        }
    }

    private func unknown(_ name: String) -> ExportFault {
        ExportFault("there is no export '\(name)'; 'skein export ls' lists them")
    }

    private func resize(_ name: String, _ size: String) throws(ExportFault) -> String {
        guard let export = catalogue.all.first(where: { $0.name == name }) else { throw unknown(name) }
        guard let bytes = DeviceText.size(size) else {
            throw ExportFault("'\(size)' is no size; write it as 64M or 1G")
        }
        guard export.iop.features.contains(.resize), !export.isReadOnly else {
            throw ExportFault("the size of '\(name)' can't change")
        }
        var message = unsafe Message(.resize, length: bytes)
        if case .failed(let errno) = export.iop.perform(&message) {
            throw ExportFault("'\(name)' can't have \(bytes) bytes: \(unsafe String(cString: strerror(errno)))")
        }
        return ""
    }

    private var rows: [Row] {
        catalogue.all.map { export in
            let (clients, sums) = export.accounts.standing
            return Row(
                name: export.name, size: export.iop.length.bytes, isReadOnly: export.isReadOnly, clients: clients,
                sums: sums,
                device: export.iop.device.description)
        }
    }
}

/// An export as it is listed.
private struct Row {
    let name: String
    let size: UInt64
    let isReadOnly: Bool
    let clients: Int
    let sums: Sums
    let device: String

    static let heading = line(["NAME", "BYTES", "MODE", "CLIENTS", "DEVICE"])
    static let statsHeading = line(["NAME", "CLIENTS", "REQUESTS", "READ", "WRITTEN", "ERRORS"])

    private static func line(_ words: [String]) -> String { words.joined(separator: "\t") + "\n" }

    var text: String {
        Row.line([printable(name), "\(size)", isReadOnly ? "ro" : "rw", "\(clients)", printable(device)])
    }

    var statsText: String {
        Row.line(
            [printable(name)]
                + [UInt64(clients), sums.requests, sums.bytesRead, sums.bytesWritten, sums.errors].map { "\($0)" })
    }

    var json: String {
        """
        {"name": \(quoted(name)), "bytes": \(size), "read_only": \(isReadOnly), "clients": \(clients), \
        "device": \(quoted(device))}
        """
    }

    var statsJSON: String {
        """
        {"name": \(quoted(name)), "clients": \(clients), "requests": \(sums.requests), "bytes_read": \(sums.bytesRead), \
        "bytes_written": \(sums.bytesWritten), "errors": \(sums.errors)}
        """
    }

    /// For a terminal, which control characters could lead astray.
    private func printable(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { $0.value < 32 || (127..<160).contains($0.value) ? "?" : $0 }))
    }

    private func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case _ where scalar.value < 32:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
