import CSystem
import Synchronization

/// What a descriptor of this process is to us. Everything not listed passes to the system untouched.
enum Kind: UInt {
    case none = 0
    /// An end of a connection: `LocalState`.
    case endpoint = 1
    /// A TCP socket that may still become one: `StreamSocket`.
    case stream = 2
    /// A TCP listener with a hidden Unix listener: `StreamSocket`.
    case listener = 3
    /// An epoll set: `EpollSet`.
    case epoll = 4
    /// One of our own; programs that close everything must not close it.
    case hidden = 5
    /// A connection over TCP that came to a listener of ours: `CarriedSocket`.
    case carried = 6
    /// What has just been accepted, and is to be the program's in a moment; or becomes a connection just now.
    case arriving = 7
    /// A relay's stream that the program was started with. It becomes the end at its first use (`Inherited.swift`).
    case relayed = 8

    /// The low bits of an entry that hold it.
    static let bits: UInt = 15
}

/// Descriptor number to `pointer | kind`. nil until the process has its first TCP socket, so that a hook
/// in any other program costs one load and a branch.
nonisolated(unsafe) var descriptorTable: UnsafeMutablePointer<Atomic<UInt>>? = nil
let descriptorTableSize = 1 << 20
/// Behind the entries: how far up the program's own reach, how far down from the end the hidden ones, and how far up
/// these.
private let programMark = descriptorTableSize
private let hiddenMark = descriptorTableSize + 1
private let hiddenEndMark = descriptorTableSize + 2
private let marks = 3

@inline(__always) func entry(_ descriptor: Int32) -> UInt {
    guard let table = unsafe descriptorTable, UInt32(bitPattern: descriptor) < UInt32(descriptorTableSize) else {
        return 0
    }
    let word = unsafe table[Int(descriptor)].load(ordering: .acquiring)
    if word == 0 ? acceptWords.load32(AcceptWord.enters) == 0 : word != Kind.arriving.rawValue { return word }
    return settled(descriptor)
}

/// As `entry`, but at once, whatever is just arriving.
func listed(_ descriptor: Int32) -> UInt {
    guard let table = unsafe descriptorTable, UInt32(bitPattern: descriptor) < UInt32(descriptorTableSize) else {
        return 0
    }
    return unsafe table[Int(descriptor)].load(ordering: .acquiring)
}

/// One thread accepts at a time. Beside the lock's eight bytes: the thread that is just getting a number from the kernel,
/// how often one has, and a mark that this one isn't waited for any more.
private enum AcceptWord {
    static let lock = 16
    static let enters = 24
    static let entered = 28
    static let isGivenUp = 40
}

/// Where the locks of `takeUp` and `withNumbersLock` lie, in the same words.
let takeUpLock = 32
private let numbersLock = 48

/// Held while a number begins or ceases to stand for something that may have several: of threads that duplicate and
/// close numbers of one connection each sees what the others have done. Nothing waits under it, and no other lock but
/// those of sets (by a fork) is taken.
func withNumbersLock<Result>(_ body: () -> Result) -> Result {
    if sk_is_single_threaded() != 0 { return body() }
    let generation = lockNumbers()
    defer { unlockNumbers(generation) }
    return body()
}

func lockNumbers() -> UInt32 { Lock(acceptWords, numbersLock).acquire() }
func unlockNumbers(_ generation: UInt32) { Lock(acceptWords, numbersLock).release(generation) }

var acceptWords: SharedMemory {
    @inline(__always) get { unsafe SharedMemory(sk_process_lock()) }
}

