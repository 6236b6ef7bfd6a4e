import CSystem
import Synchronization

// exec and posix_spawn: what the new program inherits of ours. A connection becomes a relay's stream
// (`Relay.swift`), a listener takes its hidden one along (`Heirs.swift`).

public typealias Strings = UnsafePointer<UnsafeMutablePointer<CChar>?>
private typealias ExecuteCall = @convention(c) (UnsafePointer<CChar>?, Strings?, Strings?) -> Int32
private typealias ExecuteDescriptorCall = @convention(c) (Int32, Strings?, Strings?) -> Int32
private typealias ExecuteAtCall =
    @convention(c) (Int32, UnsafePointer<CChar>?, Strings?, Strings?, Int32) -> Int32

// MARK: exec

/// Which call of the exec family, and the program as it names that.
@safe
private enum Execution {
    case path(UnsafePointer<CChar>?)
    case searched(UnsafePointer<CChar>?)
    case descriptor(Int32)
    case at(Int32, UnsafePointer<CChar>?, flags: Int32)

    var program: Program {
        switch self {
        case .path(let path): return unsafe .path(path)
        case .searched(let file): return unsafe .searched(file)
        case .descriptor(let file): return .descriptor(file)
        case .at(let folder, let path, let flags):
            let isDescriptor = unsafe flags & 0x1000 /* AT_EMPTY_PATH */ != 0 && path?.pointee == 0
            return unsafe isDescriptor ? .descriptor(folder) : .path(path, from: folder)
        }
    }

    /// Comes back only where it fails, with errno set.
    func run(_ arguments: Strings?, _ environment: Strings?) -> Int32 {
        switch self {
        case .path(let path):
            return unsafe unsafeBitCast(sk_next_symbol("execve"), to: ExecuteCall.self)(path, arguments, environment)
        case .searched(let file):
            return unsafe unsafeBitCast(sk_next_symbol("execvpe"), to: ExecuteCall.self)(file, arguments, environment)
        case .descriptor(let file):
            let call = unsafe unsafeBitCast(sk_next_symbol("fexecve"), to: ExecuteDescriptorCall.self)
            return unsafe call(file, arguments, environment)
        case .at(let folder, let path, let flags):
            let call = unsafe unsafeBitCast(sk_next_symbol("execveat"), to: ExecuteAtCall.self)
            return unsafe call(folder, path, arguments, environment, flags)
        }
    }
}

/// An exec of a program that gets streams in the place of the ends that it inherits.
@safe
private struct Attempt {
    let execution: Execution
    let arguments: Strings?
    let environment: Strings?
    let left: Departures
    /// What the program has blocked, in a thread of our own, which blocks all signals: their handlers are for others.
    private var mask: sigset_t? = nil
    private var result: Int32 = -1

    init(_ execution: Execution, _ arguments: Strings?, _ environment: Strings?, _ left: Departures) {
        self.execution = execution
        unsafe self.arguments = unsafe arguments
        unsafe self.environment = unsafe environment
        self.left = left
    }

    /// Other threads go on with their descriptors until it is certain that the exec doesn't fail. So what it takes is done
    /// by a thread with copies of them, as the program's own where there is no other, none can be had, or it would lose locks.
    func run() -> Int32 {
        let hasOthers = unsafe left.count > 0 && sk_is_single_threaded() == 0 && !process.isConfined
        if hasOthers && !holdsRecordLocks(), let result = runInOwnThread() { return result }
        left.exchange()
        let result = start()
        left.exchangeBack()
        return result
    }

    private func runInOwnThread() -> Int32? {
        // An exec by name takes room for as many arguments as there are.
        let size = 1 << 20
        guard let stack = unsafe allocate(size) else { return nil }
        defer { unsafe _ = sk_munmap(stack, size) }
        var attempt = self
        var mask = sigset_t()
        unsafe sk_block_all_signals(&mask)
        attempt.mask = mask
        let made = unsafe withUnsafeMutablePointer(to: &attempt) { place in
            unsafe sk_with_own_descriptors(
                { context in
                    let attempt = unsafe context!.assumingMemoryBound(to: Attempt.self)
                    unsafe attempt.pointee.left.takePlaces()
                    unsafe attempt.pointee.result = unsafe attempt.pointee.start()
                }, place, stack.advanced(by: size))
        }
        unsafe sk_restore_mask(&mask)
        return made < 0 ? nil : attempt.result
    }

