import CSystem

// The rules of this process, read once, at set-up: `SkeinCore/RuleSet.swift` says what they mean.

nonisolated(unsafe) var rules = Rules()

func readRules() {
    let subject = ThisProcess()
    unsafe rules = Rules(of: subject) { fault in
        var line = PathText("skein: ")
        fault.message(fault.origin.path(of: subject)).withBytes { line.append($0) }
        line.append("\n")
        writeToLog(line)
    }
}

private struct ThisProcess: RuleSubject {
    var user: UInt32 { sk_geteuid() }
    var root: PathText { PathText() }

    func withVariable(_ name: StaticString, _ body: (Span<UInt8>) -> Void) {
        let value = unsafe name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount) {
            unsafe sk_environment($0)
        }
        if let value = unsafe value, unsafe value[0] != 0 { unsafe withBytes(value, body) }
    }

    func withProgramName(_ body: (Span<UInt8>) -> Void) {
        var path = InlineArray<4096, CChar>(repeating: 0)
        unsafe withUnsafeMutableBytes(of: &path) { buffer in
            let start = unsafe buffer.baseAddress!.assumingMemoryBound(to: CChar.self)
            let length = unsafe sk_readlinkat(-100, "/proc/self/exe", start, 4095)
            // Where /proc isn't mounted, what exec was called with: a link is not followed then.
            let found = unsafe length > 0 ? UnsafePointer(start) : sk_executed_path()
            guard let found = unsafe found else { return }
            unsafe withBytes(found) { body($0.extracting($0.fileName)) }
        }
    }

    private func withBytes(_ text: UnsafePointer<CChar>, _ body: (Span<UInt8>) -> Void) {
        let count = unsafe strlen(text)
        unsafe text.withMemoryRebound(to: UInt8.self, capacity: count) {
            body(unsafe UnsafeBufferPointer(start: $0, count: count).span)
        }
    }
}
