import CSystem
import Synchronization

// system, popen and pclose. The C library starts their shells beneath every call that a preload sees, so a
// connection that the shell inherits would be an end of file there. Where it inherits one they are made over
// our posix_spawn; everywhere else they are the C library's own.

private let shell: StaticString = "/bin/sh"

/// Whether a child would inherit a connection or a listener of ours.
private func leavesSomething() -> Bool {
    guard let table = unsafe descriptorTable else { return false }
    forgetReplaced()
    for number in 0..<programEnd {
        let kind = kind(unsafe table[number].load(ordering: .relaxed))
        if (kind == .endpoint || kind == .listener || kind == .relayed) && isInherited(Int32(number)) { return true }
    }
    return false
}

/// Starts `sh -c command`. The child's number, or minus the errno.
private func startShell(
    _ command: UnsafePointer<CChar>, _ actions: SpawnActions?, _ attributes: SpawnAttributes?
) -> Int32 {
    var child: Int32 = -1
    let error = unsafe withArguments(command) { arguments in
        unsafe hookSpawn(&child, shell.cString, actions, attributes, arguments, sk_environ())
    }
    return error == 0 ? child : -error
}

extension StaticString {
    fileprivate var cString: UnsafePointer<CChar> {
        unsafe UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self)
    }
}

private func withArguments(_ command: UnsafePointer<CChar>, _ body: (Strings) -> Int32) -> Int32 {
    let name: StaticString = "sh"
    let option: StaticString = "-c"
    var words = unsafe InlineArray<4, UnsafeMutablePointer<CChar>?>(repeating: nil)
    unsafe words[0] = unsafe UnsafeMutablePointer(mutating: name.cString)
    unsafe words[1] = unsafe UnsafeMutablePointer(mutating: option.cString)
    unsafe words[2] = unsafe UnsafeMutablePointer(mutating: command)
    return unsafe withUnsafeBytes(of: &words) {
        unsafe body($0.baseAddress!.assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self))
    }
}

/// Waits for a child whatever signals come. Its status, or -1.
private func waitFor(_ child: Int32) -> Int32 {
    var status: Int32 = -1
    while true {
        let result = unsafe sk_wait4(child, &status, 0)
        if result == -Int(EINTR) { continue }
        return result < 0 ? Int32(finish(result)) : status
    }
}

// MARK: system

@c(system) public func hookSystem(_ command: UnsafePointer<CChar>?) -> Int32 {
    typealias Call = @convention(c) (UnsafePointer<CChar>?) -> Int32
    guard let command = unsafe command, leavesSomething() else {
        return unsafe unsafeBitCast(sk_next_symbol("system"), to: Call.self)(command)
    }
    var mask = sigset_t()
    unsafe sk_block_child_signal(&mask)
    withProcessLock {
        unsafe waiters += 1
        guard unsafe waiters == 1 else { return }
        unsafe sk_ignore_signal(SIGINT, &interrupt)
        unsafe sk_ignore_signal(SIGQUIT, &quit)
    }
    var attributes = posix_spawnattr_t()
    var child = unsafe -sk_shell_attributes(&attributes, &mask, &interrupt, &quit)
    if child == 0 { child = unsafe startShell(command, nil, &attributes) }
    unsafe _ = posix_spawnattr_destroy(&attributes)
    // A shell that can't be started is one that says 127.
    let status = child > 0 ? waitFor(child) : 127 << 8
    let error = child > 0 ? sk_errno() : -child
    withProcessLock {
        unsafe waiters -= 1
        guard unsafe waiters == 0 else { return }
        unsafe sk_restore_signal(SIGINT, &interrupt)
        unsafe sk_restore_signal(SIGQUIT, &quit)
    }
    unsafe sk_restore_mask(&mask)
    sk_set_errno(error)
    return status
}

/// Threads in `system`, and what the program had set for the signals that it ignores meanwhile. Under the
/// process lock.
nonisolated(unsafe) private var waiters = 0
nonisolated(unsafe) private var interrupt = sigaction()
nonisolated(unsafe) private var quit = sigaction()

// MARK: popen

/// A stream to or from a shell of ours.
@safe
private struct ShellStream {
    var file: OpaquePointer
    var descriptor: Int32
    var child: Int32
    var next: UnsafeMutablePointer<ShellStream>?
}

nonisolated(unsafe) private var cells = Cells<ShellStream>()
nonisolated(unsafe) private var firstStream: UnsafeMutablePointer<ShellStream>? = nil

private typealias Open = @convention(c) (UnsafePointer<CChar>?, UnsafePointer<CChar>?) -> OpaquePointer?
private typealias Close = @convention(c) (OpaquePointer?) -> Int32