/// Another thread is accepting a connection: its number, which only the kernel knows yet, may be this one. Or that has
/// the number, and looks at the connection; or it connects, by this number. What the program does with it waits for the
/// entry, as what is read now would be no byte of the stream, and what is written no bell.
@inline(never) private func settled(_ descriptor: Int32) -> UInt {
    guard let table = unsafe descriptorTable else { return 0 }
    let words = acceptWords
    let own = UInt32(truncatingIfNeeded: sk_thread_id())
    let entered = words.load32(AcceptWord.entered)
    let start = sk_now()
    while true {
        let enters = words.load32(AcceptWord.enters)
        let isOver = enters == 0 || words.load32(AcceptWord.entered) != entered
        let word = unsafe table[Int(descriptor)].load(ordering: .acquiring)
        if word != 0 && word != Kind.arriving.rawValue { return word }
        if word == 0 && (isOver || words.load32(AcceptWord.isGivenUp) != 0) { return 0 }
        // A signal handler that came in between waits for nothing.
        if words.load32(AcceptWord.lock) == own { return 0 }
        let waited = sk_now() &- start
        if waited > (word == 0 ? patience.anyNumber : patience.itsNumber) { return giveUp(word, descriptor) }
        if waited < 20_000 { sk_pause() } else { sk_yield() }
    }
}

/// For as long as who was interrupted may have to wait for a processor, in nanoseconds: what is done with any number
/// that nothing is known of, and with the very number.
private let patience: (anyNumber: UInt64, itsNumber: UInt64) = (10_000_000, 100_000_000)

/// It was stopped, or is in a signal handler of its own.
private func giveUp(_ word: UInt, _ descriptor: Int32) -> UInt {
    if word == 0 { acceptWords.store32(AcceptWord.isGivenUp, 1) } else { clearArrival(descriptor) }
    return 0
}

/// What was to arrive there has gone, and the number may have become somebody's.
func clearArrival(_ descriptor: Int32) {
    guard let table = unsafe descriptorTable, UInt32(bitPattern: descriptor) < UInt32(descriptorTableSize) else {
        return
    }
    _ = unsafe table[Int(descriptor)].compareExchange(
        expected: Kind.arriving.rawValue, desired: 0, ordering: .releasing)
}

/// Runs `accept`, which returns a new descriptor, and then `look` at that; other threads leave the number alone until it
/// has another entry.
func arrive(_ accept: () -> Int, look: (Int32) -> Void) -> Int {
    if sk_is_single_threaded() != 0 {
        let descriptor = accept()
        if descriptor >= 0 { look(Int32(descriptor)) }
        return descriptor
    }
    let words = acceptWords
    let lock = Lock(words, AcceptWord.lock)
    let generation = lock.acquire()
    words.store32(AcceptWord.isGivenUp, 0)
    words.store32(AcceptWord.enters, UInt32(truncatingIfNeeded: sk_thread_id()))
    fullFence()
    let descriptor = accept()
    if descriptor >= 0 { setEntry(Int32(descriptor), nil, .arriving) }
    words.add32(AcceptWord.entered, 1)
    words.release32(AcceptWord.enters, 0)
    if descriptor >= 0 { look(Int32(descriptor)) }
    lock.release(generation)
    return descriptor
}

/// For a thread that leaves its accept by longjmp.
func abandonArrival() {
    let words = acceptWords
    let own = UInt32(truncatingIfNeeded: sk_thread_id())
    if words.compareExchange32(AcceptWord.enters, own, 0) { words.add32(AcceptWord.entered, 1) }
}

/// For a forked child: whoever was accepting is its parent's, and so is who was taking up an end.
func forgetArrivals() {
    acceptWords.store32(AcceptWord.enters, 0)
    acceptWords.release64(AcceptWord.lock, 0)
    acceptWords.release64(takeUpLock, 0)
    acceptWords.release64(numbersLock, 0)
    guard let table = unsafe descriptorTable else { return }
    for number in 0..<programEnd where unsafe table[number].load(ordering: .relaxed) == Kind.arriving.rawValue {
        clearEntry(Int32(number))
    }
}

@inline(__always) func kind(_ entry: UInt) -> Kind { Kind(rawValue: entry & Kind.bits) ?? .none }

