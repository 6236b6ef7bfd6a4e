import CSystem
import Synchronization

// exec and posix_spawn: what the new program inherits of ours. A connection becomes a relay's stream
// (`Relay.swift`), a listener takes its hidden one along (`Heirs.swift`).

public typealias Strings = UnsafePointer<UnsafeMutablePointer<CChar>?>
private typealias ExecuteCall = @convention(c) (UnsafePointer<CChar>?, Strings?, Strings?) -> Int32
private typealias ExecuteDescriptorCall = @convention(c) (Int32, Strings?, Strings?) -> Int32

// MARK: exec

/// What an exec has put in place of endpoints, to be undone if it fails.
private struct Departures {
    static let maximum = 64
    var count = 0
    var replaced = InlineArray<64, Int32>(repeating: -1)
    var originals = InlineArray<64, Int32>(repeating: -1)
    var words = InlineArray<64, UInt>(repeating: 0)
    var relays = InlineArray<64, Int32>(repeating: -1)
    var gates = InlineArray<64, Int32>(repeating: -1)
    /// Those for which no relay could be had: the new program doesn't get them.
    var barred = InlineArray<64, Int32>(repeating: -1)
    var barredCount = 0
}

/// Runs an exec with every endpoint that the new image inherits replaced by a relay's stream. `exec` gets
/// the environment to use.
private func leaving(_ program: Program, _ environment: Strings?, _ exec: (Strings?) -> Int32) -> Int32 {
    // Searching for a program means failing many times: nothing is started for that.
    guard let table = unsafe descriptorTable, program.canBeExecuted() else { return unsafe exec(environment) }
    var left = Departures()
    for number in 0..<programEnd {
        let word = unsafe table[number].load(ordering: .relaxed)
        guard word & 7 == Kind.endpoint.rawValue, isInherited(Int32(number)) else { continue }
        if left.count < Departures.maximum && leave(Int32(number), word, &left) { continue }
        // Better none than one that says nothing but end of file.
        _ = sk_fcntl(Int32(number), F_SETFD, 1)
        if left.barredCount < Departures.maximum {
            left.barred[left.barredCount] = Int32(number)
            left.barredCount += 1
        }
    }
    unsafe process.table.settleNow(ending: true)
    let result = unsafe withHeirs(of: program, environment, number: { isInherited($0) ? $0 : -1 }) {
        heirs, environment in
        heirs.setInherited(true)
        let result = unsafe exec(environment)
        heirs.setInherited(false)
        return result
    }
    let error = sk_errno()
    for index in 0..<left.count { comeBack(index, &left) }
    for index in 0..<left.barredCount { _ = sk_fcntl(left.barred[index], F_SETFD, 0) }
    sk_set_errno(error)
    return result
}

func isInherited(_ descriptor: Int32) -> Bool { sk_fcntl(descriptor, F_GETFD, 0) & 1 == 0 }

private func leave(_ number: Int32, _ word: UInt, _ left: inout Departures) -> Bool {
    var stream: Int32 = -1
    var gate: Int32 = -1
    // Several numbers of one end share one relay.
    for earlier in 0..<left.count where left.words[earlier] == word { stream = left.relays[earlier] }
    if stream < 0 {
        let end = unsafe Endpoint(UnsafeMutablePointer<LocalState>(bitPattern: word & ~7)!)
        guard let relay = startRelay(end, number) else { return false }
        stream = hide(relay.stream)
        gate = hide(relay.gate)
    }
    let original = hiddenCopy(of: number)
    guard stream >= 0, original >= 0, sk_dup3(stream, number, 0) >= 0 else {
        if gate >= 0 { Relay(stream: stream, gate: gate).callBack() }
        if original >= 0 { _ = sk_close(original) }
        return false
    }
    clearEntry(number)
    left.replaced[left.count] = number
    left.originals[left.count] = original
    left.words[left.count] = word
    left.relays[left.count] = stream
    left.gates[left.count] = gate
    left.count += 1
    return true
}

private func comeBack(_ index: Int, _ left: inout Departures) {
    _ = sk_dup3(left.originals[index], left.replaced[index], 0)
    _ = sk_close(left.originals[index])
    unsafe setEntry(left.replaced[index], UnsafeRawPointer(bitPattern: left.words[index] & ~7), .endpoint)
    if left.gates[index] >= 0 { Relay(stream: left.relays[index], gate: left.gates[index]).callBack() }
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
    guard let table = unsafe descriptorTable else { return unsafe call(actions, environment) }
    var own = unsafe posix_spawn_file_actions_t()
    guard unsafe sk_spawn_begin(&own, actions) == 0 else { return unsafe call(actions, environment) }
    defer { unsafe _ = posix_spawn_file_actions_destroy(&own) }
    var relays = InlineArray<64, Int32>(repeating: -1)
    var gates = InlineArray<64, Int32>(repeating: -1)
    /// Numbers that exec would have closed.
    var closing = InlineArray<64, Int32>(repeating: -1)
    var count = 0
    for number in 0..<programEnd {
        let word = unsafe table[number].load(ordering: .relaxed)
        let descriptor = Int32(number)
        guard word & 7 == Kind.endpoint.rawValue else { continue }
        let inherited = isInherited(descriptor)
        guard unsafe inherited || sk_spawn_target(actions, descriptor) >= 0 else { continue }
        guard count < 64, let end = endpoint(descriptor), let relay = startRelay(end, descriptor) else {
            // Better none than one that says nothing but end of file.
            unsafe _ = posix_spawn_file_actions_addclose(&own, descriptor)
            continue
        }
        relays[count] = relay.stream
        gates[count] = relay.gate
        closing[count] = unsafe inherited || sk_spawn_replaces(actions, descriptor) != 0 ? -1 : descriptor
        count += 1
        unsafe _ = posix_spawn_file_actions_adddup2(&own, relay.stream, descriptor)
    }
    let result = unsafe withHeirs(
        of: program, environment,
        number: {
            let target = unsafe sk_spawn_target(actions, $0)
            return target >= 0 ? target : isInherited($0) ? $0 : -1
        }
    ) { heirs, environment in
        heirs.forEach { unsafe _ = posix_spawn_file_actions_adddup2(&own, $0, $0) }
        guard unsafe sk_spawn_append(&own, actions) == 0 else { return ENOMEM }
        for index in 0..<count where closing[index] >= 0 {
            unsafe _ = posix_spawn_file_actions_addclose(&own, closing[index])
        }
        return unsafe call(&own, environment)
    }
    for index in 0..<count {
        let relay = Relay(stream: relays[index], gate: gates[index])
        if result == 0 {
            relay.begin()
            _ = sk_close(relay.stream)
        } else {
            relay.callBack()
        }
    }
    return result
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
