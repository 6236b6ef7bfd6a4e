import SkeinTransfer

// What no honest peer sends. The messages are written down here byte by byte, as the table in Message.swift has them.

private let largest = UInt64.max

private func bytes<Word: FixedWidthInteger>(_ word: Word) -> [UInt8] {
    (0..<Word.bitWidth / 8).map { UInt8(truncatingIfNeeded: word >> Word(8 * $0)) }
}

private func raw(
    _ kind: UInt8, _ body: [UInt8] = [], length: UInt32? = nil, version: UInt8 = 1, magic: String = "SK"
) -> [UInt8] {
    Array(magic.utf8) + [version, kind] + bytes(length ?? UInt32(body.count)) + body
}

private func offer(size: UInt64, name: String = "file") -> [UInt8] {
    raw(1, bytes(UInt16(0o644)) + bytes(size) + Array(name.utf8))
}

private func sum(_ content: [UInt8]) -> [UInt8] {
    var sum = RunningChecksum()
    sum.add(content.span)
    let digits = Array(sum.value.text.utf8)
    return stride(from: 0, to: 32, by: 2).map {
        UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
    }
}

private func chunk(_ content: [UInt8], after before: [UInt8] = []) -> [UInt8] {
    raw(4, content + sum(before + content))
}

private func end(_ content: [UInt8], size: UInt64? = nil) -> [UInt8] {
    raw(5, bytes(size ?? UInt64(content.count)) + sum(content))
}

/// What a receiver, which may have something, throws for these messages.
private func receiver(_ messages: [UInt8]..., having existing: [UInt8] = []) -> TransferFault? {
    var receiver = Receiver(having: existing)
    return fault { () throws(TransferFault) in for message in messages { _ = try receiver.take(message) } }
}

/// What a sender throws for these messages.
private func sender(_ messages: [UInt8]..., content: [UInt8] = [1, 2, 3]) -> TransferFault? {
    var sender = Sender(content)
    return fault { () throws(TransferFault) in for message in messages { _ = try sender.take(message, chunk: 2) } }
}

func faultTests() {
    let start = raw(3, bytes(UInt64(0)))
    let content: [UInt8] = [1, 2, 3]
    check(
        receiver(offer(size: 3), start, chunk([1, 2]), chunk([3], after: [1, 2]), end(content)), is: nil,
        "messages written by hand are those of the machine")
    greetingFaults()
    contentFaults(start, content)
    endFaults(start, content)
    senderFaults()
}

private func greetingFaults() {
    check(receiver(Array("GET / HTTP/1.1\r\n\r\n".utf8)), is: .stranger, "a web browser is a stranger to the receiver")
    check(sender(Array("HTTP/1.1 400 Bad Request\r\n".utf8)), is: .stranger, "a web server is one to the sender")
    check(receiver(raw(1, version: 2)), is: .version(2), "another version is told from a stranger")
    check(sender(raw(2, version: 0)), is: .version(0), "also by the sender")
    check(receiver(raw(0)), is: .nonsense, "there is no kind 0")
    check(receiver(raw(8)), is: .nonsense, "there is no kind 8")
    check(receiver(raw(4, sum([]) + [1])), is: .nonsense, "content can't come before the offer")
    check(receiver(raw(1, length: 9)), is: .nonsense, "an offer can't be too short")
    check(receiver(raw(1, length: 266)), is: .nonsense, "nor have a name of 256 bytes")
    check(receiver(offer(size: 1 << 63)), is: .nonsense, "no size is beyond what a file can have")
    check(receiver(offer(size: largest - 1)), is: .nonsense, "however large")
    check(receiver(offer(size: 3), offer(size: 3)), is: .nonsense, "an offer is made once")
}

private func contentFaults(_ start: [UInt8], _ content: [UInt8]) {
    check(receiver(offer(size: 3), raw(3, bytes(UInt64(1)))), is: .nonsense, "it can't begin where nothing is")
    check(receiver(offer(size: 3), raw(3, bytes(largest))), is: .nonsense, "nor at the end of the world")
    check(
        receiver(offer(size: 3), raw(3, bytes(UInt64(1))), having: [1, 2]), is: .nonsense,
        "nor in the middle of what is there")
    check(receiver(offer(size: 3), chunk(content)), is: .nonsense, "content needs a beginning")
    check(receiver(offer(size: 3), start, start), is: .nonsense, "it begins once")
    check(receiver(offer(size: 3), start, raw(4, length: 16)), is: .nonsense, "a chunk is not empty")
    let excess = UInt32(Limit.chunk + 17)
    check(receiver(offer(size: 3), start, raw(4, length: excess)), is: .nonsense, "a chunk is at most 1 MiB")
    check(receiver(offer(size: 3), start, raw(4, length: .max)), is: .nonsense, "and never 4 GiB")
    check(receiver(offer(size: 2), start, chunk(content)), is: .nonsense, "no more comes than was offered")
    check(
        receiver(offer(size: 3), start, chunk(content), chunk([4], after: content)), is: .nonsense,
        "nor afterwards")
    check(receiver(offer(size: 3), start, raw(4, content + sum([1, 2]))), is: .checksum, "a wrong chunk is found")
    check(
        receiver(offer(size: 3), start, chunk([1, 2]), raw(4, [3] + sum([3]))), is: .checksum,
        "the checksum of a chunk is that of everything so far")
}

