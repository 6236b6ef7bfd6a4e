import CSystem

// Set-up of the library in a program: reads the environment, finds the runtime folder and the system's
// functions. Writes nothing to descriptors 0 to 2: those may be a connection.

@section(".init_array") @used
let initialise: @convention(c) () -> Void = { setUp() }

nonisolated(unsafe) private var isSetUp = false

func setUp() {
    if unsafe isSetUp { return }
    unsafe isSetUp = true
    unsafe realFunctions.find()
    watchForks()
    guard sk_is_secure() == 0 else { return }
    readRules()
    if unsafe rules.offOrigin != nil {
        // Hidden listeners are shut then: nobody would accept from them.
        if isTranslating() { adoptHeirs() }
        return
    }
    identifyProcess()
    unsafe process.noteConnecting = { if $1 { setEntry($0, nil, .arriving) } else { clearArrival($0) } }
    unsafe process.noteHidden = { if $1 { setEntry($0, nil, .hidden) } else { clearEntry($0) } }
    unsafe process.spinPolicy = rules.spin.policy
    findRuntimeFolder()
    unsafe rules.enabled = isTranslating()
    guard unsafe rules.enabled else { return }
    adoptHeirs()
    adoptStreams()
}

/// A program that links libskein.so and runs under the translating header has these hooks twice. Then
/// the library's, which know its STP sockets, translate too, and the header's pass everything on to them.
private func isTranslating() -> Bool {
    if translates { return unsafe sk_next_symbol("STPsocket") == nil }
    guard let list = unsafe sk_environment("LD_PRELOAD") else { return false }
    return unsafe strstr(list, "libskein-preload") != nil
}

/// A line in SKEIN_LOG for a connection that goes over TCP although both ends may be under Skein.
func logFallBack(_ descriptor: Int32, _ reason: Reason) {
    if reason != .none { log(descriptor, " goes over TCP: ", reason) }
}

/// The same for one that can't be made in any way.
func logFailure(_ descriptor: Int32, _ reason: Reason) { log(descriptor, " can't be connected: ", reason) }

private func log(_ descriptor: Int32, _ outcome: StaticString, _ reason: Reason) {
    var line = Text("skein: descriptor ")
    line.append(decimal: UInt64(descriptor))
    line.append(outcome)
    line.append(reason.text)
    line.append("\n")
    writeToLog(line)
}

/// Appends to the file that SKEIN_LOG names, if it names one.
func writeToLog<let size: Int>(_ line: FixedText<size>) {
    guard let path = unsafe sk_environment("SKEIN_LOG") else { return }
    let file = unsafe sk_openat(-100, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else { return }
    _ = unsafe line.withCString { unsafe sk_write(Int32(file), $0, line.count) }
    _ = sk_close(Int32(file))
}
