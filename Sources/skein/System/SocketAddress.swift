import CSystem
import Glibc

/// An address of the kernel's sockets, as its calls take it.
struct SocketAddress {
    private var storage = sockaddr_storage()
    private(set) var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

    /// A copy of the system's.
    init(_ address: UnsafePointer<sockaddr>, length: socklen_t) {
        unsafe set(UnsafeRawBufferPointer(start: address, count: Int(length)))
    }

    /// A port of this host, as TCP over IPv4 reaches it.
    init(loopbackPort port: UInt16) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
        unsafe withUnsafeBytes(of: address) { unsafe set($0) }
    }

    /// A name of Unix sockets that no file stands for: it is gone with its socket.
    init(abstractName name: String) {
        let bytes = [0] + Array(name.utf8)
        unsafe withUnsafeBytes(of: sa_family_t(AF_UNIX)) { family in
            unsafe (Array(family) + bytes).withUnsafeBytes { unsafe set($0) }
        }
    }

    private mutating func set(_ bytes: UnsafeRawBufferPointer) {
        length = socklen_t(bytes.count)
        unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyMemory(from: bytes) }
    }

    /// What `call`, getsockname or getpeername, says of a socket. Nil where it has none.
    init?(
        of descriptor: Int32, _ call: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) {
        let result = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe call(descriptor, UnsafeMutableRawPointer(storage).assumingMemoryBound(to: sockaddr.self), &length)
        }
        if result != 0 { return nil }
    }

    var family: Int32 { Int32(storage.ss_family) }
    var isTCP: Bool { family == AF_INET || family == AF_INET6 }

    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>) -> Result) -> Result {
        unsafe withUnsafePointer(to: storage) { storage in
            unsafe body(UnsafeRawPointer(storage).assumingMemoryBound(to: sockaddr.self))
        }
    }

    /// The port of a TCP address.
    var port: UInt16 {
        // It stands at the same place for IPv4 and IPv6.
        unsafe withUnsafeBytes(of: storage) { UInt16(bigEndian: unsafe $0.load(fromByteOffset: 2, as: UInt16.self)) }
    }

    /// Its numbers: 127.0.0.1:80 or [::1]:80.
    var text: String {
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var port = [CChar](repeating: 0, count: Int(NI_MAXSERV))
        let result = unsafe withPointer { address in
            unsafe getnameinfo(
                address, length, &host, socklen_t(host.count), &port, socklen_t(port.count),
                NI_NUMERICHOST | NI_NUMERICSERV)
        }
        guard result == 0 else { return "an unknown address" }
        let words = [host, port].map { text in
            String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
        return family == AF_INET6 ? "[\(words[0])]:\(words[1])" : "\(words[0]):\(words[1])"
    }
}