private func endFaults(_ start: [UInt8], _ content: [UInt8]) {
    check(receiver(offer(size: 3), end(content)), is: .nonsense, "the end comes after the beginning")
    check(
        receiver(offer(size: 3), start, chunk([1, 2]), end([1, 2])), is: .nonsense, "not less comes than was offered")
    check(
        receiver(offer(size: largest), start, chunk(content), end(content, size: 4)), is: .nonsense,
        "the end states the size that came")
    check(
        receiver(offer(size: 3), start, chunk(content), raw(5, bytes(UInt64(3)) + sum([1]))), is: .checksum,
        "a wrong checksum of the whole is found")
    check(
        receiver(offer(size: 3), start, chunk(content), end(content), start), is: .nonsense, "nothing comes after it")
    let refusal = Refusal(.failed, "the disk is on fire")
    check(receiver(offer(size: 3), start, refusal.message), is: .refused(refusal), "a sender can give up")
    check(receiver(refusal.message), is: .nonsense, "but not before it has offered anything")
}

private func senderFaults() {
    let none = raw(2, bytes(UInt64(0)) + sum([]))
    check(sender(none, raw(6)), is: nil, "a sender takes an answer and the word that all is stored")
    check(sender(raw(6)), is: .nonsense, "nothing can be stored before it is sent")
    check(sender(none, none), is: .nonsense, "an answer is given once")
    check(sender(offer(size: 3)), is: .nonsense, "a receiver offers nothing")
    check(sender(raw(2, length: 25)), is: .nonsense, "an answer has one length")
    for size in [4, 1 << 40, 1 << 63, largest] as [UInt64] {
        var own = Sender([1, 2, 3])
        let trouble = fault { () throws(TransferFault) in
            _ = try own.take(raw(2, bytes(size) + sum([1, 2, 3])), chunk: 2)
        }
        check(
            trouble == nil && own.offset == 0, "a receiver that claims \(size) bytes gets the file from its beginning")
    }
    let exists = Refusal(.exists, "it is there")
    check(sender(exists.message), is: .refused(exists), "a receiver can refuse the offer")
    check(sender(none, exists.message), is: .refused(exists), "and what comes of it")
    check(sender(raw(7, [99])), is: .refused(Refusal(.failed, "")), "a reason of a later version is a failure")
    check(sender(raw(7, length: 257)), is: .nonsense, "a reason is no novel")
    check(Refusal(.failed, String(repeating: "ä", count: 300)).text.utf8.count <= 255, "ours are cut at a character")
}

func nameTests() {
    func safe(_ name: String) -> String? { Offer(name: name, size: 0, mode: 0)?.safeName }
    for name in ["a", "a b", "ä€", "a..b", "-rf", "~", "nul", String(repeating: "x", count: 244)] {
        check(safe(name), is: name, "'\(name.prefix(20))' is a name")
    }
    let bad = [
        "", ".", "..", ".bashrc", "/", "/etc/passwd", "a/b", "../a", "a/..", "a\0b", "a\nb", "\u{1b}[2J", "a\u{7f}",
        String(repeating: "x", count: 245), String(repeating: "x", count: 255),
    ]
    for name in bad { check(safe(name), is: nil, "\(name.prefix(20).debugDescription) is no name for a file here") }
    check(Offer(name: String(repeating: "x", count: 256), size: 0, mode: 0) == nil, "none of 256 bytes is offered")
    var hostile = Receiver()
    _ = fault { () throws(TransferFault) in
        _ = try hostile.take(raw(1, bytes(UInt16(0o7777)) + bytes(largest) + [0x61, 0xff, 0x62]))
    }
    check(hostile.offer?.safeName, is: nil, "what isn't UTF-8 is no name")
    check(hostile.offer?.mode, is: 0o777, "set-user-id never travels")
    check(hostile.offer?.size == .some(nil), "all ones is no size")
}

/// Damaged transfers: whatever a byte is changed to, what is stored is a beginning of the content, and the end comes
/// only with all of it.
func noiseTests() {
    let content = noise(3000)
    let honest =
        offer(size: 3000) + raw(3, bytes(UInt64(0))) + chunk(Array(content[..<1500]))
        + chunk(Array(content[1500...]), after: Array(content[..<1500])) + end(content)
    // The offer's mode and name are whatever they are.
    let meaningful = (8 + 2 + 8 + 4)..<honest.count
    let dice = noise(4000, seed: 3)
    var escaped = 0
    for round in 0..<1000 {
        var damaged = honest
        let word = dice[round * 4..<round * 4 + 4].reduce(0) { $0 << 8 | Int($1) }
        damaged[meaningful.lowerBound + (word >> 8) % meaningful.count] ^= UInt8(truncatingIfNeeded: word) | 1
        var receiver = Receiver()
        let trouble = fault { () throws(TransferFault) in _ = try receiver.take(damaged) }
        if trouble == nil && receiver.sum != nil || !content.starts(with: receiver.content) { escaped += 1 }
    }
    check(escaped, is: 0, "of 1,000 transfers with a damaged byte none is taken for right")

    var survived = 0
    for seed in 0..<2000 {
        var receiver = Receiver()
        var bytes = noise(400, seed: UInt64(seed + 10))
        // Half of the noise is behind a right header, else it would never get past it.
        if seed % 2 == 0 { bytes.replaceSubrange(0..<8, with: raw(UInt8(seed % 8), length: UInt32(seed % 300))) }
        _ = fault { () throws(TransferFault) in _ = try receiver.take(bytes) }
        if receiver.sum == nil { survived += 1 }
    }
    check(survived, is: 2000, "2,000 pieces of noise are survived and none is a file")
}
