/// What the head of an ELF file says about whether a library can be preloaded into it.
///
/// The file may be anything, so every offset in it is checked; one that makes no sense leaves the
/// answer to execve(2).
struct Executable {
    var is64Bit: Bool
    var machine: UInt16
    /// The loader it asks for; nil for a static program.
    var loader: String?
    /// Go makes its system calls itself, past libc.
    var isGo = false

    /// The machine that this command, and so the library, is built for.
    static var ownMachine: UInt16 {
        #if arch(x86_64)
            62
        #else
            183
        #endif
    }

    private static let tableLimit = 1 << 20

    /// Nil when the file is no ELF file.
    init?(_ file: borrowing File) {
        let head = file.read(at: 0, count: 64)
        guard head.count >= 52, head.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { return nil }
        is64Bit = head.word(4, as: UInt8.self) == 2
        machine = head.word(18)
        let littleEndian = head.word(5, as: UInt8.self) == 1
        guard is64Bit, littleEndian, head.count == 64 else {
            // No need to look further: its class or byte order is not ours.
            if !littleEndian { machine = 0 }
            return
        }
        readSegments(file, head)
        if !isGo { isGo = Executable.hasGoSection(file, head) }
    }

    private mutating func readSegments(_ file: borrowing File, _ head: Bytes) {
        let size = 56
        let count = Int(head.word(56, as: UInt16.self))
        guard head.word(54, as: UInt16.self) == size, let offset = Int(exactly: head.word(32, as: UInt64.self)),
            offset <= Int.max - Executable.tableLimit
        else { return }
        let table = file.read(at: offset, count: count * size)
        for segment in stride(from: 0, to: table.count - size + 1, by: size) {
            let kind = table.word(segment, as: UInt32.self)
            guard kind == 3 /* PT_INTERP */ || kind == 4 /* PT_NOTE */,
                let start = Int(exactly: table.word(segment + 8, as: UInt64.self)), start <= Int.max - 4096
            else { continue }
            let content = file.read(
                at: start, count: Int(min(table.word(segment + 32, as: UInt64.self), 4096)))
            if kind == 3 { loader = content.text(0, limit: 4096) }
            if kind == 4 && Executable.hasGoNote(content) { isGo = true }
        }
    }

    /// The build identifier that Go's linker leaves: a note named "Go".
    private static func hasGoNote(_ notes: Bytes) -> Bool {
        var offset = 0
        while notes.holds(offset, size: 12) {
            let nameSize = Int(notes.word(offset, as: UInt32.self))
            let contentSize = Int(notes.word(offset + 4, as: UInt32.self))
            if notes.text(offset + 12, limit: nameSize) == "Go" { return true }
            offset += 12 + (nameSize + 3) & ~3 + (contentSize + 3) & ~3
        }
        return false
    }

    /// The section that stays when the note was left out (-buildid=) and symbols were stripped.
    private static func hasGoSection(_ file: borrowing File, _ head: Bytes) -> Bool {
        let size = 64
        let count = Int(head.word(60, as: UInt16.self))
        let namesIndex = Int(head.word(62, as: UInt16.self))
        guard head.word(58, as: UInt16.self) == size, namesIndex < count,
            let offset = Int(exactly: head.word(40, as: UInt64.self)), offset > 0, offset <= Int.max - (size << 16)
        else { return false }
        let table = file.read(at: offset, count: count * size)
        guard let namesOffset = Int(exactly: table.word(namesIndex * size + 24, as: UInt64.self)),
            namesOffset <= Int.max - tableLimit
        else { return false }
        let namesSize = Int(min(table.word(namesIndex * size + 32, as: UInt64.self), UInt64(tableLimit)))
        let names = file.read(at: namesOffset, count: namesSize)
        return (0..<count).contains { index in
            names.text(Int(table.word(index * size, as: UInt32.self)), limit: 32) == ".go.buildinfo"
        }
    }
}
