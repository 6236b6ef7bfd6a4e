import SkeinTransfer

// What `skein send` and `skein receive` read from each other.

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    let content = [UInt8](repeating: 7, count: Int(choice >> 1 & 15))
    do {
        if choice & 1 == 0 {
            var receiver = Receiver(having: content)
            while !input.isEmpty { _ = try receiver.take(input.take(receiver.machine.wanted)) }
            require(receiver.content.count <= max(count, content.count), "no more is stored than came")
            require(receiver.offer?.safeName.map { !$0.contains("/") } ?? true, "no name leaves its folder")
        } else {
            var sender = Sender(content)
            while !input.isEmpty { _ = try sender.take(input.take(sender.machine.wanted), chunk: 5) }
        }
    } catch {
        require(!"\(error)".isEmpty, "a fault has words")
    }
    return 0
}
