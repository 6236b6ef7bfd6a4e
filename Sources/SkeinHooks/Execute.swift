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

/// What an exec has put in place of one number, to be undone if it fails.
private struct Departure {
    var number: Int32
    /// A copy of the end's own descriptor; -1 where the number was only kept from the new program, because no
    /// relay could be had.
    var original: Int32
    /// Its entry in the table.
    var word: UInt
}

/// All of them, and the gate at which the relay waits for the exec.
@safe
private struct Departures {
    private let list: UnsafeMutablePointer<Departure>
    /// Another thread may make more ends meanwhile.
    private let room: Int
    private var count = 0
    private let gate: Gate?

    init(_ memory: UnsafeMutableRawPointer, room: Int) {
        self.room = room
        unsafe list = unsafe memory.bindMemory(to: Departure.self, capacity: room)
        gate = room > 0 ? Gate() : nil
    }

    /// The new program gets the relay's stream under this number.
    mutating func leave(_ number: Int32, _ word: UInt) {
        guard count < room else { return }
        let original = hiddenCopy(of: number)
        let departure = Departure(number: number, original: original, word: word)
        if original >= 0 && replace(number, word) {
            clearEntry(number)
            unsafe list[count] = departure
        } else {
            // Better none than one that says nothing but end of file.
            if original >= 0 { _ = sk_close(original) }
            _ = sk_fcntl(number, F_SETFD, 1)
            unsafe list[count] = Departure(number: number, original: -1, word: word)
        }
        count += 1
    }

    private func replace(_ number: Int32, _ word: UInt) -> Bool {
        // Several numbers of one end share one stream.
        for index in 0..<count where unsafe list[index].word == word && list[index].original >= 0 {
            return unsafe sk_dup3(list[index].number, number, 0) >= 0
        }
        let end = unsafe Endpoint(UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!)
        guard let gate, let stream = handOver(end, number, gate: gate.inner) else { return false }
        defer { _ = sk_close(stream) }
        return sk_dup3(stream, number, 0) >= 0
    }

    /// The numbers that stand for streams now.
    var streams: StreamList {
        var streams = StreamList()
        for index in 0..<count where unsafe list[index].original >= 0 { unsafe streams.add(list[index].number) }
        return streams
    }

    /// From here on the relay begins when the exec has closed what is close-on-exec.
    func closeGate() { gate?.closeInner() }

    /// The exec failed.
    func comeBack() {
        for index in 0..<count {
            let departure = unsafe list[index]
            if departure.original >= 0 {
                _ = sk_dup3(departure.original, departure.number, 0)
                _ = sk_close(departure.original)
                unsafe setEntry(departure.number, UnsafeRawPointer(bitPattern: departure.word & ~Kind.bits), .endpoint)
            } else {
                _ = sk_fcntl(departure.number, F_SETFD, 0)
            }
        }
        gate?.say(Gate.Word.neverMind)
    }
}

/// Runs an exec with every endpoint that the new image inherits replaced by a relay's stream. `exec` gets
/// the environment to use.
private func leaving(_ program: Program, _ environment: Strings?, _ exec: (Strings?) -> Int32) -> Int32 {
    unsafe withLoadablePreload(environment) { unsafe handingOver(program, $0, exec) }
}

private func handingOver(_ program: Program, _ environment: Strings?, _ exec: (Strings?) -> Int32) -> Int32 {
    // Searching for a program means failing many times: nothing is started for that.
    guard let table = unsafe descriptorTable, program.canBeExecuted() else { return unsafe exec(environment) }
    forgetReplaced()
    var room = 0
    for number in 0..<programEnd where isLeaving(Int32(number)) { room += 1 }
    let result = unsafe withScratch(words: room * (MemoryLayout<Departure>.stride / 8) + 1) { memory in
        var left = unsafe Departures(memory, room: room)
        for number in 0..<programEnd where isLeaving(Int32(number)) {
            unsafe left.leave(Int32(number), table[number].load(ordering: .relaxed))
        }
        left.closeGate()
        unsafe process.table.settleNow(ending: true)
        var streams = left.streams
        streams.addUnused(Inheritance())
        let result = unsafe withHeirs(of: program, environment, streams: streams, Inheritance()) { heirs, environment in
            heirs.setInherited(true)
            let result = unsafe exec(environment)
            heirs.setInherited(false)
            return result
        }
        let error = sk_errno()
        left.comeBack()
        sk_set_errno(error)
        return Int(result)
    }
    // No memory for the list: as exec says it.
    return result == -Int(ENOMEM) ? Int32(finish(result)) : Int32(result)
}

private func isLeaving(_ number: Int32) -> Bool {
    entry(number) & Kind.bits == Kind.endpoint.rawValue && isInherited(number)
}

