import CSystem
import Synchronization

// Listeners that a new program inherits. The program accepts from the TCP listener; if its header is
// there, the hidden listener must come along, or the clients in its queue wait for nobody. SKEIN_LISTENERS in
// its environment says which is which. If the header won't be there, the hidden listener is shut, in all
// processes that hold it: the listener is TCP's alone from then on.

/// Stands for the current folder where a call takes a folder's descriptor (AT_FDCWD).
let currentFolder: Int32 = -100

/// The program that is to be started, as the call named it.
@safe
enum Program {
    case path(UnsafePointer<CChar>?, from: Int32 = currentFolder)
    case searched(UnsafePointer<CChar>?)
    case descriptor(Int32)
}

/// Hidden listeners that the new program gets.
struct Heirs {
    static let maximum = 16
    fileprivate var count = 0
    fileprivate var hidden = InlineArray<16, Int32>(repeating: -1)

    func setInherited(_ on: Bool) { forEach { _ = sk_fcntl($0, F_SETFD, on ? 0 : 1) } }
    func forEach(_ body: (Int32) -> Void) { for index in 0..<count { body(hidden[index]) } }
}

private let variable: StaticString = "SKEIN_LISTENERS="

/// Runs `start` with the hidden listeners to pass on and the environment that names them, and the relay's streams.
/// `number` says under which number the new program gets a descriptor, -1 where it doesn't; `keeps`, whether it keeps one of ours.
func withHeirs(
    of program: Program, _ environment: Strings?, streams: StreamList, number inNewProgram: (Int32) -> Int32,
    keeps: (Int32) -> Bool = { _ in true }, _ start: (Heirs, Strings?) -> Int32
) -> Int32 {
    var heirs = Heirs()
    var list = Text(variable)
    var translates: Bool? = nil
    if !streams.isEmpty { translates = unsafe program.willTranslate(environment) }
    for number in 0..<programEnd {
        let descriptor = Int32(number)
        guard entry(descriptor) & Kind.bits == Kind.listener.rawValue, let socket = unsafe streamSocket(descriptor),
            unsafe !socket.pointee.isSTP
        else { continue }
        let there = inNewProgram(descriptor)
        if there < 0 { continue }
        if translates == nil { translates = unsafe program.willTranslate(environment) }
        if unsafe translates == true && heirs.count < Heirs.maximum && keeps(socket.pointee.hidden) {
            heirs.hidden[heirs.count] = unsafe socket.pointee.hidden
            heirs.count += 1
            list.append(decimal: UInt64(there))
            list.append(":")
            unsafe list.append(decimal: UInt64(socket.pointee.hidden))
            list.append(",")
        } else {
            unsafe leaveToTCP(descriptor, socket)
        }
    }
    guard translates == true else { return unsafe start(heirs, environment) }
    return unsafe list.withCString { listeners in
        unsafe streams.text.withCString { streamNumbers in
            unsafe withEnvironment(
                environment, heirs.count > 0 ? listeners : nil, streams.isEmpty ? nil : streamNumbers
            ) { unsafe start(heirs, $0) }
        }
    }
}

/// Runs `body` with a larger environment.
private func withEnvironment(
    _ environment: Strings?, _ first: UnsafePointer<CChar>?, _ second: UnsafePointer<CChar>?,
    _ body: (Strings?) -> Int32
) -> Int32 {
    var entries = 0
    if let environment = unsafe environment { while unsafe environment[entries] != nil { entries += 1 } }
    return unsafe Int32(
        withScratch(words: entries + 3) { memory in
            let larger = unsafe memory.bindMemory(to: UnsafeMutablePointer<CChar>?.self, capacity: entries + 3)
            var count = 0
            func add(_ entry: UnsafeMutablePointer<CChar>?) {
                unsafe larger[count] = unsafe entry
                count += 1
            }
            for index in 0..<entries { unsafe add(environment![index]) }
            if let first = unsafe first { unsafe add(UnsafeMutablePointer(mutating: first)) }
            if let second = unsafe second { unsafe add(UnsafeMutablePointer(mutating: second)) }
            unsafe larger[count] = nil
            return unsafe Int(body(UnsafePointer(larger)))
        })
}

/// The listener goes where the header isn't: whoever holds its hidden one is told by its end.
func leaveToTCP(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) {
    _ = unsafe sk_shutdown(socket.pointee.hidden, 2)
    giveBackListenerFlags(descriptor)
}

/// At the start of a program: takes over what SKEIN_LISTENERS lists.
func adoptHeirs() {
    guard var place = unsafe sk_environment("SKEIN_LISTENERS") else { return }
    func number() -> Int32 {
        var value: Int32 = 0
        while let digit = unsafe UInt8(exactly: place.pointee), digit >= 48, digit <= 57, value < 1 << 24 {
            value = value * 10 + Int32(digit) - 48
            unsafe place += 1
        }
        return value
    }
    while unsafe place.pointee != 0 {
        let visible = number()
        guard unsafe place.pointee == 58 /* : */ else { break }
        unsafe place += 1
        let hidden = number()
        guard unsafe place.pointee == 44 /* , */ else { break }
        unsafe place += 1
        adoptHeir(visible, hidden)
    }
    unsafe sk_environment_remove("SKEIN_LISTENERS")
}

