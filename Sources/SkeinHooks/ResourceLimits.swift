import CSystem

// A program that takes descriptors or processes from itself (setrlimit), as privilege-separated servers do on their way
// behind a filter. What its connections need then can't be made any more, so it is made before.

private typealias SetLimit = @convention(c) (Int32, UnsafePointer<UInt64>?) -> Int32
private typealias SetProcessLimit =
    @convention(c) (Int32, Int32, UnsafePointer<UInt64>?, UnsafeMutablePointer<UInt64>?) -> Int32

/// Before the kernel gets the limit, of which `limit` has the soft and the hard value.
private func prepare(for resource: Int32, _ limit: UnsafePointer<UInt64>?) {
    guard let soft = unsafe limit?.pointee, unsafe descriptorTable != nil && !process.isConfined else { return }
    switch resource {
    case 6 /* RLIMIT_NPROC */: if soft == 0 && hasConnections() { reserveRelay() }
    // Below this the header uses no numbers of its own.
    case 7 /* RLIMIT_NOFILE */: if soft < tightLimit { withdrawIdleConnections() }
    default: break
    }
}

@c(setrlimit) public func hookSetLimit(_ resource: Int32, _ limit: UnsafePointer<UInt64>?) -> Int32 {
    unsafe prepare(for: resource, limit)
    return unsafe unsafeBitCast(sk_next_symbol("setrlimit"), to: SetLimit.self)(resource, limit)
}

@c(setrlimit64) public func hookSetLimit64(_ resource: Int32, _ limit: UnsafePointer<UInt64>?) -> Int32 {
    unsafe hookSetLimit(resource, limit)
}

@c(prlimit) public func hookProcessLimit(
    _ target: Int32, _ resource: Int32, _ limit: UnsafePointer<UInt64>?, _ old: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    if unsafe target == 0 || target == process.processIdentifier { unsafe prepare(for: resource, limit) }
    return unsafe unsafeBitCast(sk_next_symbol("prlimit"), to: SetProcessLimit.self)(target, resource, limit, old)
}

@c(prlimit64) public func hookProcessLimit64(
    _ target: Int32, _ resource: Int32, _ limit: UnsafePointer<UInt64>?, _ old: UnsafeMutablePointer<UInt64>?
) -> Int32 { unsafe hookProcessLimit(target, resource, limit, old) }