    /// With the streams in their places.
    private func start() -> Int32 {
        var streams = StreamList()
        left.forEach { number, stream in if stream >= 0 { streams.add(number) } }
        streams.addUnused(Inheritance())
        return unsafe withHeirs(of: execution.program, environment, streams: streams, Inheritance()) {
            heirs, environment in
            heirs.setInherited(true)
            var mask = mask
            if mask != nil { unsafe sk_restore_mask(&mask!) }
            let result = unsafe execution.run(arguments, environment)
            if mask != nil { unsafe sk_block_all_signals(&mask!) }
            heirs.setInherited(false)
            return result
        }
    }
}

/// Runs an exec with every end that the new program inherits replaced by a relay's stream.
private func leaving(_ execution: Execution, _ arguments: Strings?, _ environment: Strings?) -> Int32 {
    unsafe withLoadablePreload(environment) { unsafe handingOver(execution, arguments, $0) }
}

private func handingOver(_ execution: Execution, _ arguments: Strings?, _ environment: Strings?) -> Int32 {
    // Searching for a program means failing many times: nothing is started for that.
    guard unsafe descriptorTable != nil, execution.program.canBeExecuted(), sk_borrows_memory() == 0 else {
        return unsafe execution.run(arguments, environment)
    }
    forgetReplaced()
    var room = 0
    for number in 0..<Int32(programEnd) where isLeaving(number) { room += 1 }
    let result = unsafe withScratch(words: room * Departures.words + 1) { memory in
        var left = unsafe Departures(memory, room: room)
        for number in 0..<Int32(programEnd) where isLeaving(number) { left.leave(number) }
        unsafe process.table.settleNow(ending: true)
        let result = unsafe Attempt(execution, arguments, environment, left).run()
        let error = sk_errno()
        left.finish(Gate.Word.neverMind)
        sk_set_errno(error)
        return Int(result)
    }
    // No memory for the list: as exec says it.
    return result == -Int(ENOMEM) ? Int32(finish(result)) : Int32(result)
}

@c(execve) public func hookExecute(
    _ path: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    unsafe leaving(.path(path), arguments, environment)
}

@c(execv) public func hookExecuteV(_ path: UnsafePointer<CChar>?, _ arguments: Strings?) -> Int32 {
    unsafe hookExecute(path, arguments, sk_environ())
}

@c(execvpe) public func hookExecuteVPE(
    _ file: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    unsafe leaving(.searched(file), arguments, environment)
}

@c(execvp) public func hookExecuteVP(_ file: UnsafePointer<CChar>?, _ arguments: Strings?) -> Int32 {
    unsafe hookExecuteVPE(file, arguments, sk_environ())
}

@c(fexecve) public func hookExecuteDescriptor(_ file: Int32, _ arguments: Strings?, _ environment: Strings?) -> Int32 {
    unsafe leaving(.descriptor(file), arguments, environment)
}

@c(execveat) public func hookExecuteAt(
    _ folder: Int32, _ path: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?, _ flags: Int32
) -> Int32 {
    unsafe leaving(.at(folder, path, flags: flags), arguments, environment)
}

// MARK: posix_spawn

public typealias SpawnActions = UnsafePointer<posix_spawn_file_actions_t>
public typealias SpawnAttributes = UnsafePointer<posix_spawnattr_t>
private typealias SpawnCall =
    @convention(c) (
        UnsafeMutablePointer<Int32>?, UnsafePointer<CChar>?, SpawnActions?, SpawnAttributes?, Strings?, Strings?
    ) -> Int32

