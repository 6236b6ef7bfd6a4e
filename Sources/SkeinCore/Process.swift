import CSystem

/// The little that one process keeps for all its connections. Set up once, before the first use;
/// guarded by `withProcessLock` wherever more than one thread may change it.
package struct ProcessState {
    package var processIdentifier: Int32 = 0
    /// Forks between this process and the one that set up: what an ancestor made bears a lower number. Process
    /// numbers don't tell that, since namespaces begin them anew.
    package var descent: UInt32 = 0
    package var effectiveUser: UInt32 = 0
    /// The name that the kernel shows, for control blocks.
    package var programName: (UInt64, UInt64) = (0, 0)
    package var processors = 1
    package var spinPolicy = Spin.Policy.adaptive
    package var pools = PoolSet()
    package var blocks = BlockArenas()
    package var table = SocketTable()
    /// This process gives connections away, and keeps every descriptor of their memory for it.
    package var keepsMemory = false
    /// The names of this host and of its group, as STP addresses show them; NUL-terminated.
    package var group = InlineArray<16, UInt8>(repeating: 0)
    package var host = InlineArray<32, UInt8>(repeating: 0)
    /// The runtime folder: what makes two processes one host. Or the errno that kept it from use.
    package var folderDevice: UInt64 = 0
    package var folderInode: UInt64 = 0
    package var folderOwner: UInt32 = 0
    package var folderError: Int32 = ENOENT
    package var folderPath = Text()
    /// The program has begun to take system calls from itself: none that it can't expect.
    package var isConfined = false
    /// Its filter lets through what making connections takes.
    package var maySetUp = true
    /// It lets through what handing an end to a relay takes, what starting one takes, and what asking one takes.
    package var mayRelay = true
    package var mayStartRelay = true
    package var mayAskRelays = true
    /// How many descriptors the process may have, where its filter keeps it from asking and from changing it.
    package var fixedDescriptorLimit: Int? = nil
    /// When the kernel was last asked about descriptors that looked idle, in nanoseconds.
    package var lastKernelLook: UInt64 = 0
    package var spares = Spares()
    /// Told of each descriptor that the core keeps for itself, and of its end, so that the hooks can keep
    /// a program that closes everything away from it.
    package var noteHidden: (@convention(c) (Int32, Bool) -> Void)? = nil
    /// The same of a Unix socket that is a client's for as long as it connects, on a number of the program's own.
    package var noteConnecting: (@convention(c) (Int32, Bool) -> Void)? = nil
    package init() {}
}

nonisolated(unsafe) package var process = ProcessState()

private func processLock() -> Lock { unsafe Lock(SharedMemory(sk_process_lock()), 0) }

package func withProcessLock<Result>(_ body: () -> Result) -> Result {
    let lock = processLock()
    let generation = lock.acquire()
    let result = body()
    lock.release(generation)
    return result
}

/// For fork alone: the child finds everything consistent, since its parent held the lock.
package func lockProcess() -> UInt32 { processLock().acquire() }
package func unlockProcess(_ generation: UInt32) { processLock().release(generation) }
package func resetProcessLock() {
    let lock = processLock()
    lock.memory.release64(0, 0)
}

/// Reads who and where this process is. Again after fork.
package func identifyProcess() {
    sk_forget_thread_id()
    Lock.forgetHeld()
    unsafe process.descent &+= 1
    unsafe process.processIdentifier = sk_getpid()
    unsafe process.effectiveUser = sk_geteuid()
    _ = unsafe withUnsafeMutableBytes(of: &process.programName) { unsafe sk_get_name($0.baseAddress!) }
    unsafe process.processors = Int(sk_allowed_cpus())
}

/// The size past which the growth of a file is a signal.
package func fileSizeLimit() -> UInt64 {
    var limits: (UInt64, UInt64) = (UInt64.max, 0)
    _ = unsafe withUnsafeMutableBytes(of: &limits) {
        unsafe sk_prlimit_file_size($0.baseAddress!.assumingMemoryBound(to: UInt64.self))
    }
    return limits.0
}

