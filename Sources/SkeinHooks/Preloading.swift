import CSystem

// Whether the header will be there in a program that is to be started. A wrong yes costs clients a wait that may be for ever,
// a wrong no only the shared memory: what can't be known counts as no.

/// Stands for the current folder where a call takes a folder's descriptor (AT_FDCWD).
let currentFolder: Int32 = -100

/// The program that is to be started, as the call named it.
@safe
enum Program {
    case path(UnsafePointer<CChar>?, from: Int32 = currentFolder)
    case searched(UnsafePointer<CChar>?)
    case descriptor(Int32)

    /// Not where the environment lacks the preload, and not in a program into which the loader puts none.
    func willTranslate(_ environment: Strings?) -> Bool {
        guard let environment = unsafe environment else { return false }
        var preloaded = false
        var index = 0
        while let entry = unsafe environment[index] {
            if unsafe strncmp(entry, "LD_PRELOAD=", 11) == 0 {
                preloaded = unsafe strstr(entry, "libskein-preload") != nil
            }
            if unsafe strncmp(entry, "SKEIN_OFF=", 10) == 0 { return false }
            index += 1
        }
        return preloaded && canBePreloaded()
    }

    /// False where an exec is sure to fail.
    func canBeExecuted() -> Bool {
        guard case .path(let path, let folder) = self, let path = unsafe path else { return true }
        return unsafe sk_access(folder, path, 1 /* X_OK */) == 0
    }

    private func canBePreloaded() -> Bool {
        var file = file()
        // As far as the kernel follows interpreters that are scripts.
        for _ in 0..<5 {
            guard case .script(let interpreter) = file else { break }
            file = unsafe interpreter.withCString { unsafe ProgramFile($0, from: currentFolder) }
        }
        if case .preloadable = file { return true }
        return false
    }

    private func file() -> ProgramFile {
        switch self {
        case .descriptor(let descriptor): return ProgramFile(descriptor)
        case .path(let path, let folder):
            guard let path = unsafe path else { return .other }
            return unsafe ProgramFile(path, from: folder)
        case .searched(let file):
            guard let file = unsafe file else { return .other }
            if unsafe strchr(file, 47) != nil { return unsafe ProgramFile(file, from: currentFolder) }
            return unsafe search(file)
        }
    }

    /// The first executable file of that name on PATH, as execvp finds it.
    private func search(_ file: UnsafePointer<CChar>) -> ProgramFile {
        guard var place = unsafe sk_environment("PATH") else { return .other }
        while true {
            var path = Text()
            while unsafe place.pointee != 0 && place.pointee != 58 {
                unsafe path.append(byte: UInt8(bitPattern: place.pointee))
                unsafe place += 1
            }
            if path.count > 0 { path.append("/") }
            unsafe path.append(cString: file)
            let found = unsafe path.withCString { name -> ProgramFile? in
                unsafe sk_access(currentFolder, name, 1 /* X_OK */) == 0 ? ProgramFile(name, from: currentFolder) : nil
            }
            if let found { return found }
            if unsafe place.pointee == 0 { return .preloadable }
            unsafe place += 1
        }
    }
}

/// What the kernel and the loader will make of a program's file.
private enum ProgramFile {
    /// The loader comes first, and with it the header.
    case preloadable
    /// What this interpreter is.
    case script(Text)
    /// A program without glibc's loader or with rights of its own, for another processor, or Go's, which makes its system
    /// calls past the hooks.
    case other

