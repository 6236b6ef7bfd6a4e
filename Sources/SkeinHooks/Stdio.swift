import CSystem

// stdio on a connection: the C library reads and writes beneath its FILE by calls of its own that no
// preload sees, so such a FILE is made over our calls instead.

/// The descriptor beneath a FILE of ours; the FILE's cookie.
@safe
private struct FileLink {
    var file: OpaquePointer?
    var descriptor: Int32
    var next: UnsafeMutablePointer<FileLink>?
}

nonisolated(unsafe) private var files = Cells<FileLink>()
nonisolated(unsafe) private var firstFile: UnsafeMutablePointer<FileLink>? = nil

private typealias Open = @convention(c) (Int32, UnsafePointer<CChar>?) -> OpaquePointer?
private typealias Number = @convention(c) (OpaquePointer?) -> Int32

@c(fdopen) public func hookFdopen(_ descriptor: Int32, _ mode: UnsafePointer<CChar>?) -> OpaquePointer? {
    guard endpoint(descriptor) != nil, let mode = unsafe mode else {
        return unsafe unsafeBitCast(sk_next_symbol("fdopen"), to: Open.self)(descriptor, mode)
    }
    return unsafe openFile(descriptor, mode)
}

@c(_IO_fdopen) public func hookFdopenAlias(_ descriptor: Int32, _ mode: UnsafePointer<CChar>?) -> OpaquePointer? {
    unsafe hookFdopen(descriptor, mode)
}

/// A FILE over our calls, which serve a descriptor of any kind.
private func openFile(_ descriptor: Int32, _ mode: UnsafePointer<CChar>) -> OpaquePointer? {
    let made = unsafe withProcessLock {
        unsafe files.take(FileLink(file: nil, descriptor: descriptor, next: nil))
    }
    guard let link = unsafe made else {
        sk_set_errno(ENOMEM)
        return nil
    }
    let file = unsafe sk_open_cookie(
        UnsafeMutableRawPointer(link), mode, { unsafe Int(hookRead(number(of: $0), $1, Int($2))) },
        { unsafe writeAll(number(of: $0), $1!, Int($2)) }, { unsafe seek(number(of: $0), $1!, $2) },
        { hookClose(unsafe forgetFile($0)) })
    withProcessLock {
        guard let file = unsafe file else { return unsafe files.give(link) }
        unsafe link.pointee.file = OpaquePointer(file)
        unsafe link.pointee.next = unsafe firstFile
        unsafe firstFile = unsafe link
    }
    return unsafe file.map { OpaquePointer($0) }
}

private func number(of cookie: UnsafeMutableRawPointer?) -> Int32 {
    unsafe cookie!.assumingMemoryBound(to: FileLink.self).pointee.descriptor
}

/// How many bytes went before an error; stdio takes fewer than all for one.
private func writeAll(_ descriptor: Int32, _ bytes: UnsafePointer<CChar>, _ count: Int) -> Int {
    var done = 0
    while done < count {
        let written = unsafe hookWrite(
            descriptor, UnsafeMutableRawPointer(mutating: bytes.advanced(by: done)), count - done)
        if written <= 0 { break }
        done += written
    }
    return done
}

private func seek(_ descriptor: Int32, _ offset: UnsafeMutablePointer<Int>, _ whence: Int32) -> Int32 {
    let position = unsafe finish(sk_lseek(descriptor, offset.pointee, whence))
    if position < 0 { return -1 }
    unsafe offset.pointee = position
    return 0
}

/// The FILE is closed: returns its descriptor, which goes with it.
private func forgetFile(_ cookie: UnsafeMutableRawPointer?) -> Int32 {
    let closed = unsafe cookie!.assumingMemoryBound(to: FileLink.self)
    let descriptor = unsafe closed.pointee.descriptor
    withProcessLock {
        var before: UnsafeMutablePointer<FileLink>? = nil
        var place = unsafe firstFile
        while let link = unsafe place, unsafe link != closed {
            unsafe before = unsafe link
            unsafe place = unsafe link.pointee.next
        }
        if let before = unsafe before {
            unsafe before.pointee.next = unsafe closed.pointee.next
        } else {
            unsafe firstFile = unsafe closed.pointee.next
        }
        unsafe files.give(closed)
    }
    return descriptor
}

/// The descriptor beneath a FILE of ours; nil for the C library's own.
private func descriptor(beneath file: OpaquePointer?) -> Int32? {
    var place = unsafe firstFile
    while let link = unsafe place {
        if unsafe link.pointee.file == file { return unsafe link.pointee.descriptor }
        unsafe place = unsafe link.pointee.next
    }
    return nil
}

@c(fileno) public func hookFileno(_ file: OpaquePointer?) -> Int32 {
    if let known = unsafe descriptor(beneath: file) { return known }
    return unsafe unsafeBitCast(sk_next_symbol("fileno"), to: Number.self)(file)
}

@c(fileno_unlocked) public func hookFilenoUnlocked(_ file: OpaquePointer?) -> Int32 { unsafe hookFileno(file) }

// MARK: stdin, stdout, stderr

