import Glibc
import SkeinCore

/// The folder that makes processes one host, and where its users leave their totals.
struct RuntimeFolder {
    let path: String
    private(set) var identity = FolderIdentity.none
    /// Nil for the host's folder, which has a folder for each user; a user's own in /tmp has that one alone.
    private let owner: UInt32?

    /// SKEIN_DIR alone where it is set. Otherwise the host's folder, and those that users without one made.
    static func all(_ warnings: inout [String]) -> [RuntimeFolder] {
        if let given = environmentVariable("SKEIN_DIR") {
            return [RuntimeFolder(path: given, owner: nil)].compactMap { $0.checked(&warnings, required: true) }
        }
        let host = RuntimeFolder(path: "/run/skein", owner: nil)
        let prefix = "skein-"
        let own = ((try? names(in: "/tmp")) ?? []).compactMap { name -> RuntimeFolder? in
            guard name.hasPrefix(prefix), let user = UInt32(name.dropFirst(prefix.count)) else { return nil }
            return RuntimeFolder(path: "/tmp/\(name)", owner: user)
        }
        return ([host] + own).compactMap { $0.checked(&warnings, required: false) }
    }

    private init(path: String, owner: UInt32?) {
        self.path = path
        self.owner = owner
    }

    /// With its identity. Nil for a folder that others could tamper with: programs don't use it, so it says nothing true.
    private func checked(_ warnings: inout [String], required: Bool) -> RuntimeFolder? {
        guard let status = status(of: path, following: owner == nil) else {
            if required {
                let reason = SystemError.last.text
                warnings.append("\(path) (SKEIN_DIR) can't be opened: \(reason); make it, with mode 1777")
            }
            return nil
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            if required { warnings.append("\(path) (SKEIN_DIR) is not a folder; name another") }
            return nil
        }
        var folder = self
        folder.identity = FolderIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        if let owner { return status.st_uid == owner && status.st_mode & 0o022 == 0 ? folder : nil }
        if status.st_mode & 0o022 != 0 && status.st_mode & S_ISVTX == 0 {
            warnings.append("\(path) can be tampered with, and programs don't use it; 'chmod 1777' it")
            return nil
        }
        if status.st_uid != 0 && status.st_uid != geteuid() {
            warnings.append(
                "\(path) belongs to user \(status.st_uid), and programs of others don't use it; 'chown' it to root, with mode 1777"
            )
        }
        return folder
    }

    /// Why nobody can write totals there, in a line for the user; nil where they can be written.
    var fault: String? {
        var system = statvfs()
        guard unsafe statvfs(path, &system) == 0 else { return nil }
        if system.f_flag & UInt(ST_RDONLY) != 0 {
            return "\(path) is on a read-only file system: totals can't be written; mount it writable"
        }
        if system.f_bavail > 0 { return nil }
        return "\(path) is on a full file system: totals can't be written; free about 4 KiB there"
    }

    /// The path of each user's totals, in the order of user numbers.
    func totals(_ warnings: inout [String]) -> [(path: String, user: UInt32)] {
        let name = "\(Totals.namePrefix)\(Totals.version)"
        do {
            let users = try names(in: path).compactMap { UInt32($0) }.filter { owner == nil || owner == $0 }
            return users.sorted().map { ("\(path)/\($0)/\(name)", $0) }
        } catch {
            if error.code != EACCES || owner == nil { warnings.append("\(path) can't be read: \(error.text)") }
            return []
        }
    }

    /// Opens a user's totals if that user is the only one who could have made them.
    static func openTotals(_ path: String, user: UInt32) throws -> File {
        let parent = folder(of: path)
        guard let status = status(of: parent, following: false) else { throw SystemError.last }
        guard status.st_mode & S_IFMT == S_IFDIR, status.st_uid == user, status.st_mode & 0o022 == 0 else {
            throw Table.Unreadable(reason: "is not used: \(parent) must belong to user \(user), who alone may write it")
        }
        let file = try File(path, following: false)
        let found = try file.status()
        guard found.st_mode & S_IFMT == S_IFREG, found.st_uid == user else {
            throw Table.Unreadable(reason: "is not a file of user \(user); remove it")
        }
        return file
    }
}