@c(popen) public func hookPopen(_ command: UnsafePointer<CChar>?, _ mode: UnsafePointer<CChar>?) -> OpaquePointer? {
    if let command = unsafe command, let mode = unsafe mode, let way = unsafe PipeMode(mode),
        leavesSomething() || nextStream(after: -1) != nil
    {
        return unsafe openShell(command, way)
    }
    let file = unsafe unsafeBitCast(sk_next_symbol("popen"), to: Open.self)(command, mode)
    // One of ours that was closed by fclose may have lain there.
    if let file = unsafe file { _ = unsafe forget(file) }
    return unsafe file
}

/// What `r`, `w` and `e` say; nil for anything else.
private struct PipeMode {
    var reads = false
    var closesOnExec = false

    init?(_ mode: UnsafePointer<CChar>) {
        var place = unsafe mode
        var writes = false
        while unsafe place.pointee != 0 {
            switch unsafe place.pointee {
            case 114: reads = true
            case 119: writes = true
            case 101: closesOnExec = true
            default: return nil
            }
            unsafe place += 1
        }
        if reads == writes { return nil }
    }
}

private func openShell(_ command: UnsafePointer<CChar>, _ mode: PipeMode) -> OpaquePointer? {
    var pipe: (reader: Int32, writer: Int32) = (-1, -1)
    let made = unsafe withUnsafeMutableBytes(of: &pipe) {
        unsafe sk_pipe($0.baseAddress!.assumingMemoryBound(to: Int32.self), Flag.closeOnExec)
    }
    guard made == 0 else { return unsafe fail(-Int32(made)) }
    let own = mode.reads ? pipe.reader : pipe.writer
    let theirs = mode.reads ? pipe.writer : pipe.reader
    let child = unsafe startShell(command, reading: !mode.reads, theirs)
    _ = sk_close(theirs)
    guard child > 0 else {
        _ = sk_close(own)
        return unsafe fail(-child)
    }
    guard let file = unsafe hookFdopen(own, (mode.reads ? "r" : "w" as StaticString).cString) else {
        _ = sk_close(own)
        return unsafe fail(ENOMEM)
    }
    _ = unsafe forget(file)
    withProcessLock {
        let stream = unsafe ShellStream(file: file, descriptor: own, child: child, next: firstStream)
        if let link = unsafe cells.take(stream) { unsafe firstStream = unsafe link }
    }
    // Listed by now: a shell that another thread starts closes it.
    if !mode.closesOnExec { _ = sk_fcntl(own, F_SETFD, 0) }
    return unsafe file
}

/// A shell that reads or writes the pipe's end, and has no other stream's: those ends would never close.
private func startShell(_ command: UnsafePointer<CChar>, reading: Bool, _ end: Int32) -> Int32 {
    var actions = unsafe posix_spawn_file_actions_t()
    guard unsafe posix_spawn_file_actions_init(&actions) == 0 else { return -ENOMEM }
    defer { unsafe _ = posix_spawn_file_actions_destroy(&actions) }
    // The list of actions calls malloc, which nothing under the lock may: one at a time.
    var other: Int32 = -1
    while let next = nextStream(after: other) {
        other = next
        guard unsafe posix_spawn_file_actions_addclose(&actions, other) == 0 else { return -ENOMEM }
    }
    guard unsafe posix_spawn_file_actions_adddup2(&actions, end, reading ? 0 : 1) == 0 else { return -ENOMEM }
    return unsafe startShell(command, &actions, nil)
}

/// The next higher number that is a stream's; nil where there is none.
private func nextStream(after number: Int32) -> Int32? {
    withProcessLock {
        var next: Int32? = nil
        var place = unsafe firstStream
        while let stream = unsafe place {
            let descriptor = unsafe stream.pointee.descriptor
            if descriptor > number && descriptor < next ?? Int32.max { next = descriptor }
            unsafe place = unsafe stream.pointee.next
        }
        return next
    }
}

private func fail(_ error: Int32) -> OpaquePointer? {
    sk_set_errno(error)
    return nil
}

@c(pclose) public func hookPclose(_ file: OpaquePointer?) -> Int32 {
    guard let file = unsafe file, let child = unsafe forget(file) else {
        return unsafe unsafeBitCast(sk_next_symbol("pclose"), to: Close.self)(file)
    }
    _ = unsafe unsafeBitCast(sk_next_symbol("fclose"), to: Close.self)(file)
    return waitFor(child)
}

/// Takes the stream out of the list. Its child; nil where it is none of ours.
private func forget(_ file: OpaquePointer) -> Int32? {
    withProcessLock {
        var place = unsafe firstStream
        var before: UnsafeMutablePointer<ShellStream>? = nil
        while let stream = unsafe place {
            let next = unsafe stream.pointee.next
            if unsafe stream.pointee.file == file {
                if let before = unsafe before {
                    unsafe before.pointee.next = unsafe next
                } else {
                    unsafe firstStream = unsafe next
                }
                let child = unsafe stream.pointee.child
                unsafe cells.give(stream)
                return child
            }
            unsafe before = unsafe stream
            unsafe place = unsafe next
        }
        return nil
    }
}
