import CSystem
import Glibc

/// Where local programs reach the agent: `agent.sock` in the runtime folder, for this user and root.
final class ControlSocket {
    static let name = "agent.sock"

    let descriptor: Int32
    private let path: String

    /// Makes it. The folder's lock is held: one that is there belongs to nobody.
    init(in folder: HostFolder) throws(AgentFault) {
        path = "\(folder.path)/\(ControlSocket.name)"
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw AgentFault("the runtime folder's path is too long for a socket in it: \(path)")
        }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        descriptor = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        unsafe unlink(path)
        let mask = umask(0o177)
        let isBound = unsafe withUnsafePointer(to: address) { address in
            let pointer = unsafe UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self)
            return unsafe bind(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
        }
        umask(mask)
        guard isBound, listen(descriptor, 1024) == 0 else {
            let error = errno
            close(descriptor)
            throw AgentFault("\(path) can't be made: \(text(error))")
        }
    }

    deinit {
        unsafe unlink(path)
        close(descriptor)
    }

    /// The next program of this user or of root; others are sent away. Nil where there is none, or no descriptor for it.
    func accept() -> Int32? {
        while true {
            let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
            let accepted = Int32(sk_accept4(descriptor, nil, nil, flags))
            if accepted >= 0 {
                if isAuthorised(accepted) { return accepted }
                close(accepted)
                continue
            }
            if accepted != -EINTR && accepted != -ECONNABORTED { return nil }
        }
    }

    private func isAuthorised(_ descriptor: Int32) -> Bool {
        // struct ucred: process, user, group.
        var peer: (Int32, UInt32, UInt32) = (0, 0, 0)
        var length = socklen_t(MemoryLayout<(Int32, UInt32, UInt32)>.size)
        guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 else { return false }
        return peer.1 == geteuid() || peer.1 == 0
    }
}
