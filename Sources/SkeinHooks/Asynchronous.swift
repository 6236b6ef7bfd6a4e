import CSystem

// POSIX aio: the C library's own threads read and write by calls that no preload sees, and would wait for
// ever on a connection, or reset it. Such a request is refused before anything is begun.

private typealias Begin = @convention(c) (UnsafeMutableRawPointer?) -> Int32
private typealias BeginList =
    @convention(c) (Int32, UnsafePointer<UnsafeMutableRawPointer?>?, Int32, UnsafeMutableRawPointer?) -> Int32

private func isOnConnection(_ request: UnsafeMutableRawPointer?) -> Bool {
    guard let request = unsafe request else { return false }
    // struct aiocb begins with its descriptor.
    return unsafe endpoint(request.load(as: Int32.self)) != nil
}

private func begin(_ name: UnsafePointer<CChar>, _ request: UnsafeMutableRawPointer?) -> Int32 {
    if unsafe isOnConnection(request) { return Int32(finish(-Int(ENOSYS))) }
    return unsafe unsafeBitCast(sk_next_symbol(name), to: Begin.self)(request)
}

private func beginList(
    _ name: UnsafePointer<CChar>, _ mode: Int32, _ list: UnsafePointer<UnsafeMutableRawPointer?>?, _ count: Int32,
    _ event: UnsafeMutableRawPointer?
) -> Int32 {
    if let list = unsafe list {
        for index in 0..<max(Int(count), 0) where unsafe isOnConnection(list[index]) {
            return Int32(finish(-Int(ENOSYS)))
        }
    }
    return unsafe unsafeBitCast(sk_next_symbol(name), to: BeginList.self)(mode, list, count, event)
}

@c(aio_read) public func hookAsynchronousRead(_ request: UnsafeMutableRawPointer?) -> Int32 {
    unsafe begin("aio_read", request)
}

@c(aio_read64) public func hookAsynchronousRead64(_ request: UnsafeMutableRawPointer?) -> Int32 {
    unsafe begin("aio_read64", request)
}

@c(aio_write) public func hookAsynchronousWrite(_ request: UnsafeMutableRawPointer?) -> Int32 {
    unsafe begin("aio_write", request)
}

@c(aio_write64) public func hookAsynchronousWrite64(_ request: UnsafeMutableRawPointer?) -> Int32 {
    unsafe begin("aio_write64", request)
}

@c(lio_listio) public func hookAsynchronousList(
    _ mode: Int32, _ list: UnsafePointer<UnsafeMutableRawPointer?>?, _ count: Int32,
    _ event: UnsafeMutableRawPointer?
) -> Int32 { unsafe beginList("lio_listio", mode, list, count, event) }

@c(lio_listio64) public func hookAsynchronousList64(
    _ mode: Int32, _ list: UnsafePointer<UnsafeMutableRawPointer?>?, _ count: Int32,
    _ event: UnsafeMutableRawPointer?
) -> Int32 { unsafe beginList("lio_listio64", mode, list, count, event) }