/// A connection stands on 0, 1 or 2 now, as shells and servers put it there: the stream of that number becomes a
/// FILE of ours, with what the program has written into the old one. It stays when the number means something else
/// again, since our calls serve everything.
func adoptStandardStream(_ number: Int32) {
    guard 0...2 ~= number, let stream = unsafe sk_standard_stream(number),
        unsafe descriptor(beneath: OpaquePointer(stream)) != number,
        let made = unsafe openFile(number, number == 0 ? "r" : "w")
    else { return }
    let savedErrno = sk_errno()
    unsafe sk_replace_standard_stream(number, UnsafeMutableRawPointer(made))
    sk_set_errno(savedErrno)
}

private typealias Reopen =
    @convention(c) (UnsafePointer<CChar>?, UnsafePointer<CChar>?, OpaquePointer?) -> OpaquePointer?

/// The C library can't reopen a FILE over our calls. Its descriptor gets the file instead; it is for the direction
/// that it was made for.
@c(freopen) public func hookReopen(
    _ path: UnsafePointer<CChar>?, _ mode: UnsafePointer<CChar>?, _ file: OpaquePointer?
) -> OpaquePointer? {
    guard let number = unsafe descriptor(beneath: file), let stream = unsafe UnsafeMutableRawPointer(file) else {
        return unsafe unsafeBitCast(sk_next_symbol("freopen"), to: Reopen.self)(path, mode, file)
    }
    unsafe sk_begin_anew(stream)
    guard let path = unsafe path else { return unsafe file }
    var opened: UnsafeMutableRawPointer? = nil
    let source = unsafe sk_open_number(path, mode, &opened)
    // As the C library has it: the old one is closed, whatever becomes of the new one.
    guard source >= 0, let other = unsafe opened else {
        let error = sk_errno()
        _ = hookClose(number)
        sk_set_errno(error)
        return nil
    }
    if source == number {
        // The number was closed already, and the file got it: it must outlive its own FILE.
        let kept = sk_fcntl(source, F_DUPFD_CLOEXEC, 3)
        unsafe sk_close_file(other)
        let placed = kept < 0 ? -1 : hookDup2(Int32(kept), number)
        if kept >= 0 { _ = sk_close(Int32(kept)) }
        return placed < 0 ? nil : unsafe file
    }
    let placed = hookDup2(source, number)
    unsafe sk_close_file(other)
    return placed < 0 ? nil : unsafe file
}

@c(freopen64) public func hookReopen64(
    _ path: UnsafePointer<CChar>?, _ mode: UnsafePointer<CChar>?, _ file: OpaquePointer?
) -> OpaquePointer? { unsafe hookReopen(path, mode, file) }

// MARK: Printing to a descriptor

private typealias Print = @convention(c) (Int32, UnsafePointer<CChar>?, UnsafeMutableRawPointer?) -> Int32
private typealias CheckedPrint =
    @convention(c) (Int32, Int32, UnsafePointer<CChar>?, UnsafeMutableRawPointer?) -> Int32
private typealias Format =
    @convention(c) (
        UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, UnsafePointer<CChar>?, UnsafeMutableRawPointer?
    ) -> Int32
private typealias CheckedFormat =
    @convention(c) (
        UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, Int32, UnsafePointer<CChar>?, UnsafeMutableRawPointer?
    ) -> Int32

// A va_list is passed as a pointer on both processors. `dprintf` itself is in print.c.

@c(vdprintf) public func hookPrint(
    _ descriptor: Int32, _ format: UnsafePointer<CChar>?, _ arguments: UnsafeMutableRawPointer?
) -> Int32 {
    guard endpoint(descriptor) != nil else {
        return unsafe unsafeBitCast(sk_next_symbol("vdprintf"), to: Print.self)(descriptor, format, arguments)
    }
    var text: UnsafeMutablePointer<CChar>? = nil
    let count = unsafe unsafeBitCast(sk_next_symbol("vasprintf"), to: Format.self)(&text, format, arguments)
    return unsafe send(descriptor, text, count)
}

@c(__vdprintf_chk) public func hookPrintChecked(
    _ descriptor: Int32, _ flag: Int32, _ format: UnsafePointer<CChar>?, _ arguments: UnsafeMutableRawPointer?
) -> Int32 {
    guard endpoint(descriptor) != nil else {
        return unsafe unsafeBitCast(sk_next_symbol("__vdprintf_chk"), to: CheckedPrint.self)(
            descriptor, flag, format, arguments)
    }
    var text: UnsafeMutablePointer<CChar>? = nil
    let count = unsafe unsafeBitCast(sk_next_symbol("__vasprintf_chk"), to: CheckedFormat.self)(
        &text, flag, format, arguments)
    return unsafe send(descriptor, text, count)
}

/// Sends and frees a text of that length; -1 for one that could not be made.
private func send(_ descriptor: Int32, _ text: UnsafeMutablePointer<CChar>?, _ count: Int32) -> Int32 {
    guard count >= 0, let text = unsafe text else { return -1 }
    let sent = unsafe writeAll(descriptor, text, Int(count))
    unsafe free(text)
    return sent == Int(count) ? count : -1
}
