@testable import SkeinCore

// Texts of rules: a file, and the value of each variable. And what the agent's file says of a group.

nonisolated(unsafe) private var rules = RuleSet()
nonisolated(unsafe) private var origin = Origin.environment

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    let text = input.rest()
    if choice == 255 {
        look(text)
        return 0
    }
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

private func look(_ text: [UInt8]) {
    guard let file = GroupFile(text.span) else { return }
    require(0..<Address.groupHosts ~= file.host, "an own number has an address")
    require(Address.ofGroup(host: file.host, six: false, port: 1).groupHost == file.host, "which is that of the number")
    require(Address.ofGroup(host: file.host, six: true, port: 1).groupHost == file.host, "in both families")
    for number in 0..<70 {
        file.withName(of: number) { name in require(file.number(of: name) != nil, "who has a name is found by it") }
    }
    let name: [UInt8] = Array("b.lab.skein".utf8)
    if let part = file.hostPart(of: name.span) { require(part.upperBound == 1, "the group is what follows the host") }
}
