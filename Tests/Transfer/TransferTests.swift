import SkeinTransfer

// Transfers between two honest ends.

private struct Outcome {
    var isDone = false
    var offset: UInt64?
    var content: [UInt8] = []
    var sum: Checksum?
}

/// A whole transfer to a receiver that has `existing`. Each message is taken in one piece.
private func transfer(
    _ content: [UInt8], size: UInt64?? = nil, to existing: [UInt8] = [], chunk: Int = 1000
) throws(TransferFault) -> Outcome {
    var sender = Sender(content, size: size)
    var receiver = Receiver(having: existing)
    let answer = try receiver.take(sender.machine.opening)
    let everything = try sender.take(answer, chunk: chunk)
    _ = try sender.take(try receiver.take(everything), chunk: chunk)
    return Outcome(isDone: sender.isDone, offset: sender.offset, content: receiver.content, sum: receiver.sum)
}

private func check(_ sentence: String, _ outcome: () throws(TransferFault) -> Outcome, content: [UInt8], from: UInt64) {
    do {
        let outcome = try outcome()
        check(
            outcome.isDone && outcome.content == content && outcome.offset == from, sentence,
            saw: "\(outcome.content.count) bytes from \(String(describing: outcome.offset)), done \(outcome.isDone)")
    } catch {
        check(false, sentence, saw: "\(error)")
    }
}

func transferTests() {
    let content = noise(12_345)
    func send(
        _ sentence: String, _ content: [UInt8], size: UInt64?? = nil, to existing: [UInt8] = [], from: UInt64 = 0,
        chunk: Int = 1000
    ) {
        check(
            sentence, { () throws(TransferFault) in try transfer(content, size: size, to: existing, chunk: chunk) },
            content: content, from: from)
    }
    send("a file arrives", content)
    send("an empty file arrives", [])
    send("a file of one byte arrives", [7])
    send("chunks of the largest size arrive", noise(Limit.chunk * 2 + 1), chunk: Limit.chunk)
    send("chunks of one byte arrive", noise(99), chunk: 1)
    send("content of unknown size arrives", content, size: .some(nil))
    send("what the receiver has isn't sent again", content, to: Array(content[..<5000]), from: 5000)
    send("nothing is sent where the receiver has all", content, to: content, from: 12_345)
    send("what the receiver has that differs is sent again from the beginning", content, to: noise(5000, seed: 2))
    var almost = Array(content[..<5000])
    almost[4999] ^= 1
    send("one bit that differs counts", content, to: almost)
    send("a receiver that has more than the sender starts again", content, to: content + [1])

    let sum = RunningChecksum()
    check(sum.value.text, is: "99aa06d3014798d86001c324468d497f", "the checksum of nothing is XXH3's")
    check(
        (try? transfer(content))?.sum, is: (try? transfer(content, to: Array(content[..<77]), chunk: 7))?.sum,
        "the checksum of the whole is the same, however it came")
}
