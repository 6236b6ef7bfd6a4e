import Glibc
import SkeinExport

/// What systemd, or another service manager that does as it does, gives to the server and is told.
enum ServiceManager {
    /// The first descriptor that is passed, by the protocol (sd_listen_fds(3)).
    private static let firstDescriptor: Int32 = 3
    /// The name of a socket that is the management channel and not for clients.
    private static let channelName = "manage"

    /// Sockets that listen already: those for clients, and the one of the management channel.
    static func sockets() throws(ExportFault) -> (listeners: [RemoteTransport], channel: RemoteTransport?) {
        defer { for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { _ = unsafe unsetenv(name) } }
        guard variable("LISTEN_PID").flatMap(Int32.init) == getpid(),
            let count = variable("LISTEN_FDS").flatMap(Int32.init), count > 0
        else { return ([], nil) }
        let names = variable("LISTEN_FDNAMES")?.split(separator: ":", omittingEmptySubsequences: false) ?? []
        var listeners: [RemoteTransport] = []
        var channel: RemoteTransport?
        for index in 0..<Int(count) {
            let transport = try RemoteTransport(given: firstDescriptor + Int32(index))
            if index < names.count && names[index] == channelName {
                channel = transport
            } else {
                listeners.append(transport)
            }
        }
        return (listeners, channel)
    }

    /// Clients may come. Where another process was the server before, this one is from now on.
    static func tellReady() { tell("READY=1\nMAINPID=\(getpid())") }

    /// Sends a message of sd_notify(3), where somebody wants it.
    private static func tell(_ message: String) {
        guard let path = variable("NOTIFY_SOCKET") else { return }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        guard let first = bytes.first, bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        // A name without a file.
        if first == UInt8(ascii: "@") { bytes[0] = 0 }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { _ = close(descriptor) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        unsafe withUnsafePointer(to: address) { address in
            let pointer = unsafe UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self)
            _ = unsafe sendto(descriptor, message, message.utf8.count, Int32(MSG_NOSIGNAL), pointer, length)
        }
    }

    private static func variable(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }
}
