import CSystem

// The header's own entry in LD_PRELOAD. After a chroot it may name a file that isn't there: the loader would complain on the
// program's standard error, so the entry is left away, and the program that is started is on plain TCP.

private let variable: StaticString = "LD_PRELOAD="

/// Runs `body` with the environment as it is, or without the header's entry where that can't be loaded from here.
func withLoadablePreload(_ environment: Strings?, _ body: (Strings?) -> Int32) -> Int32 {
    guard let environment = unsafe environment, let place = unsafe preloadEntry(environment),
        let kept = unsafe otherLibraries(environment[place]!.advanced(by: variable.utf8CodeUnitCount))
    else { return unsafe body(environment) }
    var entries = 0
    while unsafe environment[entries] != nil { entries += 1 }
    return unsafe kept.withCString { text in
        unsafe Int32(
            withScratch(words: entries + 1) { memory in
                let changed = unsafe memory.bindMemory(to: UnsafeMutablePointer<CChar>?.self, capacity: entries + 1)
                var count = 0
                for index in 0..<entries where index != place || kept.count > variable.utf8CodeUnitCount {
                    unsafe changed[count] =
                        index == place ? unsafe UnsafeMutablePointer(mutating: text) : unsafe environment[index]
                    count += 1
                }
                unsafe changed[count] = nil
                return unsafe Int(body(UnsafePointer(changed)))
            })
    }
}

private func preloadEntry(_ environment: Strings) -> Int? {
    var index = 0
    while let entry = unsafe environment[index] {
        if unsafe strncmp(entry, "LD_PRELOAD=", 11) == 0 {
            return unsafe strstr(entry, "libskein-preload.so") != nil ? index : nil
        }
        index += 1
    }
    return nil
}

/// The variable without the header's library, if that file isn't there; nil where all stays as it is.
private func otherLibraries(_ list: UnsafePointer<CChar>) -> PathText? {
    var others = PathText(variable)
    var isMissing = false
    var place = unsafe list
    while unsafe place.pointee != 0 {
        var path = PathText()
        // Blanks separate them too.
        while unsafe place.pointee != 0 && place.pointee != 58 && place.pointee != 32 {
            path.append(byte: unsafe UInt8(bitPattern: place.pointee))
            unsafe place += 1
        }
        if unsafe place.pointee != 0 { unsafe place += 1 }
        let isThere = unsafe path.withCString { name in
            unsafe strstr(name, "libskein-preload.so") == nil || sk_access(currentFolder, name, 4 /* R_OK */) == 0
        }
        if !isThere { isMissing = true }
        guard isThere, path.count > 0 else { continue }
        if others.count > variable.utf8CodeUnitCount { others.append(":") }
        unsafe path.withCString { unsafe others.append(cString: $0) }
    }
    return isMissing && !others.isCut ? others : nil
}