/// As `entry`, for a call that uses what the number stands for.
@inline(__always) func used(_ descriptor: Int32) -> UInt {
    let word = entry(descriptor)
    return word == Kind.relayed.rawValue ? takeUp(descriptor) : word
}

@inline(__always) func endpoint(_ descriptor: Int32) -> Endpoint? { endpoint(of: used(descriptor)) }

/// As `endpoint`, for a question that a relay's stream can answer too.
func knownEndpoint(_ descriptor: Int32) -> Endpoint? { endpoint(of: entry(descriptor)) }

@inline(__always) private func endpoint(of word: UInt) -> Endpoint? {
    guard word & Kind.bits == Kind.endpoint.rawValue else { return nil }
    return unsafe Endpoint(UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!)
}

@inline(__always) func streamSocket(_ descriptor: Int32) -> UnsafeMutablePointer<StreamSocket>? {
    unsafe streamSocket(of: entry(descriptor))
}

@inline(__always) private func streamSocket(of word: UInt) -> UnsafeMutablePointer<StreamSocket>? {
    guard word & Kind.bits == Kind.stream.rawValue || word & Kind.bits == Kind.listener.rawValue else { return nil }
    return unsafe UnsafeMutablePointer(bitPattern: word & ~Kind.bits)
}

/// As the two above, but at once, whatever is just arriving: for loops over all numbers. Who is at one may hold the
/// process lock, which what arrives wants.
func listedEndpoint(_ number: Int) -> Endpoint? { endpoint(of: listed(Int32(number))) }

func listedSocket(_ number: Int) -> UnsafeMutablePointer<StreamSocket>? {
    unsafe streamSocket(of: listed(Int32(number)))
}

/// A listener that accepts from memory.
@inline(__always) func listeningSocket(_ descriptor: Int32) -> UnsafeMutablePointer<StreamSocket>? {
    guard let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.hidden >= 0 else { return nil }
    return unsafe socket
}

@inline(__always) func epollSet(_ descriptor: Int32) -> UnsafeMutablePointer<EpollSet>? {
    let word = entry(descriptor)
    guard word & Kind.bits == Kind.epoll.rawValue else { return nil }
    return unsafe UnsafeMutablePointer(bitPattern: word & ~Kind.bits)
}

func setEntry(_ descriptor: Int32, _ pointer: UnsafeRawPointer?, _ kind: Kind) {
    guard descriptor >= 0, Int(descriptor) < descriptorTableSize, sk_borrows_memory() == 0 else { return }
    if unsafe descriptorTable == nil {
        guard let memory = unsafe allocate((descriptorTableSize + marks) * 8) else { return }
        unsafe descriptorTable = unsafe memory.bindMemory(to: Atomic<UInt>.self, capacity: descriptorTableSize + marks)
    }
    if kind == .hidden {
        unsafe raise(descriptorTable![hiddenMark], to: UInt(descriptorTableSize) - UInt(descriptor))
        unsafe raise(descriptorTable![hiddenEndMark], to: UInt(descriptor) + 1)
    } else {
        unsafe raise(descriptorTable![programMark], to: UInt(descriptor) + 1)
    }
    unsafe descriptorTable![Int(descriptor)].store(UInt(bitPattern: pointer) | kind.rawValue, ordering: .releasing)
}

private func raise(_ mark: borrowing Atomic<UInt>, to value: UInt) {
    if mark.load(ordering: .relaxed) < value { mark.max(value, ordering: .relaxed) }
}

/// Every entry that isn't hidden lies below this number.
var programEnd: Int {
    guard let table = unsafe descriptorTable else { return 0 }
    return unsafe Int(table[programMark].load(ordering: .relaxed))
}

/// Every hidden entry lies in here.
var hiddenNumbers: Range<Int> {
    guard let table = unsafe descriptorTable else { return descriptorTableSize..<descriptorTableSize }
    let start = unsafe descriptorTableSize - Int(table[hiddenMark].load(ordering: .relaxed))
    return unsafe start..<max(Int(table[hiddenEndMark].load(ordering: .relaxed)), start)
}