/// The child gets a relay's stream for each connection that it inherits: put there by actions that come
/// before the program's own. Its parent's descriptors are not touched, since other threads use them.
private func spawn(
    _ program: Program, _ actions: SpawnActions?, _ environment: Strings?,
    _ call: (SpawnActions?, Strings?) -> Int32
) -> Int32 {
    unsafe withLoadablePreload(environment) { unsafe spawnHandingOver(program, actions, $0, call) }
}

private func spawnHandingOver(
    _ program: Program, _ actions: SpawnActions?, _ environment: Strings?,
    _ call: (SpawnActions?, Strings?) -> Int32
) -> Int32 {
    if unsafe descriptorTable == nil { return unsafe call(actions, environment) }
    forgetReplaced()
    var own = unsafe posix_spawn_file_actions_t()
    guard unsafe sk_spawn_begin(&own, actions) == 0 else { return unsafe call(actions, environment) }
    defer { unsafe _ = posix_spawn_file_actions_destroy(&own) }
    let inheritance = unsafe Inheritance(actions)
    func isLeaving(_ number: Int32) -> Bool { kind(entry(number)) == .endpoint && inheritance.includes(number) }
    var room = 0
    for number in 0..<Int32(programEnd) where isLeaving(number) { room += 1 }
    let result = unsafe withScratch(words: room * Departures.words + 1) { memory in
        var left = unsafe Departures(memory, room: room)
        for number in 0..<Int32(programEnd) where isLeaving(number) { left.leave(number) }
        unsafe placeStreams(left, &own)
        var streams = StreamList()
        if left.count > 0 { streams.add(inheritance, .endpoint) }
        streams.addUnused(inheritance)
        let result = unsafe withHeirs(of: program, environment, streams: streams, inheritance) { heirs, environment in
            heirs.forEach { unsafe _ = posix_spawn_file_actions_adddup2(&own, $0, $0) }
            guard unsafe sk_spawn_append(&own, actions) == 0 else { return ENOMEM }
            unsafe closeStreams(left, &own, inheritance)
            return unsafe call(&own, environment)
        }
        left.finish(result == 0 ? Gate.Word.go : Gate.Word.neverMind)
        return Int(result)
    }
    return Int32(result < 0 ? -result : result)
}

/// The child's way to its streams: actions before the program's own.
private func placeStreams(_ left: Departures, _ own: inout posix_spawn_file_actions_t) {
    left.forEach { number, stream in
        if stream >= 0 {
            unsafe _ = posix_spawn_file_actions_adddup2(&own, stream, number)
        } else if kind(entry(number)) == .endpoint {
            // Better none than one that says nothing but end of file.
            unsafe _ = posix_spawn_file_actions_addclose(&own, number)
        }
    }
}

/// Behind the program's own actions: exec would have closed these.
private func closeStreams(
    _ left: Departures, _ own: inout posix_spawn_file_actions_t, _ inheritance: Inheritance
) {
    left.forEach { number, stream in
        if stream >= 0 && inheritance.closesAtExec(number) {
            unsafe _ = posix_spawn_file_actions_addclose(&own, number)
        }
    }
}

@c(posix_spawn) public func hookSpawn(
    _ child: UnsafeMutablePointer<Int32>?, _ path: UnsafePointer<CChar>?, _ actions: SpawnActions?,
    _ attributes: SpawnAttributes?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("posix_spawn"), to: SpawnCall.self)
    return unsafe spawn(.path(path), actions, environment) { unsafe call(child, path, $0, attributes, arguments, $1) }
}

@c(posix_spawnp) public func hookSpawnSearched(
    _ child: UnsafeMutablePointer<Int32>?, _ file: UnsafePointer<CChar>?, _ actions: SpawnActions?,
    _ attributes: SpawnAttributes?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("posix_spawnp"), to: SpawnCall.self)
    return unsafe spawn(.searched(file), actions, environment) {
        unsafe call(child, file, $0, attributes, arguments, $1)
    }
}
