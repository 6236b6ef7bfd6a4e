import Glibc
import SkeinDevice
import Synchronization

/// Where local tools list, add, remove and watch exports while the server runs: a Unix socket of the server's user.
///
/// A request is words, each with a NUL behind it, up to the end of the stream. The answer is `ok` or `error` and a
/// newline, then text for people.
final class ManagementChannel: Sendable {
    private static let longestRequest = 64 << 10

    let transport: RemoteTransport
    private let catalogue: Catalogue
    private let local: LocalTransport
    let actions: Actions
    /// Changes under way, -1 while everything is handed over.
    let changes = Mutex(0)
    /// Requests that are being answered.
    let requests = Atomic(0)
    /// Another process has everything now.
    let isHandedOver = Atomic(false)

    /// What it has the rest of the server do.
    struct Actions: Sendable {
        /// Ends the connections of an export that was removed.
        let drop: @Sendable (Export) -> Void
        /// Hands everything over to another process.
        let handOver: @Sendable (HandoverLink) -> Void
        /// Starts a server that is to take this one's place, by the management channel at this path; its process.
        let spawn: @Sendable (String) throws(ExportFault) -> Int32
    }

    init(_ transport: RemoteTransport, _ catalogue: Catalogue, _ local: LocalTransport, _ actions: Actions) {
        self.transport = transport
        self.catalogue = catalogue
        self.local = local
        self.actions = actions
    }

    /// Serves the next tool, in a thread of its own: a device may take long to open.
    func accept() {
        let descriptor = transport.accept()
        guard descriptor >= 0 else { return }
        guard isAuthorised(descriptor) else {
            _ = close(descriptor)
            return
        }
        requests.add(1, ordering: .relaxed)
        Thread.start {
            self.serve(descriptor)
            self.requests.subtract(1, ordering: .releasing)
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
        let words = request(descriptor)
        if words?.first == HandoverLink.request { return handOver(words ?? [], HandoverLink(descriptor)) }
        if let words { answer(words, descriptor) }
        _ = close(descriptor)
    }

    /// The words of a request; nil where there is none.
    private func request(_ descriptor: Int32) -> [String]? {
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
            if count < 0 { return nil }
            request += piece[..<max(0, count)]
            // Who takes our place goes on to speak.
            if count == 0 || isHandover(request) { break }
        }
        return request.split(separator: 0, omittingEmptySubsequences: false).dropLast().map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    private func isHandover(_ request: [UInt8]) -> Bool {
        request.starts(with: Array("\(HandoverLink.request)\0".utf8)) && request.count { $0 == 0 } == 2
    }

    private func answer(_ words: [String], _ descriptor: Int32) {
        let answer: String
        do throws(ExportFault) {
            answer = "ok\n" + (try perform(words[...]))
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
        case ("restart", 1):
            try restart()
            return ""
        case ("ls", 1): return rows.reduce(Row.heading) { $0 + $1.text }
        case ("ls-json", 1): return "[\(rows.map(\.json).joined(separator: ", "))]\n"
        case ("stats", 1): return rows.reduce(Row.statsHeading) { $0 + $1.statsText }
        case ("stats-json", 1): return "[\(rows.map(\.statsJSON).joined(separator: ", "))]\n"
        case ("clients", 1): return clients.reduce(ClientRow.heading) { $0 + $1.text }
        case ("clients-json", 1): return "[\(clients.map(\.json).joined(separator: ", "))]\n"
        default: return try whileNobodyHandsOver { () throws(ExportFault) in try change(words) }
        }
    }

    private func change(_ words: ArraySlice<String>) throws(ExportFault) -> String {
        switch (words.first, words.count) {
        case ("add", 2):
            let specification = try DeviceSpecification(words[1])
            guard catalogue.add(try local.export(specification)) else {
                throw ExportFault("there is an export '\(specification.name)' already; choose another name")
            }
            return ""
        case ("remove", 2):
            guard let export = catalogue.remove(words[1]) else { throw unknown(words[1]) }
            actions.drop(export)
            return ""
        case ("resize", 3): return try resize(words[1], words[2])
        case ("rebuild", 4): return try rebuild(words[1], part: words[2], words[3])
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

    /// Returns when the new part has all of the content.
    private func rebuild(_ name: String, part: String, _ text: String) throws(ExportFault) -> String {
        guard let export = catalogue.all.first(where: { $0.name == name }) else { throw unknown(name) }
        guard let mirror = export.iop.device as? MirrorDevice else { throw ExportFault("'\(name)' is no mirror") }
        guard let number = Int(part), number > 0 else {
            throw ExportFault("'\(part)' is no part; they are counted from 1, in the order of 'skein export ls'")
        }
        do throws(DeviceFault) {
            try mirror.replace(number - 1, with: try DeviceText(text).open(readOnly: false))
        } catch {
            throw ExportFault(error.text)
        }
        return ""
    }

    private var clients: [ClientRow] {
        catalogue.all.flatMap { export in
            export.accounts.clients.map { ClientRow(export: export.name, counters: $0, sums: $0.sums) }
        }
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
