import SkeinNBD

// Requests of a client of `skein export`: what is performed lies inside the export, whatever the numbers are.

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    let style = [ReplyStyle.simple, .structured, .extended][Int(choice & 3) % 3]
    let flags = TransmissionFlags(rawValue: UInt16(truncatingIfNeeded: input.word()))
    let block = UInt32(1) << UInt32(choice >> 4)
    let size = input.word() >> UInt64(input.byte() & 63)
    let export = ExportDescription(name: "disk", size: size, flags: flags, minimumBlock: block)
    let rules = RequestRules(Session(export: export, style: style, hasAllocationContext: choice & 4 != 0))
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Reply.largestHeader, alignment: 8)
    defer { memory.deallocate() }
    while !input.isEmpty {
        let bytes = input.take(Request.headerSize(style))
        guard bytes.count == Request.headerSize(style), let request = Request(bytes.span.bytes, style) else { return 0 }
        var reply = Reply(to: request, style, into: memory)
        switch rules.judge(request, size: size) {
        case .perform(let command):
            require(command.rawValue == request.command, "what is performed was asked for")
            let isFree =
                command == .flush || command == .resize
                || request.flags.contains(.payloadLength) && command == .blockStatus
            if !isFree {
                require(request.length <= size && request.offset <= size - request.length, "it lies inside the export")
                require((request.offset | request.length) % UInt64(block) == 0, "it has whole blocks")
            }
            if command == .read || command == .write {
                require(request.length <= UInt64(Limit.payload), "its data is bounded")
            }
            if [.write, .trim, .writeZeroes].contains(command) {
                require(!flags.contains(.readOnly), "nothing read-only changes")
            }
            reply.done()
        case .refuse(let code, let text):
            require(request.payload(style) <= UInt64(Limit.payload), "a payload that is read over is bounded")
            reply.error(code, text)
        case .disconnect: return 0
        case .violation(let text):
            require(text.utf8CodeUnitCount > 0, "the log is told why")
            return 0
        }
        require(reply.count >= 16 && reply.count <= Reply.largestHeader, "a reply has its header")
    }
    return 0
}
