import SkeinNBD

// What a client of `skein export` says before transmission, in pieces of any size.

private struct Exports: ExportCatalogue {
    func list() -> [(name: String, description: String)]? { [("disk", "for the fuzzer"), ("", "")] }

    func find(_ name: String) -> ExportFinding {
        switch name {
        case "", "disk": .export(ExportDescription(name: "disk", size: 1 << 40, flags: [.flush, .trim]))
        case "tls": .requiresTLS
        case "denied": .denied
        default: .unknown
        }
    }
}

@c(LLVMFuzzerTestOneInput) public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = Input(start, count)
    let choice = input.byte()
    let policies: [TLSPolicy] = [.off, .offered, .required]
    var negotiation = Negotiation(tls: policies[Int(choice & 3) % 3])
    var held: [UInt8] = []
    var replies = 0
    while !input.isEmpty {
        held += input.take(1 + Int(choice >> 2) * 37)
        let (consumed, step) = negotiation.take(held.span.bytes, Exports())
        require(consumed <= held.count, "no more is consumed than came")
        held.removeFirst(consumed)
        replies += negotiation.output.count
        negotiation.output = []
        require(replies <= 4096 + 64 * (count + 1) * 4, "replies don't outgrow what was asked")
        switch step {
        case .read: require(held.count <= Limit.option + 16, "no more is kept than an option")
        case .close(let reason):
            require(!reason.isEmpty, "the log is told why")
            return 0
        case .secure:
            held = []
            negotiation.secured()
        case .transmit(let session):
            require(session.export.name == "disk", "transmission is of an export that was found")
            return 0
        }
    }
    return 0
}
