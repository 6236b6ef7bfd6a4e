import ArgumentParser
import Glibc

/// `skein attach`: an NBD export as a disk of this machine.
struct Attach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Make a local disk of an NBD export, and mount its file system.",
        discussion: """
            The disk is a block device of the kernel's where that can be had (root, nbd-client, the module nbd), else a file that \
            nbdfuse shows. Its path is printed. 'skein detach' takes it away.
            """)

    @Flag(help: "For reading alone.") var readOnly = false
    @Argument(help: ArgumentHelp("Where the export is, as in nbd://HOST/NAME.", valueName: "uri")) var uri: String
    @Argument(help: ArgumentHelp("Where to mount its file system.", valueName: "mountpoint")) var mountpoint: String?

    func run() throws {
        guard ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://"].contains(where: uri.hasPrefix) else {
            throw failure("'\(uri)' is no URI of an NBD server; write it as nbd://HOST/NAME", code: 64)
        }
        if let mountpoint, status(of: mountpoint).map({ $0.st_mode & S_IFMT != S_IFDIR }) ?? true {
            throw failure("\(mountpoint) is no folder; make it first")
        }
        let disk = try AttachedDisk.attach(uri, readOnly: readOnly)
        if let mountpoint {
            do {
                try Mount.begin(disk, at: mountpoint, readOnly: readOnly)
            } catch {
                _ = try? AttachedDisk.detach(disk)
                throw error
            }
        }
        try output(disk)
    }
}

/// `skein detach`: takes away what `skein attach` has made.
struct Detach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "detach", abstract: "Unmount and take away a disk that 'skein attach' has made.")

    @Argument(help: ArgumentHelp("Its path, or where its file system is mounted.", valueName: "disk|mountpoint"))
    var place: String

    func run() throws {
        let path = realPath(place) ?? absolute(place)
        let mounts = Mount.all()
        if let mount = mounts.last(where: { $0.place == path }), !mount.isShown {
            // Nothing leads to it any more once it is unmounted.
            let disk = mount.disk
            guard AttachedDisk.isOne(disk) else { throw failure(stranger) }
            try Mount.end(path)
            return try detach(disk)
        }
        // A file system on it would lose what it has not written.
        if let mount = mounts.first(where: { $0.disk == path }) { try Mount.end(mount.place) }
        try detach(path)
    }

    private var stranger: String { "\(place) is nothing that 'skein attach' has made" }

    private func detach(_ disk: String) throws {
        guard try AttachedDisk.detach(disk) else { throw failure(stranger) }
    }
}
