import CSystem

// The STP socket library (skein.h). TCP sockets of a program that links it stay TCP.

/// This library stands in for nothing: see `Setup.swift`.
let translates = false

/// Ends an STP call well.
@inline(__always) func succeed<Value>(_ value: Value) -> Value {
    sk_set_stp_error(STPCode.none.rawValue)
    return value
}

/// Ends an STP call with an errno and what STPerror says beside it.
@inline(never) func fail(_ error: Int32, _ code: STPCode) -> Int32 {
    sk_set_errno(error)
    sk_set_stp_error(code.rawValue)
    return -1
}

/// The user's totals in the runtime folder can be written.
nonisolated(unsafe) private var isEntered = false

/// What the library needs before the first socket: who this process is, its names, the runtime folder
/// with a place for the user's totals. False with errno and the code set. Tried again by the next STPsocket.
func becomeReady() -> Bool {
    setUp()
    unsafe process.keepsMemory = true
    if unsafe sk_is_secure() != 0 || rules.offOrigin != nil { return fail(EPERM, .off) == 0 }
    if unsafe process.group[0] == 0 && !readNames() { return fail(EINVAL, .name) == 0 }
    if unsafe process.folderError != 0 { findRuntimeFolder() }
    if unsafe isEntered { return true }
    let error = addToTotals(InlineArray(repeating: 0))
    switch error {
    // Another process has them just now, this one may not write files, or something else has their name, which
    // `skein ls` reports: no socket needs them.
    case 0, EAGAIN, EFBIG, EEXIST:
        unsafe isEntered = true
        return true
    case EPERM: return fail(EPERM, .unsafeFolder) == 0
    case ENOSPC, EDQUOT: return fail(error, .full) == 0
    case EROFS: return fail(error, .readOnly) == 0
    case EMFILE, ENFILE: return fail(error, code(for: error)) == 0
    default: return fail(error, .folder) == 0
    }
}

/// The group and the host that this process belongs to. False where a name that was given is too long: half of it
/// would be another's.
private func readNames() -> Bool {
    withProcessLock {
        let group = unsafe sk_environment("SKEIN_GROUP")
        let host = unsafe sk_environment("SKEIN_HOST")
        guard unsafe isAtMost(15, group), unsafe isAtMost(31, host) else { return false }
        if let host = unsafe host, unsafe host[0] != 0 {
            for index in unsafe 0..<Int(strlen(host)) { unsafe process.host[index] = UInt8(bitPattern: host[index]) }
        } else {
            var name = InlineArray<256, UInt8>(repeating: 0)
            _ = unsafe withUnsafeMutableBytes(of: &name) {
                unsafe gethostname($0.baseAddress!.assumingMemoryBound(to: CChar.self), 255)
            }
            for index in 0..<31 { unsafe process.host[index] = name[index] }
            if name[0] == 0 { unsafe process.host[0] = 45 }
        }
        if let group = unsafe group, unsafe group[0] != 0 {
            for index in unsafe 0..<Int(strlen(group)) { unsafe process.group[index] = UInt8(bitPattern: group[index]) }
        } else {
            let name: StaticString = "default"
            for index in 0..<7 { unsafe process.group[index] = name.utf8Start[index] }
        }
        return true
    }
}

private func isAtMost(_ limit: Int, _ name: UnsafePointer<CChar>?) -> Bool {
    guard let name = unsafe name else { return true }
    return unsafe Int(strlen(name)) <= limit
}