@c(execve) public func hookExecute(
    _ path: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execve"), to: ExecuteCall.self)
    return unsafe leaving(.path(path), environment) { unsafe call(path, arguments, $0) }
}

@c(execv) public func hookExecuteV(_ path: UnsafePointer<CChar>?, _ arguments: Strings?) -> Int32 {
    unsafe hookExecute(path, arguments, sk_environ())
}

@c(execvpe) public func hookExecuteVPE(
    _ file: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execvpe"), to: ExecuteCall.self)
    return unsafe leaving(.searched(file), environment) { unsafe call(file, arguments, $0) }
}

@c(execvp) public func hookExecuteVP(_ file: UnsafePointer<CChar>?, _ arguments: Strings?) -> Int32 {
    unsafe hookExecuteVPE(file, arguments, sk_environ())
}

@c(fexecve) public func hookExecuteDescriptor(_ file: Int32, _ arguments: Strings?, _ environment: Strings?) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("fexecve"), to: ExecuteDescriptorCall.self)
    return unsafe leaving(.descriptor(file), environment) { unsafe call(file, arguments, $0) }
}

@c(execveat) public func hookExecuteAt(
    _ folder: Int32, _ path: UnsafePointer<CChar>?, _ arguments: Strings?, _ environment: Strings?, _ flags: Int32
) -> Int32 {
    let call = unsafe unsafeBitCast(sk_next_symbol("execveat"), to: ExecuteAtCall.self)
    let isDescriptor = unsafe flags & 0x1000 /* AT_EMPTY_PATH */ != 0 && path?.pointee == 0
    return unsafe leaving(isDescriptor ? .descriptor(folder) : .path(path, from: folder), environment) {
        unsafe call(folder, path, arguments, $0, flags)
    }
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
    for number in 0..<programEnd where isLeaving(Int32(number)) { room += 1 }
    let result = unsafe withScratch(words: room * SpawnDepartures.words + 1) { memory in
        var left = unsafe SpawnDepartures(memory, room: room, inheritance)
        for number in 0..<programEnd where isLeaving(Int32(number)) { unsafe left.leave(Int32(number), &own) }
        var streams = left.streams
        streams.addUnused(inheritance)
        let result = unsafe withHeirs(of: program, environment, streams: streams, inheritance) { heirs, environment in
            heirs.forEach { unsafe _ = posix_spawn_file_actions_adddup2(&own, $0, $0) }
            guard unsafe sk_spawn_append(&own, actions) == 0 else { return ENOMEM }
            unsafe left.closeInChild(&own)
            return unsafe call(&own, environment)
        }
        left.finish(spawned: result == 0)
        return Int(result)
    }
    return Int32(result < 0 ? -result : result)
}

/// The relay's streams that a child is to get.
@safe
private struct SpawnDepartures {
    private struct Departure {
        var stream: Int32
        var number: Int32
        /// A number that exec would have closed; -1 for none.
        var closing: Int32
    }
    /// What each takes of the memory.
    static let words = 2
    private let list: UnsafeMutablePointer<Departure>
    private let room: Int
    private var count = 0
    private let gate: Gate?
    private let inheritance: Inheritance

    init(_ memory: UnsafeMutableRawPointer, room: Int, _ inheritance: Inheritance) {
        unsafe list = unsafe memory.bindMemory(to: Departure.self, capacity: room)
        self.room = room
        gate = room > 0 ? Gate() : nil
        self.inheritance = inheritance
    }

    mutating func leave(_ number: Int32, _ own: inout posix_spawn_file_actions_t) {
        guard count < room, let gate, let end = endpoint(number),
            let stream = handOver(end, number, gate: gate.inner)
        else {
            // Better none than one that says nothing but end of file.
            unsafe _ = posix_spawn_file_actions_addclose(&own, number)
            return
        }
        let closing = inheritance.closesAtExec(number) ? number : -1
        unsafe list[count] = Departure(stream: stream, number: number, closing: closing)
        count += 1
        unsafe _ = posix_spawn_file_actions_adddup2(&own, stream, number)
    }

    /// Where the child finds them.
    var streams: StreamList {
        var streams = StreamList()
        if count > 0 { streams.add(inheritance, .endpoint) }
        return streams
    }

    /// Behind the program's own actions.
    func closeInChild(_ own: inout posix_spawn_file_actions_t) {
        for index in 0..<count where unsafe list[index].closing >= 0 {
            unsafe _ = posix_spawn_file_actions_addclose(&own, list[index].closing)
        }
    }

    func finish(spawned: Bool) {
        for index in 0..<count { _ = unsafe sk_close(list[index].stream) }
        gate?.closeInner()
        gate?.say(spawned ? Gate.Word.go : Gate.Word.neverMind)
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
