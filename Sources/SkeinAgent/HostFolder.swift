import Glibc
import SkeinMedium

/// The runtime folder of a host, held by its agent.
///
/// A lock on `agent.lock` is held as long as the process lives, whatever way it ends. So whoever has it knows that the
/// agents before it, whose incarnations the file lists, are gone.
final class HostFolder {
    /// Lines that are kept: the last incarnation on each of so many media.
    private static let linesKept = 16

    let path: String
    /// This machine, and its boot.
    let machine: Identifier
    let boot: Identifier
    private let lock: Int32
    /// What the file says: `MACHINE BOOT MEDIUM INCARNATION`, the newest last.
    private var lines: [String]

    /// Finds the folder and takes its lock.
    init() throws(AgentFault) {
        path = try HostFolder.find()
        boot = try HostFolder.identifier(in: "/proc/sys/kernel/random/boot_id")
        // A container may have none. Then the boot is what tells machines apart.
        machine = (try? HostFolder.identifier(in: "/etc/machine-id")) ?? boot
        let file = "\(path)/agent.lock"
        lock = unsafe open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard lock >= 0 else { throw AgentFault("\(file) can't be opened: \(text(errno))") }
        var status = stat()
        guard unsafe fstat(lock, &status) == 0, status.st_uid == geteuid(), status.st_mode & S_IFMT == S_IFREG else {
            close(lock)
            throw AgentFault("\(file) is another user's: remove it, or name another folder with SKEIN_DIR")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw AgentFault("an agent runs here already (\(file) is locked): a second one takes another SKEIN_DIR")
        }
        var content = [UInt8](repeating: 0, count: 8192)
        let count = unsafe pread(lock, &content, content.count, 0)
        lines = String(decoding: content.prefix(max(0, count)), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    deinit { close(lock) }

    /// Incarnations on that medium that have ended, since their agents had the lock in this boot of the machine.
    func gone(on medium: Identifier) -> [Identifier] {
        lines.compactMap { line in
            let fields = line.split(separator: " ").map { Identifier(hexadecimal: $0) }
            guard fields.count == 4, fields[0] == machine, fields[1] == boot, fields[2] == medium else { return nil }
            return fields[3]
        }
    }

    /// Writes down an incarnation, before it is used. Without that its end could not be proved.
    func note(_ incarnation: Identifier, on medium: Identifier) throws(AgentFault) {
        lines = lines.suffix(HostFolder.linesKept - 1) + ["\(machine) \(boot) \(medium) \(incarnation)"]
        let content = Array(lines.map { "\($0)\n" }.joined().utf8)
        guard unsafe pwrite(lock, content, content.count, 0) == content.count,
            ftruncate(lock, off_t(content.count)) == 0
        else { throw AgentFault("\(path)/agent.lock can't be written: \(text(errno))") }
    }

    // MARK: Where it is

    /// SKEIN_DIR, /run/skein, or a folder of this user's in /tmp. It must be one that nobody else can tamper with.
    private static func find() throws(AgentFault) -> String {
        var path = "/run/skein"
        if let given = unsafe getenv("SKEIN_DIR"), unsafe given.pointee != 0 {
            path = unsafe String(cString: given)
        } else if geteuid() == 0 {
            if unsafe mkdir(path, 0o1777) == 0 { unsafe chmod(path, 0o1777) }
        } else if unsafe access(path, W_OK) != 0 {
            path = "/tmp/skein-\(geteuid())"
            unsafe mkdir(path, 0o700)
        }
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            throw AgentFault("the runtime folder \(path) can't be used: \(text(errno)); SKEIN_DIR names another one")
        }
        let isSafe = status.st_mode & 0o022 == 0 || status.st_mode & S_ISVTX != 0
        guard status.st_mode & S_IFMT == S_IFDIR, isSafe, status.st_uid == geteuid() || status.st_uid == 0 else {
            throw AgentFault(
                "the runtime folder \(path) must be a folder of root's or of this user's, with the sticky bit where others may write"
            )
        }
        return path
    }

    /// 32 hexadecimal digits in a file, with dashes or without.
    private static func identifier(in file: String) throws(AgentFault) -> Identifier {
        let descriptor = unsafe open(file, O_RDONLY | O_CLOEXEC)
        defer { if descriptor >= 0 { close(descriptor) } }
        var content = [UInt8](repeating: 0, count: 64)
        let count = descriptor >= 0 ? unsafe read(descriptor, &content, content.count) : 0
        let digits = String(decoding: content.prefix(max(0, count)), as: UTF8.self).filter(\.isHexDigit)
        guard let identifier = Identifier(hexadecimal: digits) else {
            throw AgentFault("\(file) tells no identity of this machine")
        }
        return identifier
    }
}

extension Identifier {
    /// Reads what `description` writes.
    init?(hexadecimal digits: some StringProtocol) {
        let digits = Array(digits.utf8)
        guard digits.count == 2 * Identifier.size else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        self.init(bytes, at: 0)
    }

    /// 128 fresh random bits.
    static func random() -> Identifier {
        var generator = SystemRandomNumberGenerator()
        return Identifier(generator.next(), generator.next())
    }
}
