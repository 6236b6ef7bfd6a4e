import Glibc
import SkeinCore

/// What programs of this host are told of the group: the file `group` in the runtime folder, which is replaced whenever a
/// host comes or goes. docs/AGENT.md has its lines.
final class GroupListing {
    private let path: String
    private let group: String
    private var number: Int?
    /// Names of hosts that live, by their numbers.
    private var hosts: [Int: String] = [:]
    private var isWritten = true

    /// Takes away what an agent left that was killed.
    init(of group: String, in folder: HostFolder) {
        self.group = group
        path = "\(folder.path)/group"
        unsafe unlink(path)
    }

    deinit { unsafe unlink(path) }

    func joined(as number: Int, _ name: String) {
        self.number = number
        add(number, name)
    }

    func add(_ host: Int, _ name: String) {
        hosts[host] = name
        isWritten = false
    }

    func remove(_ host: Int) { if hosts.removeValue(forKey: host) != nil { isWritten = false } }

    /// This host is no member, and knows nobody.
    func removeAll() { for host in hosts.keys { remove(host) } }

    /// Writes it where something has changed.
    func write() throws(AgentFault) {
        guard !isWritten, let number else { return }
        isWritten = true
        let lines = hosts.filter { GroupListing.isName($0.value) }.sorted { $0.key < $1.key }
            .map { "host \($0.key) \($0.value)\n" }
        let content = Array(
            "skein group 1\ngroup \(group)\nrange \(Address.groupRanges)\nnumber \(number)\n\(lines.joined())".utf8)
        let fresh = "\(path).new"
        unsafe unlink(fresh)
        let file = unsafe open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw AgentFault("\(fresh) can't be made: \(text(errno))") }
        defer { close(file) }
        // Whatever the umask is.
        guard fchmod(file, 0o644) == 0, unsafe Glibc.write(file, content, content.count) == content.count,
            unsafe rename(fresh, path) == 0
        else {
            let error = errno
            unsafe unlink(fresh)
            throw AgentFault("\(path) can't be written: \(text(error))")
        }
    }

    /// Another host's name for itself is told where it can be looked up and spoils no line.
    private static func isName(_ name: String) -> Bool {
        name.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || [45, 46, 95].contains(byte)
        }
    }
}
