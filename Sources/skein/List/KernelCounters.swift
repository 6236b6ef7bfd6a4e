import CSystem
import Glibc
import SkeinCore

/// What only the kernel knows of the sockets of this network namespace (sock_diag); nothing where it can't
/// be asked. Sockets go by the kernel's numbers.
struct KernelCounters {
    struct Pair {
        let bytesIn: UInt64
        let bytesOut: UInt64
    }

    /// What each TCP socket has moved.
    private(set) var tcp: [UInt64: Pair] = [:]
    /// Unix sockets whose other end is gone.
    private(set) var hungUp: Set<UInt64> = []
    /// Unix sockets that a relay has put in the place of a connection it pumps.
    var relayed: Set<UInt64> { Set(peers.compactMap { relays.contains($0.value) ? $0.key : nil }) }
    private var peers: [UInt64: UInt64] = [:]
    /// The relays' own ends.
    private var relays: Set<UInt64> = []

    init() {
        let opened = sk_socket(AF_NETLINK, 3 | Flag.closeOnExec /* SOCK_RAW */, NETLINK_SOCK_DIAG)
        guard opened >= 0 else { return }
        defer { _ = close(Int32(opened)) }
        for family in [AF_INET, AF_INET6] { ask(Int32(opened), tcp: UInt8(family)) }
        askUnix(Int32(opened))
    }

    private static func header(_ size: Int) -> nlmsghdr {
        var header = nlmsghdr()
        header.nlmsg_len = UInt32(size)
        header.nlmsg_type = UInt16(SOCK_DIAG_BY_FAMILY)
        header.nlmsg_flags = UInt16(NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH)
        return header
    }

    private mutating func ask(_ descriptor: Int32, tcp family: UInt8) {
        struct Request {
            var header = KernelCounters.header(MemoryLayout<Request>.size)
            var body = inet_diag_req_v2()
        }
        var request = Request()
        request.body.sdiag_family = family
        request.body.sdiag_protocol = UInt8(6)
        request.body.idiag_states = UInt32.max
        request.body.idiag_ext = 1 << (UInt8(INET_DIAG_INFO) - 1)
        guard unsafe sk_sendto(descriptor, &request, MemoryLayout<Request>.size, 0, nil, 0) > 0 else { return }
        eachAnswer(descriptor, body: MemoryLayout<inet_diag_msg>.size) { body, attributes in
            // tcpi_bytes_received, and tcpi_bytes_sent without tcpi_bytes_retrans.
            guard let info = attributes[UInt16(INET_DIAG_INFO)], info.count >= 216 else { return }
            let sent: UInt64 = info.word(200)
            let again: UInt64 = info.word(208)
            let inode: UInt32 = body.word(body.count - 4)
            tcp[UInt64(inode)] = Pair(bytesIn: info.word(128), bytesOut: sent &- again)
        }
    }

    private mutating func askUnix(_ descriptor: Int32) {
        struct Request {
            var header = KernelCounters.header(MemoryLayout<Request>.size)
            var body = unix_diag_req()
        }
        var request = Request()
        request.body.sdiag_family = UInt8(AF_UNIX)
        request.body.udiag_states = UInt32.max
        request.body.udiag_show = UInt32(UDIAG_SHOW_NAME | UDIAG_SHOW_PEER)
        guard unsafe sk_sendto(descriptor, &request, MemoryLayout<Request>.size, 0, nil, 0) > 0 else { return }
        eachAnswer(descriptor, body: MemoryLayout<unix_diag_msg>.size) { body, attributes in
            let inode = UInt64(body.word(4, as: UInt32.self))
            // Both directions are shut by nobody but the kernel, when the other end has closed.
            if attributes[UInt16(UNIX_DIAG_SHUTDOWN)]?.storage.first == 3 { hungUp.insert(inode) }
            if let peer = attributes[UInt16(UNIX_DIAG_PEER)] { peers[inode] = UInt64(peer.word(0, as: UInt32.self)) }
            // A NUL, the layout's version between two strokes, then what it is for.
            let name = attributes[UInt16(UNIX_DIAG_NAME)]?.text(1, limit: 108).split(separator: "/") ?? []
            if name.count > 2 && name[0] == "skein" && name[2] == "r" { relays.insert(inode) }
        }
    }

    /// Reads packets of messages up to the end of the answer. Each has a body and attributes behind it.
    private func eachAnswer(_ descriptor: Int32, body size: Int, _ take: (Bytes, [UInt16: Bytes]) -> Void) {
        let head = MemoryLayout<nlmsghdr>.size
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe sk_recvfrom(descriptor, bytes.baseAddress!, bytes.count, 0)
            }
            let packet = Bytes(Array(buffer[..<max(count, 0)]))
            var start = 0
            while packet.holds(start, size: head) {
                let length = Int(packet.word(start, as: UInt32.self))
                guard length >= head + size, packet.holds(start, size: length),
                    packet.word(start + 4) == UInt16(SOCK_DIAG_BY_FAMILY)
                else { return }
                let message = packet.part(start + head, count: length - head)
                take(message.part(0, count: size), KernelCounters.attributes(message, from: size))
                start += (length + 3) & ~3
            }
            if count <= 0 { return }
        }
    }

    private static func attributes(_ message: Bytes, from start: Int) -> [UInt16: Bytes] {
        var found: [UInt16: Bytes] = [:]
        var offset = start
        while message.holds(offset, size: 4) {
            let length = Int(message.word(offset, as: UInt16.self))
            guard length >= 4, message.holds(offset, size: length) else { break }
            found[message.word(offset + 2)] = message.part(offset + 4, count: length - 4)
            offset += (length + 3) & ~3
        }
        return found
    }
}