func clearEntry(_ descriptor: Int32) {
    if let table = unsafe descriptorTable, descriptor >= 0, Int(descriptor) < descriptorTableSize {
        unsafe table[Int(descriptor)].store(0, ordering: .releasing)
    }
}

/// A TCP socket of the program that is not on shared memory: what must be known when it is connected
/// or begins to listen.
struct StreamSocket {
    var family: Int32
    /// Descriptors of this process that are this socket.
    var descriptors: Int32 = 1
    /// It was inherited by or shared with another process, or passed; then it stays TCP.
    var shared = false
    var bound = false
    /// The program wants signals for it: it has an owner, or O_ASYNC.
    var signals = false
    var receiveTimeout: UInt64 = 0
    var sendTimeout: UInt64 = 0
    /// Bit per `Option` that the program has set, and the values.
    var optionsSet: UInt32 = 0
    var options = InlineArray<14, Int32>(repeating: 0)
    var otherOptions = OtherOptions()
    var reason = Reason.none
    /// A listener: the hidden Unix listener.
    var hidden: Int32 = -1
    /// The hidden one that it had before it was left to TCP, shut. As long as its name is taken, no other holder can accept
    /// from memory anew: clients would wait for that one alone.
    var formerHidden: Int32 = -1
    var bound4or6 = Address()
    /// The thread whose wait has reported the listener readable for its hidden one alone; 0 for none.
    var promised: Int32 = 0
    /// The hidden one was shut, by a process that passed the listener on to a program without us.
    var hiddenIsShut = false
    /// Why it was.
    var leavesFor = Reason.handedOn
    /// Whether the hidden queue is asked first.
    var turn = true
    /// Connections accepted from one queue without a look at the other.
    var streak: UInt8 = 0
    var record: SharedMemory?
    /// What the record says, where there is one.
    var description = SocketTable.Description(state: SocketTable.State.unconnected, descriptor: -1)
    /// An STP socket (the library's): the descriptor is the Unix socket that becomes the connection or
    /// the listener, and `hidden` of a listener is a copy of it.
    var isSTP = false
    var stp = STPSettings()
}

/// What an STP socket has been told before it is connected.
struct STPSettings {
    /// 0 while it has none; kept by a hidden TCP socket that is bound to it.
    var port: UInt16 = 0
    var portHolder: Int32 = -1
    var isNamed = false
    var closeLimit: UInt32 = 2000
    var giftLimit: UInt32 = 60_000
    /// Bits of `EndSetting`.
    var settings: UInt32 = 0
}

nonisolated(unsafe) private var streamSockets = Cells<StreamSocket>()

func makeStreamSocket(family: Int32) -> UnsafeMutablePointer<StreamSocket>? {
    unsafe withProcessLock { unsafe streamSockets.take(StreamSocket(family: family)) }
}

func giveBack(_ socket: UnsafeMutablePointer<StreamSocket>) {
    withProcessLock { unsafe streamSockets.give(socket) }
}

/// Sets errno from a kernel-style result.
@inline(__always) func finish(_ result: Int) -> Int {
    if result >= 0 { return result }
    sk_set_errno(Int32(truncatingIfNeeded: -result))
    return -1
}

/// Every end of this process once.
func eachEnd(_ body: (Endpoint) -> Void) {
    guard let table = unsafe descriptorTable else { return }
    for number in 0..<programEnd {
        let word = unsafe table[number].load(ordering: .relaxed)
        guard word & Kind.bits == Kind.endpoint.rawValue else { continue }
        var seen = false
        let local = unsafe UnsafeMutablePointer<LocalState>(bitPattern: word & ~Kind.bits)!
        if unsafe local.pointee.descriptors > 1 {
            for earlier in 0..<number where unsafe table[earlier].load(ordering: .relaxed) == word { seen = true }
        }
        if !seen { unsafe body(Endpoint(local)) }
    }
}
