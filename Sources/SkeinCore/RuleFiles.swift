import CSystem

/// A program, as far as it decides which rules it gets.
package protocol RuleSubject {
    /// Its effective user: the user's file must be this one's, or root's.
    var user: UInt32 { get }
    /// What stands before every path: nothing, or the root folder of another process.
    var root: PathText { get }
    /// The value of a variable of its environment, for the time of the call; no call when it is unset or empty.
    func withVariable(_ name: StaticString, _ body: (Span<UInt8>) -> Void)
    /// The file name of its executable, for the time of the call. A script's is that of its interpreter.
    func withProgramName(_ body: (Span<UInt8>) -> Void)
}

extension Rules {
    /// Collects the rules of a program: the machine's file, the user's, then the environment. What can't be
    /// read is reported and left out; but where that is the machine's file, everything stays TCP, because
    /// nobody knows what it forbids.
    package init<Subject: RuleSubject>(of subject: Subject, report: (Fault) -> Void) {
        self.init()
        if !machine.readFile(.machineFile, section: .machineSection, subject, report) {
            machine.off = RuleSet.Flag(isOn: true, origin: .machineFile)
        }
        _ = user.readFile(.userFile, section: .userSection, subject, report)
        for value in 0..<RuleKey.count {
            guard let key = RuleKey(rawValue: value) else { continue }
            subject.withVariable(key.variable) { text in
                user.set(key, text.extracting(text.trimmed), .environment) { kind, word in
                    report(Fault(kind: kind, word: word, line: 0, origin: .environment, key: key))
                }
            }
        }
    }
}

extension Origin {
    /// Where the file lies. Empty where there is none: the user has no home.
    package func path<Subject: RuleSubject>(of subject: Subject) -> PathText {
        var path = subject.root
        if isOfMachine {
            path.append("/etc/skein/skein.conf")
            return path
        }
        // A relative one is to be ignored, says the convention that the variable is from.
        subject.withVariable("XDG_CONFIG_HOME") { if $0.first == ASCII.slash { path.append($0) } }
        if path.count == subject.root.count {
            subject.withVariable("HOME") {
                guard $0.first == ASCII.slash else { return }
                path.append($0)
                path.append("/.config")
            }
        }
        if path.count == subject.root.count { return PathText() }
        path.append("/skein/skein.conf")
        return path
    }
}

extension RuleSet {
    /// Nobody writes that much, and it is read at the start of every program.
    private static let largestFile = 65536

    /// False when there is a file of the right person that can't be read.
    fileprivate mutating func readFile<Subject: RuleSubject>(
        _ origin: Origin, section: Origin, _ subject: Subject, _ report: (Fault) -> Void
    ) -> Bool {
        let path = origin.path(of: subject)
        if path.count == 0 || path.isCut { return true }
        var line: UInt = 0
        do throws(Fault.Kind) {
            guard let file = try RuleSet.open(path, origin, subject.user) else { return true }
            defer { _ = sk_close(file.descriptor) }
            if file.size == 0 { return true }
            guard let memory = unsafe map(size: file.size, shared: false) else { throw .noMemory }
            defer { _ = unsafe sk_munmap(memory, file.size) }
            let count = unsafe sk_read(file.descriptor, memory, file.size)
            guard count >= 0 else { throw .unreadable(Int32(-count)) }
            let bytes = unsafe UnsafeRawBufferPointer(start: memory, count: count)
            let text = unsafe bytes.bindMemory(to: UInt8.self).span
            if let noise = text.firstNoise {
                line = 1 + UInt(text.extracting(0..<noise).count(of: ASCII.newline))
                throw .noText
            }
            subject.withProgramName { self.read(text, origin, section: section, program: $0, report: report) }
            return true
        } catch {
            let fault = Fault(kind: error, word: nil, line: line, origin: origin, key: nil)
            report(fault)
            return fault.isOfTrust
        }
    }

    /// Opens a file that nobody but its user, or root, can have written; nil when there is none. Opening
    /// never waits and has no effect, whatever is in its place.
    private static func open(
        _ path: PathText, _ origin: Origin, _ user: UInt32
    ) throws(Fault.Kind) -> (descriptor: Int32, size: Int)? {
        let flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY
        let opened = unsafe path.withCString { unsafe sk_openat(-100, $0, flags, 0) }
        switch opened {
        case -Int(ENOENT), -Int(ENOTDIR): return nil
        case -Int(ELOOP): throw .symbolicLink
        case ..<0: throw .unreadable(Int32(-opened))
        default: break
        }
        let descriptor = Int32(opened)
        var status = stat()
        _ = unsafe sk_fstat(descriptor, &status)
        guard let fault = fault(status, origin, user) else { return (descriptor, Int(status.st_size)) }
        _ = sk_close(descriptor)
        throw fault
    }

    private static func fault(_ status: stat, _ origin: Origin, _ user: UInt32) -> Fault.Kind? {
        if status.st_mode & 0o170000 != 0o100000 { return .notAFile }
        if status.st_uid != 0 && (origin.isOfMachine || status.st_uid != user) {
            return origin.isOfMachine ? .notRoots : .notOwn
        }
        if status.st_mode & 0o022 != 0 { return .writable }
        return Int(status.st_size) > largestFile ? .tooLarge : nil
    }
}

extension Span<UInt8> {
    /// The first byte that no text has.
    fileprivate var firstNoise: Int? {
        for index in indices where self[index] < 32 || self[index] == 127 {
            let byte = self[index]
            if byte != ASCII.newline && byte != ASCII.tab && byte != ASCII.carriageReturn { return index }
        }
        return nil
    }
}