/// When this process started, in the kernel's ticks since its boot: tells it from others of its number.
/// 0 where /proc can't be read.
package func ownStartTime() -> UInt64 {
    let file = unsafe sk_openat(-100, "/proc/self/stat", O_RDONLY | O_CLOEXEC, 0)
    guard file >= 0 else { return 0 }
    defer { _ = sk_close(Int32(file)) }
    var text = InlineArray<512, UInt8>(repeating: 0)
    let count = unsafe withUnsafeMutableBytes(of: &text) { unsafe sk_read(Int32(file), $0.baseAddress!, 512) }
    // The name is in brackets and may hold anything; the twentieth word behind it is the time.
    var index = count - 1
    while index > 0 && text[index] != 41 { index -= 1 }
    var words = 0
    var value: UInt64 = 0
    while index > 0 && index < count && words <= 20 {
        if text[index] == 32 { words += 1 }
        if words == 20 && text[index] != 32 { value = value &* 10 &+ UInt64(text[index] &- 48) }
        index += 1
    }
    return value
}

/// Allocates zeroed memory of the process that is never given back to the system: racing threads may
/// still look at an end that another thread has closed.
package func allocate(_ bytes: Int) -> UnsafeMutableRawPointer? {
    unsafe map(size: bytes, shared: false)
}

/// With fewer descriptors a program may count on every one of its numbers.
package let tightLimit = 64
private let highestHidden = 4096

/// Moves a descriptor above the numbers that the program uses, close-on-exec. Returns the new number or minus the errno.
package func hide(_ descriptor: Int32) -> Int32 {
    let moved = hiddenCopy(of: descriptor)
    _ = sk_close(descriptor)
    return moved
}

/// How many descriptors the process may have. The customary number where the kernel doesn't say.
package func descriptorLimit() -> Int {
    if let fixed = unsafe process.fixedDescriptorLimit { return fixed }
    var limits: (UInt64, UInt64) = (1024, 0)
    _ = unsafe withUnsafeMutableBytes(of: &limits) {
        unsafe sk_prlimit_files($0.baseAddress!.assumingMemoryBound(to: UInt64.self))
    }
    return Int(min(limits.0, 1 << 20))
}

/// Closes what is open in a range of numbers, also where the system has no close_range.
package func closeNumbers(_ range: ClosedRange<Int>) {
    if sk_close_range(UInt32(range.lowerBound), UInt32(range.upperBound), 0) >= 0 { return }
    let folder = unsafe sk_openat(-100, "/proc/self/fd", O_RDONLY | O_CLOEXEC, 0)
    guard folder >= 0 else {
        for number in range.clamped(to: 0...1 << 20) { _ = sk_close(Int32(number)) }
        return
    }
    var entries = InlineArray<512, UInt64>(repeating: 0)
    unsafe withUnsafeMutableBytes(of: &entries) { bytes in
        while true {
            let size = unsafe sk_getdents(Int32(folder), bytes.baseAddress!, bytes.count)
            if size <= 0 { break }
            var place = 0
            while place + 19 < size {
                // struct linux_dirent64: its length at 16, its name at 19. "." and ".." are no numbers.
                if let number = unsafe decimal(bytes.baseAddress! + place + 19), range.contains(number),
                    number != folder
                {
                    _ = sk_close(Int32(number))
                }
                place += unsafe Int(bytes.loadUnaligned(fromByteOffset: place + 16, as: UInt16.self))
            }
        }
    }
    _ = sk_close(Int32(folder))
}

private func decimal(_ text: UnsafeRawPointer) -> Int? {
    var value: Int? = nil
    var place = 0
    while case let digit = unsafe text.load(fromByteOffset: place, as: UInt8.self), 48...57 ~= digit, place < 10 {
        value = (value ?? 0) * 10 + Int(digit - 48)
        place += 1
    }
    return value
}

/// EMFILE also where the program's limit is a tight one.
package func hiddenCopy(of descriptor: Int32) -> Int32 {
    // The kernel's table reaches up to the highest number, and each fork copies it: a megabyte for every 131,072.
    let soft = min(descriptorLimit(), highestHidden)
    guard soft >= tightLimit else { return -Int32(EMFILE) }
    var base = soft > 512 ? soft - 192 : soft - soft / 4
    while base > 2 {
        let result = sk_fcntl(descriptor, F_DUPFD_CLOEXEC, base)
        if result >= 0 { return Int32(result) }
        base /= 2
    }
    return -Int32(EMFILE)
}
