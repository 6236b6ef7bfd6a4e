@testable import SkeinCore

// Texts of rules: a file, and the value of each variable.

nonisolated(unsafe) private var rules = RuleSet()
nonisolated(unsafe) private var origin = Origin.environment

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    let text = input.rest()
    // Another origin each time: lists begin anew in the memory that they have.
    origin = origin == .environment ? .userFile : .environment
    var faults = 0
    func check(_ fault: Fault) {
        faults += 1
        let message = fault.message(PathText("file"))
        require(message.count > 0 && !message.isCut, "a message has words")
        message.withBytes { bytes in
            for index in bytes.indices { require(32...126 ~= bytes[index], "a message is plain text") }
        }
    }
    if choice & 1 == 0 {
        let name: [UInt8] = Array("redis-server".utf8)
        rules.read(text.span, origin, section: origin, program: name.span, report: check)
    } else if let key = RuleKey(rawValue: (choice >> 1) % RuleKey.count) {
        rules.set(key, text.span, origin) { check(Fault(kind: $0, word: $1, line: 0, origin: origin, key: key)) }
    }
    require(faults <= text.count + 1, "a byte makes one fault at most")
    var asked = Rules()
    asked.user = rules
    _ = asked.allows(Address.loopback(6379))
    return 0
}
