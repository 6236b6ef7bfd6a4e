import CSystem

// stdio on a connection: the C library reads and writes beneath its FILE by calls of its own that no
// preload sees, so such a FILE is made over our calls instead.

/// The descriptor beneath a FILE of ours.
@safe
private struct FileLink {
    var file: OpaquePointer
    var descriptor: Int32
    var next: UnsafeMutablePointer<FileLink>?
}

nonisolated(unsafe) private var files = Cells<FileLink>()
nonisolated(unsafe) private var firstFile: UnsafeMutablePointer<FileLink>? = nil

@c(fdopen) public func hookFdopen(_ descriptor: Int32, _ mode: UnsafePointer<CChar>?) -> OpaquePointer? {
    guard endpoint(descriptor) != nil, let mode = unsafe mode else {
        typealias Call = @convention(c) (Int32, UnsafePointer<CChar>?) -> OpaquePointer?
        return unsafe unsafeBitCast(sk_next_symbol("fdopen"), to: Call.self)(descriptor, mode)
    }
    let cookie = unsafe UnsafeMutableRawPointer(bitPattern: Int(descriptor) + 1)
    let made = unsafe sk_open_cookie(
        cookie, mode,
        { unsafe Int(hookRead(Int32(Int(bitPattern: $0) - 1), UnsafeMutableRawPointer($1), Int($2))) },
        {
            unsafe Int(
                max(hookWrite(Int32(Int(bitPattern: $0) - 1), UnsafeMutableRawPointer(mutating: $1), Int($2)), 0))
        },
        {
            forgetFile(Int32(Int(bitPattern: $0) - 1))
            return hookClose(Int32(Int(bitPattern: $0) - 1))
        })
    guard let made = unsafe made else { return nil }
    let file = OpaquePointer(made)
    withProcessLock {
        if let link = unsafe files.take(FileLink(file: file, descriptor: descriptor, next: firstFile)) {
            unsafe firstFile = unsafe link
        }
    }
    return unsafe file
}

private func forgetFile(_ descriptor: Int32) {
    withProcessLock {
        var place = unsafe firstFile
        var before: UnsafeMutablePointer<FileLink>? = nil
        while let link = unsafe place {
            if unsafe link.pointee.descriptor == descriptor {
                if let before = unsafe before {
                    unsafe before.pointee.next = unsafe link.pointee.next
                } else {
                    unsafe firstFile = unsafe link.pointee.next
                }
                unsafe files.give(link)
                return
            }
            unsafe before = unsafe link
            unsafe place = unsafe link.pointee.next
        }
    }
}

@c(fileno) public func hookFileno(_ file: OpaquePointer?) -> Int32 {
    var place = unsafe firstFile
    while let link = unsafe place {
        if unsafe link.pointee.file == file { return unsafe link.pointee.descriptor }
        unsafe place = unsafe link.pointee.next
    }
    typealias Call = @convention(c) (OpaquePointer?) -> Int32
    return unsafe unsafeBitCast(sk_next_symbol("fileno"), to: Call.self)(file)
}
