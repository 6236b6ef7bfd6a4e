import CSystem
import Glibc
import SkeinCore

/// What the descriptors of one process lead to, as far as it matters here.
struct ProcessFiles {
    /// The kernel's number of each socket, by descriptor.
    private(set) var sockets: [Int32: UInt64] = [:]
    /// Paths of socket tables and of pools, by inode. A process has one table; a hostile one any number.
    private(set) var tables: [UInt64: String] = [:]
    private(set) var pools: [UInt64: String] = [:]

    /// Throws where the process is gone or we may not look.
    init(of process: Process) throws(SystemError) {
        let folder = "\(process.folder)/fd"
        for name in try names(in: folder) {
            guard let number = Int32(name), let target = target(ofLink: "\(folder)/\(name)") else { continue }
            if target.hasPrefix("socket:["), target.hasSuffix("]") {
                sockets[number] = UInt64(target.dropFirst("socket:[".count).dropLast())
            } else if target == ProcessFiles.tableLink || target == ProcessFiles.poolLink,
                let inode = MemoryFile.inode(of: process, number)
            {
                if target == ProcessFiles.tableLink {
                    tables[inode] = "\(folder)/\(name)"
                } else {
                    pools[inode] = "\(folder)/\(name)"
                }
            }
        }
    }

    /// Paths of the pools that a process maps, by inode.
    static func mappedPools(of process: Process) -> [UInt64: String] {
        let text = (try? File.contents("\(process.folder)/maps"))?.text ?? ""
        var pools: [UInt64: String] = [:]
        for line in text.split(separator: "\n") where line.hasSuffix(poolLink) {
            let fields = line.split(separator: " ", maxSplits: 5)
            guard fields.count == 6, fields[3] == MemoryFile.device ?? "", let inode = UInt64(fields[4]) else {
                continue
            }
            pools[inode] = "\(process.folder)/map_files/\(fields[0])"
        }
        return pools
    }

    private static let tableLink = "/memfd:\(SocketTable.name) (deleted)"
    private static let poolLink = "/memfd:skein (deleted)"
}

/// Memory behind a descriptor of another process.
enum MemoryFile {
    /// Its inode; nil for what is no memfd. A link's text alone proves nothing: somebody's own file system
    /// may have a file of that name, and would never answer. All memfds lie on one mount of the kernel's.
    static func inode(of process: Process, _ descriptor: Int32) -> UInt64? {
        guard let mount = mount(of: process, descriptor), mount == ours?.mount,
            let status = status(of: "\(process.folder)/fd/\(descriptor)")
        else { return nil }
        return UInt64(status.st_ino)
    }

    /// Where memfds lie, as /proc/PID/maps writes it.
    static var device: String? { ours?.device }

    private static let ours: (mount: String, device: String)? = {
        let made = unsafe sk_memfd_create("skein-ls", UInt32(MFD_CLOEXEC))
        guard made >= 0 else { return nil }
        defer { _ = close(Int32(made)) }
        let us = Process(getpid())
        guard let mount = mount(of: us, Int32(made)), let status = status(of: "\(us.folder)/fd/\(made)") else {
            return nil
        }
        func twoDigits(_ number: UInt64) -> String { (number < 16 ? "0" : "") + String(number, radix: 16) }
        let number = UInt64(status.st_dev)
        return (mount, "\(twoDigits(number >> 8 & 0xfff)):\(twoDigits(number & 0xff | number >> 12 & 0xfff00))")
    }()

    private static func mount(of process: Process, _ descriptor: Int32) -> String? {
        let text = (try? File.contents("\(process.folder)/fdinfo/\(descriptor)"))?.text ?? ""
        return text.split(separator: "\n").first { $0.hasPrefix("mnt_id:") }.map(String.init)
    }
}
