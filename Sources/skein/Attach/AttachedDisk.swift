import Glibc

/// An NBD export as a disk of this machine: a block device of the kernel's, or a file that nbdfuse shows.
enum AttachedDisk {
    private static let millisecondsToAnswer = 30_000

    /// Where the disk is now.
    static func attach(_ uri: String, readOnly: Bool) throws -> String {
        if let place = NBDPlace(uri), let device = freeDevice() { return try attach(place, to: device, readOnly) }
        guard ChildProgram.path(of: "nbdfuse") != nil, unsafe access("/dev/fuse", R_OK | W_OK) == 0 else {
            throw failure(
                "nothing here makes a disk of it: install nbdfuse (Debian: libnbd-bin and fuse3), or as root nbd-client and the kernel's module nbd"
            )
        }
        return try show(uri, readOnly)
    }

    /// Whether `attach` may have made it.
    static func isOne(_ disk: String) -> Bool { isDevice(disk) || isShown(disk) }

    private static func isDevice(_ disk: String) -> Bool {
        folder(of: disk) == "/dev" && lastPart(disk).hasPrefix("nbd")
    }

    private static func isShown(_ disk: String) -> Bool {
        let place = folder(of: disk)
        return Mount.all().contains { $0.place == place && $0.isShown }
    }

    /// Takes away what `attach` has made. False for anything else.
    static func detach(_ disk: String) throws -> Bool {
        if isDevice(disk) {
            let (isWell, said) = try ChildProgram.run(["nbd-client", "-d", disk])
            guard isWell else { throw failure("\(disk) can't be detached: \(said)") }
            return true
        }
        guard isShown(disk) else { return false }
        try hide(folder(of: disk))
        return true
    }

    // MARK: - The kernel's client

    /// A block device that nobody uses; nil where the kernel has no such client, or this user or machine none to steer it.
    private static func freeDevice() -> String? {
        guard geteuid() == 0, ChildProgram.path(of: "nbd-client") != nil else { return nil }
        if status(of: "/sys/block/nbd0") == nil { loadModule() }
        let devices = ((try? names(in: "/sys/block")) ?? []).filter { $0.hasPrefix("nbd") }
        // In the order of their numbers.
        let free = devices.sorted { ($0.utf8.count, $0) < ($1.utf8.count, $1) }.first {
            status(of: "/sys/block/\($0)/pid") == nil
        }
        return free.map { "/dev/\($0)" }
    }

    private static func loadModule() {
        if ChildProgram.path(of: "modprobe") != nil { _ = try? ChildProgram.run(["modprobe", "nbd"]) }
    }

    private static func attach(_ place: NBDPlace, to device: String, _ readOnly: Bool) throws -> String {
        let options = readOnly ? ["-readonly"] : []
        let (isWell, said) = try ChildProgram.run(
            ["nbd-client"] + place.words + [device, "-N", place.export] + options)
        guard isWell else { throw failure("the disk can't be attached: \(said)", code: Exit.unreachable) }
        return device
    }

    // MARK: - nbdfuse

    /// A folder of its own has the folder with the disk, and what the program writes.
    private static func show(_ uri: String, _ readOnly: Bool) throws -> String {
        var template = Array(
            "\(environmentVariable("SKEIN_DIR") ?? "/tmp")/\(Mount.mark)XXXXXX\0".utf8CString.dropLast())
        guard unsafe mkdtemp(&template) != nil else {
            throw failure("no folder for the disk can be made: \(SystemError.last.text)")
        }
        let parent = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        let place = "\(parent)/shown"
        _ = unsafe mkdir(place, 0o700)
        let options = readOnly ? ["-r"] : []
        let process = try ChildProgram.startInBackground(
            ["nbdfuse", "-P", "\(parent)/process"] + options + ["\(place)/disk", uri], log: "\(parent)/log")
        var waited = 0
        while status(of: "\(parent)/process") == nil {
            guard !ChildProgram.hasEnded(process) else {
                let said = ChildProgram.line((try? File.contents("\(parent)/log"))?.storage ?? [])
                remove(parent)
                throw failure("the disk can't be attached: \(said)", code: Exit.unreachable)
            }
            guard waited < millisecondsToAnswer else {
                _ = kill(process, SIGTERM)
                throw failure("the disk can't be attached: the server doesn't answer", code: Exit.unreachable)
            }
            pause(microseconds: 10_000)
            waited += 10
        }
        return "\(place)/disk"
    }

    /// Ends the program, when it has written everything.
    private static func hide(_ place: String) throws {
        let parent = folder(of: place)
        let text = (try? File.contents("\(parent)/process"))?.text ?? ""
        let process = Int32(text.prefix { $0 != "\n" }) ?? 0
        try Mount.end(place)
        var waited = 0
        while Process(process).standing.isAlive && waited < millisecondsToAnswer {
            pause(microseconds: 10_000)
            waited += 10
        }
        remove(parent)
    }

    private static func remove(_ parent: String) {
        for name in ["process", "log"] { _ = unsafe unlink("\(parent)/\(name)") }
        for path in ["\(parent)/shown", parent] { _ = unsafe rmdir(path) }
    }
}
