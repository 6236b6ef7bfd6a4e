import Glibc

/// A file system that is mounted somewhere.
struct Mount {
    private static let tries = 50

    let place: String
    let kind: String
    /// What it lies on.
    let source: String

    /// All that this process sees, the newest last.
    static func all() -> [Mount] {
        let lines = ((try? File.contents("/proc/self/mountinfo"))?.text ?? "").split(separator: "\n")
        return lines.compactMap { line in
            // Some fields may be missing before the dash.
            let fields = line.split(separator: " ")
            guard fields.count > 4, let dash = fields.firstIndex(of: "-"), fields.count > dash + 2 else { return nil }
            return Mount(place: plain(fields[4]), kind: String(fields[dash + 1]), source: plain(fields[dash + 2]))
        }
    }

    /// Blanks and the like are written as three octal digits.
    private static func plain(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = field.utf8[...]
        while let byte = rest.popFirst() {
            let digits = String(decoding: rest.prefix(3), as: UTF8.self)
            if byte == UInt8(ascii: "\\"), let value = UInt8(digits, radix: 8) {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What the folder of a disk that nbdfuse shows begins with.
    static let mark = "skein-attach-"

    /// Whether it is such a folder.
    var isShown: Bool { kind.hasPrefix("fuse") && lastPart(folder(of: place)).hasPrefix(Mount.mark) }

    /// The disk beneath: what `attach` has said, also behind a loop device.
    var disk: String {
        guard source.hasPrefix("/dev/loop") else { return source }
        let backing = (try? File.contents("/sys/block/\(lastPart(source))/loop/backing_file"))?.text ?? ""
        return String(backing.prefix { $0 != "\n" })
    }

    /// Mounts the file system of a disk.
    static func begin(_ disk: String, at place: String, readOnly: Bool) throws {
        let isFile = status(of: disk).map { $0.st_mode & S_IFMT == S_IFREG } ?? false
        let options = (isFile ? ["loop"] : []) + (readOnly ? ["ro"] : [])
        let words = ["mount"] + (options.isEmpty ? [] : ["-o", options.joined(separator: ",")]) + [disk, place]
        let (isWell, said) = try ChildProgram.run(words)
        guard isWell else { throw failure("its file system can't be mounted: \(said)") }
    }

    /// Ends a mount. A loop device lets go of what it lies on a moment after its own.
    static func end(_ place: String) throws {
        let tool = geteuid() == 0 ? ["umount"] : ["fusermount3", "-u"]
        var said = ""
        for _ in 0..<tries {
            let (isWell, text) = try ChildProgram.run(tool + [place])
            if isWell { return }
            said = text
            guard said.contains("busy") else { break }
            pause(microseconds: 100_000)
        }
        throw failure("\(place) can't be unmounted: \(said)")
    }
}
