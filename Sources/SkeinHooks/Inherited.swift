import CSystem

// Connections that a program is started with. Each of them is a relay's stream (`Relay.swift`), which any program can use.
// SKEIN_STREAMS in its environment lists their numbers, and a program under Skein takes the end itself in the stream's
// place: from then on it shares it in memory with who started it, and their bytes have one order. Its standard streams it
// takes with the first call that uses one, so that it keeps those that it uses past the hooks alone. The others it takes at
// its start, since it has them by accident as a rule, and as long as a relay has them their use costs whoever started it.

private let variable: StaticString = "SKEIN_STREAMS="

/// Each takes a third of a millisecond. A program that has more of them takes the others when it uses them.
private let takenAtStart = 16

/// The numbers under which a new program may have streams of a relay. It looks at each, so one too many does no harm, and
/// one too few leaves a stream.
struct StreamList {
    private(set) var text = Text(variable)
    private(set) var isEmpty = true

    mutating func add(_ number: Int32) {
        guard number >= 0, !text.isCut else { return }
        var longer = text
        longer.append(decimal: UInt64(number))
        longer.append(",")
        if longer.isCut { return }
        text = longer
        isEmpty = false
    }

    /// Those of the new program's numbers that are of this kind here.
    mutating func add(_ inheritance: Inheritance, _ wanted: Kind) {
        inheritance.forEach(wanted) { number, _ in add(number) }
    }

    /// Streams that this program has got so itself, and hands on as they are.
    mutating func addUnused(_ inheritance: Inheritance) { add(inheritance, .relayed) }
}

/// At the start of a program.
func adoptStreams() {
    guard var place = unsafe sk_environment("SKEIN_STREAMS") else { return }
    var number: Int32 = 0
    while case let byte = unsafe UInt8(bitPattern: place.pointee), byte != 0, number < 1 << 24 {
        unsafe place += 1
        if 48...57 ~= byte {
            number = number * 10 + Int32(byte) - 48
            continue
        }
        if relayAddresses(number) != nil {
            setEntry(number, nil, .relayed)
            // What is printed on it goes by inner calls of the C library otherwise.
            adoptStandardStream(number)
        }
        number = 0
    }
    unsafe sk_environment_remove("SKEIN_STREAMS")
    var left = takenAtStart
    for number in 3..<max(Int32(programEnd), 3) where left > 0 && entry(number) == Kind.relayed.rawValue {
        _ = takeUp(number)
        left -= 1
    }
}

/// The end takes the stream's place, under all its numbers. Returns the entry from then on;
/// where the relay refuses, the stream is an ordinary socket.
@inline(never) func takeUp(_ descriptor: Int32) -> UInt {
    let savedErrno = sk_errno()
    defer { sk_set_errno(savedErrno) }
    let lock = Lock(acceptWords, takeUpLock)
    let generation = lock.acquire()
    defer { lock.release(generation) }
    // Another thread may have been first.
    guard entry(descriptor) == Kind.relayed.rawValue else { return entry(descriptor) }
    let stream = cookie(of: descriptor)
    guard unsafe rules.enabled && !process.isConfined, takeEnd(descriptor) else {
        clearEntry(descriptor)
        return 0
    }
    for number in 0..<Int32(programEnd) where entry(number) == Kind.relayed.rawValue && cookie(of: number) == stream {
        let closeOnExec = sk_fcntl(number, F_GETFD, 0) & 1
        if sk_dup3(descriptor, number, closeOnExec != 0 ? Flag.closeOnExec : 0) >= 0 { duplicated(descriptor, number) }
    }
    return entry(descriptor)
}
