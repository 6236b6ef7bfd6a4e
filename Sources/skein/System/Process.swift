import Glibc

/// A process as /proc shows it. All of it may be gone a moment later.
struct Process {
    let identifier: Int32

    init(_ identifier: Int32) { self.identifier = identifier }

    /// Its folder in /proc.
    var folder: String { "/proc/\(identifier)" }

    /// Whether it lives, and whose it is.
    struct Standing {
        /// Neither gone nor a zombie. One that /proc hides from us (hidepid) lives if it can be signalled.
        var isAlive = false
        /// Its real, effective and saved user; empty when /proc hides it.
        var users: [UInt32] = []
    }

    /// How it stands now.
    var standing: Standing {
        guard identifier > 0, kill(identifier, 0) == 0 || errno == EPERM else { return Standing() }
        let state = line("State:") ?? ""
        let users = (line("Uid:") ?? "").split { $0 == "\t" || $0 == " " }.prefix(3).compactMap { UInt32($0) }
        return Standing(isAlive: !state.hasPrefix("Z") && !state.hasPrefix("X"), users: users)
    }

    /// Its name as the kernel keeps it, cut to 15 bytes.
    var name: String {
        let text = (try? File.contents("\(folder)/comm"))?.text ?? ""
        return String(text.prefix { $0 != "\n" })
    }

    /// A variable of the environment that it started with; nil when it is unset, empty or hidden from us.
    func variable(_ name: String) -> String? {
        let block = (try? File.contents("\(folder)/environ"))?.storage ?? []
        let mark = Array("\(name)=".utf8)
        let entry = block.split(separator: 0).first { $0.starts(with: mark) && $0.count > mark.count }
        return entry.map { String(decoding: $0.dropFirst(mark.count), as: UTF8.self) }
    }

    /// Its number as it sees it itself, which differs in a process namespace of its own.
    var ownIdentifier: Int32 {
        line("NSpid:").flatMap { $0.split(separator: "\t").last }.flatMap { Int32($0) } ?? identifier
    }

    /// What one of its descriptors leads to, in the kernel's words; nil when it isn't open or hidden from us.
    func file(behind descriptor: Int32) -> String? { target(ofLink: "\(folder)/fd/\(descriptor)") }

    private func line(_ key: String) -> String? {
        guard let text = (try? File.contents("\(folder)/status"))?.text else { return nil }
        return text.split(separator: "\n").first { $0.hasPrefix(key) }.map {
            String($0.dropFirst(key.count).drop { $0 == "\t" || $0 == " " })
        }
    }

    /// Whether this process has given up set-user-id programs (as services hardened by systemd have).
    static var mayNotGainPrivileges: Bool { Process(getpid()).line("NoNewPrivs:") == "1" }
}

/// Waits about so long; for what another process is just doing.
func pause(microseconds: UInt32) { _ = usleep(microseconds) }
