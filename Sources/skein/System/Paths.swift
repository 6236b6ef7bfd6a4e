import CSystem
import Glibc

/// What stat(2) says of a path; nil when it says nothing.
func status(of path: String, following: Bool = true) -> stat? {
    var status = stat()
    let result = unsafe following ? stat(path, &status) : lstat(path, &status)
    return result == 0 ? status : nil
}

/// Where a symbolic link points; nil when it is none or can't be read.
func target(ofLink path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let length = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe readlink(path, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    return length < 0 ? nil : String(decoding: buffer[..<length], as: UTF8.self)
}

/// The names in a folder, without the two dots.
func names(in folder: String) throws(SystemError) -> [String] {
    guard let stream = unsafe opendir(folder) else { throw SystemError.last }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { tuple in
            unsafe tuple.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

/// An extended attribute of what a path leads to; nil when there is none.
func attribute(_ name: String, of path: String) -> Bytes? {
    var buffer = [UInt8](repeating: 0, count: 256)
    let length = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe path.withCString { path in
            unsafe name.withCString { name in
                // Glibc's module lacks <sys/xattr.h>.
                sk_syscall6(
                    Int(SYS_getxattr), Int(bitPattern: path), Int(bitPattern: name), Int(bitPattern: bytes.baseAddress),
                    bytes.count, 0, 0)
            }
        }
    }
    return length < 0 ? nil : Bytes(Array(buffer[..<length]))
}

/// A variable of our environment; nil when it is unset or empty.
func environmentVariable(_ name: String) -> String? {
    guard let value = unsafe getenv(name), unsafe value.pointee != 0 else { return nil }
    return unsafe String(cString: value)
}

/// A path that stays right when the program changes its folder.
func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    return (target(ofLink: "/proc/self/cwd") ?? "") + "/" + path
}

/// The path without symbolic links; nil when there is nothing.
func realPath(_ path: String) -> String? {
    guard let found = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(found) }
    return unsafe String(cString: found)
}

/// What comes after the last slash.
func lastPart(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
}

/// The folder of a path.
func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
