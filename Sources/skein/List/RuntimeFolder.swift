import Glibc

/// The folder where the users of a host leave their socket tables.
struct RuntimeFolder {
    let path: String
    /// Nil for the host's folder, which has a folder for each user; a user's own in /tmp has that one alone.
    private let owner: UInt32?

    /// SKEIN_DIR alone where it is set. Otherwise the host's folder, and those that users without one made.
    static func all(_ warnings: inout [String]) -> [RuntimeFolder] {
        if let given = environmentVariable("SKEIN_DIR") {
            let folder = RuntimeFolder(path: given, owner: nil)
            return folder.isUsable(&warnings, required: true) ? [folder] : []
        }
        let host = RuntimeFolder(path: "/run/skein", owner: nil)
        let prefix = "skein-"
        let own = ((try? names(in: "/tmp")) ?? []).compactMap { name -> RuntimeFolder? in
            guard name.hasPrefix(prefix), let user = UInt32(name.dropFirst(prefix.count)) else { return nil }
            return RuntimeFolder(path: "/tmp/\(name)", owner: user)
        }
        return ([host] + own).filter { $0.isUsable(&warnings, required: false) }
    }

    /// Programs don't use a folder that others could tamper with (Setup.swift), so it says nothing true.
    private func isUsable(_ warnings: inout [String], required: Bool) -> Bool {
        guard let status = status(of: path, following: owner == nil) else {
            if required {
                let reason = SystemError.last.text
                warnings.append("\(path) (SKEIN_DIR) can't be opened: \(reason); make it, with mode 1777")
            }
            return false
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            if required { warnings.append("\(path) (SKEIN_DIR) is not a folder; name another") }
            return false
        }
        if let owner { return status.st_uid == owner && status.st_mode & 0o022 == 0 }
        if status.st_mode & 0o022 != 0 && status.st_mode & S_ISVTX == 0 {
            warnings.append("\(path) can be tampered with, and programs don't use it; 'chmod 1777' it")
            return false
        }
        return true
    }

    /// The path of each user's table, in the order of user numbers.
    func tables(_ warnings: inout [String]) -> [(path: String, user: UInt32)] {
        do {
            let users = try names(in: path).compactMap { UInt32($0) }.filter { owner == nil || owner == $0 }
            return users.sorted().map { ("\(path)/\($0)/sockets", $0) }
        } catch {
            if error.code != EACCES || owner == nil { warnings.append("\(path) can't be read: \(error.text)") }
            return []
        }
    }

    /// Opens a table if the user it is named for is the only one who could have made it.
    static func openTable(_ path: String, user: UInt32) throws -> File {
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