private func adoptHeir(_ visible: Int32, _ hidden: Int32) {
    // Another number of a listener that is here already.
    for number in 0..<programEnd {
        guard let socket = unsafe streamSocket(Int32(number)), unsafe socket.pointee.hidden == hidden else { continue }
        unsafe socket.pointee.descriptors += 1
        return unsafe setEntry(visible, socket, .listener)
    }
    guard let cookie = cookie(of: visible), let bound = boundAddress(visible),
        isNamed(hidden, HiddenName(cookie: cookie))
    else { return }
    _ = sk_fcntl(hidden, F_SETFD, 1)
    guard unsafe rules.allows(bound), let socket = unsafe makeStreamSocket(family: Int32(bound.family)) else {
        _ = sk_shutdown(hidden, 2)
        _ = sk_close(hidden)
        giveBackListenerFlags(visible)
        return
    }
    unsafe beginTranslating(visible, socket, hidden, bound)
}

private func isNamed(_ descriptor: Int32, _ name: HiddenName) -> Bool {
    var address = sockaddr_un()
    var length = UInt32(MemoryLayout<sockaddr_un>.size)
    guard unsafe sk_getsockname(descriptor, &address, &length) == 0, length == name.length else { return false }
    var expected = name.address
    return unsafe memcmp(&address, &expected, Int(length)) == 0
}

// MARK: - Whether the header will be there

extension Program {
    /// False where it certainly won't: without the preload in the environment, for set-user-id programs and
    /// for those that no loader loads. A wrong yes costs clients a wait, a wrong no the shared memory.
    fileprivate func willTranslate(_ environment: Strings?) -> Bool {
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
        switch self {
        case .descriptor(let descriptor): return isDynamic(descriptor)
        case .path(let path, let folder):
            guard let path = unsafe path else { return false }
            return unsafe isDynamic(path, from: folder)
        case .searched(let file):
            guard let file = unsafe file else { return false }
            if unsafe strchr(file, 47) != nil { return unsafe isDynamic(file, from: currentFolder) }
            return unsafe search(file)
        }
    }

    /// The first executable file of that name on PATH, as execvp finds it.
    private func search(_ file: UnsafePointer<CChar>) -> Bool {
        guard var place = unsafe sk_environment("PATH") else { return true }
        while true {
            var path = Text()
            while unsafe place.pointee != 0 && place.pointee != 58 {
                unsafe path.append(byte: UInt8(bitPattern: place.pointee))
                unsafe place += 1
            }
            if path.count > 0 { path.append("/") }
            unsafe path.append(cString: file)
            let found = unsafe path.withCString { name -> Bool? in
                unsafe sk_access(currentFolder, name, 1 /* X_OK */) == 0
                    ? isDynamic(name, from: currentFolder) : nil
            }
            if let found { return found }
            if unsafe place.pointee == 0 { return true }
            unsafe place += 1
        }
    }

    private func isDynamic(_ path: UnsafePointer<CChar>, from folder: Int32) -> Bool {
        let file = unsafe sk_openat(folder, path, O_RDONLY | O_CLOEXEC, 0)
        // What can be executed and not read is no rule.
        guard file >= 0 else { return true }
        defer { _ = sk_close(Int32(file)) }
        return isDynamic(Int32(file))
    }

    /// Whether the loader, and with it the header, can reach what the program does.
    private func isDynamic(_ file: Int32) -> Bool {
        var status = stat()
        guard unsafe sk_fstat(file, &status) == 0, status.st_mode & 0o6000 == 0 else { return false }
        var head = InlineArray<512, UInt64>(repeating: 0)
        return unsafe withUnsafeMutableBytes(of: &head) { bytes in
            let count = unsafe sk_pread(file, bytes.baseAddress!, bytes.count, 0)
            // A script: its interpreter is a program like any other.
            if unsafe count > 2 && bytes[0] == 35 && bytes[1] == 33 { return true }
            guard unsafe count >= 64 && bytes[0] == 0x7f && bytes[1] == 69 && bytes[4] == 2 else { return false }
            let table = unsafe Int(truncatingIfNeeded: bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
            let size = unsafe Int(bytes.loadUnaligned(fromByteOffset: 54, as: UInt16.self))
            var hasLoader = false
            for index in unsafe 0..<Int(bytes.loadUnaligned(fromByteOffset: 56, as: UInt16.self)) {
                let place = table &+ index * size
                guard place >= 0 && place + 40 <= count else { return false }
                let kind = unsafe bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self)
                if kind == 3 /* PT_INTERP */ { hasLoader = true }
                if unsafe kind == 4 /* PT_NOTE */
                    && isGo(file, notes: bytes.loadUnaligned(fromByteOffset: place + 8, as: Int.self))
                {
                    return false
                }
            }
            return hasLoader
        }
    }

    /// Go's linker leaves a note of its own. Such a program makes its system calls past the hooks.
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
}
