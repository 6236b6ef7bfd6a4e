import SkeinCore

/// The TCP sockets and the hidden Unix listeners of one network namespace, from /proc/PID/net.
struct KernelSockets {
    struct TCPSocket {
        let local: Address
        let peer: Address
        /// In netstat's words.
        let state: String
        let waitingIn: UInt64
        let waitingOut: UInt64
        var isListening: Bool { state == "listening" }
    }

    private(set) var sockets: [UInt64: TCPSocket] = [:]
    /// Names of hidden listeners, without the mark of abstract names.
    private var hiddenNames: Set<String> = []
    /// Whether it is the namespace that this command is in, the only one whose kernel it can ask.
    private let isOurs: Bool

    /// Those of the namespace that the process is in.
    init(around process: Process) {
        isOurs = target(ofLink: "\(process.folder)/ns/net") == target(ofLink: "/proc/self/ns/net")
        read("\(process.folder)/net/tcp", family: 2)
        read("\(process.folder)/net/tcp6", family: 10)
        let unix = (try? File.contents("\(process.folder)/net/unix"))?.text ?? ""
        for line in unix.split(separator: "\n") {
            guard let name = line.split(separator: " ").last, name.hasPrefix("@skein/") else { continue }
            hiddenNames.insert(String(name.dropFirst()))
        }
    }

    private mutating func read(_ path: String, family: UInt16) {
        guard let text = (try? File.contents(path))?.text else { return }
        for line in text.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ")
            // Zero is a connection that no descriptor stands for: closed, or not accepted yet.
            guard fields.count > 9, let inode = UInt64(fields[9]), inode != 0,
                let local = KernelSockets.address(fields[1], family),
                let peer = KernelSockets.address(fields[2], family)
            else { continue }
            let queues = fields[4].split(separator: ":").map { UInt64($0, radix: 16) ?? 0 }
            sockets[inode] = TCPSocket(
                local: local, peer: peer, state: KernelSockets.states[fields[3]] ?? "unknown",
                waitingIn: queues.last ?? 0, waitingOut: queues.first ?? 0)
        }
    }

    private static let states: [Substring: String] = [
        "01": "established", "02": "syn_sent", "03": "syn_received", "04": "fin_wait", "05": "fin_wait",
        "06": "time_wait", "07": "closed", "08": "close_wait", "09": "closing", "0A": "listening", "0B": "closing",
    ]

    /// "0100007F:1F90": words of the address as this processor reads them, then the port.
    private static func address(_ text: Substring, _ family: UInt16) -> Address? {
        let parts = text.split(separator: ":")
        guard parts.count == 2, parts[0].utf8.count == (family == 2 ? 8 : 32), let port = UInt16(parts[1], radix: 16)
        else { return nil }
        let digits = Array(parts[0])
        var words: [UInt64] = []
        for start in stride(from: 0, to: digits.count, by: 8) {
            guard let word = UInt64(String(digits[start..<start + 8]), radix: 16) else { return nil }
            words.append(word)
        }
        var address = Address()
        address.family = family
        address.port = port
        address.high = words[0] | (words.count == 4 ? words[1] << 32 : 0)
        address.low = words.count == 4 ? words[2] | words[3] << 32 : 0
        return address
    }

    /// The kernel's number of the other end, where that is a socket of the same namespace.
    func otherEnd(of socket: TCPSocket) -> UInt64? {
        sockets.first { _, other in
            KernelSockets.same(other.local, socket.peer) && KernelSockets.same(other.peer, socket.local)
        }?.key
    }

    func otherEnd(ofNumber number: UInt64) -> UInt64? { sockets[number].flatMap(otherEnd) }

    /// Whether the peer is on this host, as far as this namespace can tell.
    func isOnThisHost(_ socket: TCPSocket) -> Bool {
        if socket.peer.unmapped().isLoopback || otherEnd(of: socket) != nil { return true }
        return isOurs && isLocal(socket.peer) == true
    }

    /// What the TCP socket is bound to that listens at this address; nil when none does.
    func listener(at address: Address) -> Address? {
        let all = sockets.values.filter { $0.isListening && $0.local.port == address.port }.map(\.local)
        return all.first { KernelSockets.same($0, address) } ?? all.first { $0.unmapped().isAny }
    }

    /// Whether a hidden listener stands beside the TCP listener.
    enum Hidden { case present, absent, otherVersion, unknown }

    func hiddenListener(at address: Address) -> Hidden {
        guard isOurs, let cookie = findListener(address.orLoopback())?.cookie else { return .unknown }
        let end = "/tcp/\(String(cookie, radix: 16))"
        if hiddenNames.contains("skein/\(Layout.version)\(end)") { return .present }
        return hiddenNames.contains { $0.hasSuffix(end) } ? .otherVersion : .absent
    }

    private static func same(_ one: Address, _ other: Address) -> Bool {
        one.port == other.port && one.unmapped().sameHost(as: other.unmapped())
    }
}