    init(_ path: UnsafePointer<CChar>, from folder: Int32) {
        let file = unsafe sk_openat(folder, path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else {
            // What isn't there isn't started.
            self = file == -Int(ENOENT) ? .preloadable : .other
            return
        }
        self.init(Int32(file))
        _ = sk_close(Int32(file))
    }

    init(_ file: Int32) {
        var head = InlineArray<512, UInt64>(repeating: 0)
        self = unsafe withUnsafeMutableBytes(of: &head) { bytes in
            let count = unsafe max(sk_pread(file, bytes.baseAddress!, bytes.count, 0), 0)
            let head = unsafe UnsafeRawBufferPointer(rebasing: bytes[..<count])
            if unsafe count > 2 && head[0] == 35 && head[1] == 33 {
                return unsafe interpreter(head).map { .script($0) } ?? .other
            }
            return unsafe !hasPrivileges(file) && isPreloadable(file, head) ? .preloadable : .other
        }
    }
}

/// The interpreter that a script's first line names.
private func interpreter(_ head: UnsafeRawBufferPointer) -> Text? {
    var name = Text()
    for index in 2..<head.count {
        switch unsafe head[index] {
        case 0, 10: return name.count > 0 ? name : nil
        case 9, 32: if name.count > 0 { return name }
        case let byte: name.append(byte: byte)
        }
        if name.isCut { return nil }
    }
    return name.count > 0 ? name : nil
}

/// Whether an exec may give the program rights that its user doesn't have: the loader ignores LD_PRELOAD then.
private func hasPrivileges(_ file: Int32) -> Bool {
    var status = stat()
    guard unsafe sk_fstat(file, &status) == 0, status.st_mode & 0o6000 == 0 else { return true }
    // Root has them all. A filter may end a program for the question.
    if unsafe sk_getuid() == 0 || process.isConfined { return false }
    return unsafe sk_fgetxattr(file, "security.capability", nil, 0) >= 0
}

/// Whether an ELF file is one of this machine with glibc's loader.
private func isPreloadable(_ file: Int32, _ head: UnsafeRawBufferPointer) -> Bool {
    guard unsafe head.count >= 64 && head[0] == 0x7f && head[1] == 69 && head[4] == 2,
        unsafe head.loadUnaligned(fromByteOffset: 18, as: UInt16.self) == ownMachine
    else { return false }
    let table = unsafe Int(truncatingIfNeeded: head.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
    let size = unsafe Int(head.loadUnaligned(fromByteOffset: 54, as: UInt16.self))
    var hasLoader = false
    for index in unsafe 0..<Int(head.loadUnaligned(fromByteOffset: 56, as: UInt16.self)) {
        let place = table &+ index * size
        guard place >= 0 && place <= head.count - 40 else { return false }
        let content = unsafe head.loadUnaligned(fromByteOffset: place + 8, as: Int.self)
        switch unsafe head.loadUnaligned(fromByteOffset: place, as: UInt32.self) {
        case 3 /* PT_INTERP */: hasLoader = isOfGlibc(file, loader: content)
        case 4 /* PT_NOTE */: if isGo(file, notes: content) { return false }
        default: break
        }
    }
    return hasLoader
}

private var ownMachine: UInt16 {
    #if arch(x86_64)
        62
    #else
        183
    #endif
}

private func isOfGlibc(_ file: Int32, loader offset: Int) -> Bool {
    var name = InlineArray<32, UInt64>(repeating: 0)
    return unsafe withUnsafeMutableBytes(of: &name) { bytes in
        guard unsafe sk_pread(file, bytes.baseAddress!, bytes.count - 1, offset) > 0 else { return false }
        let path = unsafe bytes.baseAddress!.assumingMemoryBound(to: CChar.self)
        let slash = unsafe strrchr(path, 47)
        return unsafe strncmp(slash.map { unsafe UnsafePointer($0) + 1 } ?? UnsafePointer(path), "ld-linux", 8) == 0
    }
}

/// Go's linker leaves a note of its own.
private func isGo(_ file: Int32, notes offset: Int) -> Bool {
    var notes = InlineArray<64, UInt64>(repeating: 0)
    return unsafe withUnsafeMutableBytes(of: &notes) { bytes in
        let count = unsafe sk_pread(file, bytes.baseAddress!, bytes.count, offset)
        var place = 0
        while place + 16 <= count {
            let name = unsafe Int(bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self))
            let content = unsafe Int(bytes.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self))
            if unsafe name == 4 && bytes.loadUnaligned(fromByteOffset: place + 12, as: UInt32.self) == 0x6f47 {
                return true
            }
            place += 12 + (name + 3) & ~3 + (content + 3) & ~3
        }
        return false
    }
}
