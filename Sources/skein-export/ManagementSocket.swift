import Glibc
import SkeinExport

/// The server's socket for local tools.
enum ManagementSocket {
    /// `export.sock` in the host's runtime folder: SKEIN_DIR, /run/skein, or a folder of this user's in /tmp. Nil where there is
    /// none that can be trusted.
    static func defaultPath(making: Bool) -> String? {
        if let folder = unsafe getenv("SKEIN_DIR"), unsafe folder.pointee != 0 {
            return unsafe String(cString: folder) + "/export.sock"
        }
        if unsafe access("/run/skein", W_OK) == 0 { return "/run/skein/export.sock" }
        let folder = "/tmp/skein-\(geteuid())"
        if making { _ = unsafe mkdir(folder, 0o700) }
        // Anybody could have made a folder of that name.
        var status = stat()
        guard unsafe lstat(folder, &status) == 0, status.st_mode & mode_t(S_IFMT) == mode_t(S_IFDIR),
            status.st_uid == geteuid(), status.st_mode & 0o022 == 0
        else { return nil }
        return folder + "/export.sock"
    }

    /// A socket that is connected to a server; nil where none listens.
    static func connect(_ path: String) -> Int32? {
        guard path.utf8.count < 108 else { return nil }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: Array(path.utf8)) }
        let isConnected = unsafe withUnsafePointer(to: address) { address in
            let pointer = unsafe UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self)
            return unsafe Glibc.connect(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
        }
        if isConnected { return descriptor }
        _ = close(descriptor)
        return nil
    }

    /// Sends words to a server and returns its answer; nil where nobody answers.
    static func ask(_ path: String, _ words: [String]) -> String? {
        guard let descriptor = connect(path) else { return nil }
        defer { _ = close(descriptor) }
        let request = Array(words.map { "\($0)\0" }.joined().utf8)
        let sent = unsafe request.withUnsafeBytes {
            unsafe send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard sent == request.count, shutdown(descriptor, Int32(SHUT_WR)) == 0 else { return nil }
        var answer: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe piece.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            answer += piece[..<count]
        }
        return answer.isEmpty ? nil : String(decoding: answer, as: UTF8.self)
    }
}
