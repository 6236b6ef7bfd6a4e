import MediumKit
import SkeinConduit

// The life of a filament, from its opening to its number's next use.

func filamentTests() {
    openingTests()
    dataTests()
    halfCloseTests()
    closeTests()
    resetTests()
    endTests()
}

private func openingTests() {
    var pair = Pair()
    let address = Array("db:5432".utf8)
    guard let first = try? pair.near.open(kind: 7, address: address) else { return check(false, "a filament opens") }
    check(pair.near.send(first, Array("early".utf8)), is: 5, "a filament is written to before it is accepted")
    pair.exchange()
    check(
        pair.far.takeEvents(), is: [.opened(first, kind: 7, address: address)],
        "the peer is offered it, with kind and address")
    check(pair.far.fault { c throws(FilamentFault) in try c.readable(first) }, is: nil, "what came early is kept")
    check(
        pair.far.fault { c throws(FilamentFault) in try c.write(first, address) }, is: .notAccepted,
        "nobody writes to a filament that he has not accepted")
    check((try? pair.far.accept(first)) != nil, "it is accepted")
    check(pair.far.takeEvents(), is: [.readable(first)], "and then what came early is announced")
    check(pair.far.received(first), is: Array("early".utf8), "and read")
    check(pair.far.fault { c throws(FilamentFault) in try c.accept(first) }, is: .notOffered, "once")
    pair.settle()
    check(pair.near.takeEvents(), is: [.accepted(first)], "the opener is told")
    guard let second = try? pair.far.open(kind: 1, address: []) else { return check(false, "a filament opens") }
    check(
        [first.wire, second.wire], is: [2, 1], "the even end opens even numbers, the odd end odd ones, zero is nobody's"
    )

    var early = Pair()
    guard let whole = try? early.near.open(kind: 1, address: []) else { return check(false, "a filament opens") }
    _ = early.near.send(whole, [1])
    try? early.near.markUrgent(whole)
    try? early.near.end(whole)
    early.settle()
    check(early.far.takeEvents().count, is: 1, "what comes with an offer is no event before it is accepted")
    try? early.far.accept(whole)
    check(
        early.far.takeEvents(), is: [.readable(whole), .urgent(whole), .ended(whole)],
        "and then each of data, mark and end is one")

    var refused = Pair()
    guard let filament = try? refused.near.open(kind: 1, address: []) else { return check(false, "a filament opens") }
    _ = refused.near.send(filament, noise(30_000))
    try? refused.near.end(filament)
    refused.exchange()
    check((try? refused.far.refuse(filament, error: 111)) != nil, "an offer with data behind it is refused")
    refused.exchange()
    check(refused.near.takeEvents(), is: [.refused(filament, error: 111)], "the opener is told why")
    check(refused.near.fault { c throws(FilamentFault) in try c.end(filament) }, is: .gone, "and the filament is gone")
    refused.settle()
    check([refused.near.count, refused.far.count], is: [0, 0], "both ends have forgotten it")
    check(refused.far.queued.incoming, is: 0, "and its data")

    var closed = Pair()
    guard let quick = try? closed.near.open(kind: 1, address: []) else { return check(false, "a filament opens") }
    _ = closed.near.send(quick, [1, 2, 3])
    try? closed.near.close(quick)
    closed.exchange()
    try? closed.far.accept(quick)
    check(closed.far.received(quick), is: [1, 2, 3], "what was written before a close arrives, accepted later or not")
    try? closed.far.close(quick)
    closed.settle()
    check([closed.near.count, closed.far.count], is: [0, 0], "and then both have closed")
}

private func dataTests() {
    var pair = Pair()
    let filament = pair.filament()
    let content = noise(1_000_000)
    var sent = 0
    var got: [UInt8] = []
    while got.count < content.count {
        sent += pair.near.send(filament, Array(content[sent...]))
        pair.exchange(10_000)
        got += pair.far.received(filament, 5000)
    }
    check(got == content, "a million bytes arrive as they were written, through blocks and buffers of other sizes")
    pair.settle()
    check(pair.near.queued == (0, 0), "and nothing of them is left")
    _ = pair.near.takeEvents()
    _ = pair.far.takeEvents()

    let queue = Conduit.Limits().sendQueue
    check(pair.near.send(filament, noise(queue + 1)), is: queue, "a write takes what there is room for")
    check(pair.near.send(filament, [1]), is: 0, "and then nothing")
    check(pair.near.takeEvents().isEmpty, "and nobody is told to go on yet")
    var rounds = 0
    while !pair.near.takeEvents().contains(.writable(filament)) && rounds < 100 {
        pair.exchange()
        _ = pair.far.received(filament)
        rounds += 1
    }
    check(rounds < 100, "who was cut short is told when half of it is sent", saw: "\(rounds) rounds")

    let marked = pair.filament()
    _ = pair.near.send(marked, noise(10_000))
    try? pair.near.markUrgent(marked)
    _ = pair.near.send(marked, noise(10))
    pair.exchange(3000)
    check(
        pair.far.takeEvents().contains(.urgent(marked)), "an urgent mark comes ahead of the data before it")
    check(try? pair.far.bytesToMark(marked), is: 10_000, "and says how far away it is")
    pair.settle()
    _ = pair.far.received(marked, 9_999)
    check(try? pair.far.bytesToMark(marked), is: 1, "reading brings it nearer")
    _ = pair.far.received(marked, 1)
    check((try? pair.far.bytesToMark(marked)) == .some(nil), "and past it there is none")
}

private func halfCloseTests() {
    var pair = Pair()
    let filament = pair.filament()
    _ = pair.near.send(filament, [1, 2, 3])
    try? pair.near.end(filament)
    check(
        pair.near.fault { c throws(FilamentFault) in try c.write(filament, [4]) }, is: .ended,
        "nothing is written after the end")
    pair.settle()
    check(
        pair.far.takeEvents(), is: [.readable(filament), .ended(filament)], "an end comes after the data before it")
    check(try? pair.far.isAtEnd(filament), is: false, "it isn't reached before that is read")
    check(pair.far.received(filament), is: [1, 2, 3], "which it can be")
    check(try? pair.far.isAtEnd(filament), is: true, "and then it is")
    pair.settle()
    check(pair.near.takeEvents(), is: [.delivered(filament)], "who ended learns that all was read")
    check(pair.far.send(filament, [5]), is: 1, "a half-closed filament goes on the other way")
    pair.settle()
    check(pair.near.received(filament), is: [5], "and what is written there is read")
    try? pair.far.end(filament)
    pair.settle()
    check(
        pair.near.takeEvents(), is: [.readable(filament), .ended(filament), .closed(filament)],
        "after both ends it is closed")
    check(pair.far.takeEvents(), is: [.delivered(filament), .closed(filament)], "at both ends")
    check([pair.near.count, pair.far.count], is: [0, 0], "and its number is free")
    guard let next = try? pair.near.open(kind: 1, address: []) else { return check(false, "a number is free again") }
    check(next.wire == filament.wire && next != filament, "a number that is used again is another filament")
    check(
        pair.near.fault { c throws(FilamentFault) in try c.write(filament, [4]) }, is: .gone,
        "and the old one's name reaches nothing")
    pair.exchange()
    check(pair.far.takeEvents(), is: [.opened(next, kind: 1, address: [])], "both ends call it by the same name")

}

private func closeTests() {
    var pair = Pair()
    let both = pair.filament()
    try? pair.near.close(both)
    try? pair.far.close(both)
    pair.settle()
    check(
        pair.near.takeEvents() + pair.far.takeEvents(),
        is: [.delivered(both), .closed(both)] + [.delivered(both), .closed(both)],
        "both ends may close at once")

    let unread = pair.filament()
    _ = pair.near.send(unread, [1])
    pair.settle()
    _ = pair.far.takeEvents()
    try? pair.far.close(unread)
    pair.settle()
    check(
        pair.near.takeEvents(), is: [.reset(unread, error: 104)],
        "a close with something unread is a reset to the writer")
    check(pair.far.takeEvents(), is: [.reset(unread, error: 104)], "and to who closed")

    let late = pair.filament()
    try? pair.far.close(late)
    pair.settle()
    check(pair.near.takeEvents(), is: [.ended(late)], "a close looks like an end")
    _ = pair.near.send(late, [1])
    pair.settle()
    check(
        pair.near.takeEvents(), is: [.reset(late, error: 104)],
        "what is written to one who closed comes back as a reset")
    check(
        pair.far.takeEvents().last, is: .reset(late, error: 104),
        "of which who closed is told too: its own data may be lost")
}

private func resetTests() {
    var pair = Pair()
    let filament = pair.filament()
    _ = pair.near.send(filament, noise(100_000))
    _ = pair.far.send(filament, noise(100_000))
    pair.exchange()
    _ = pair.near.takeEvents()
    _ = pair.far.takeEvents()
    try? pair.near.reset(filament, error: 32)
    check(pair.near.queued == (0, 0), "a reset drops what waits")
    pair.settle()
    check(pair.far.takeEvents(), is: [.reset(filament, error: 32)], "and reaches the peer with its error number")
    check(pair.near.takeEvents(), is: [], "who resets is told nothing")
    check(pair.far.queued == (0, 0), "the peer's data is dropped too")
    check([pair.near.count, pair.far.count], is: [0, 0], "and both have forgotten the filament")

    let both = pair.filament()
    try? pair.near.reset(both, error: 1)
    try? pair.far.reset(both, error: 2)
    pair.settle()
    check([pair.near.count, pair.far.count], is: [0, 0], "two resets that cross are each other's answer")
    check(pair.near.takeEvents() + pair.far.takeEvents(), is: [], "and nobody is told what he did himself")

    guard let crossed = try? pair.near.open(kind: 1, address: []) else { return check(false, "a number is free") }
    pair.exchange()
    _ = pair.far.takeEvents()
    try? pair.far.refuse(crossed, error: 5)
    try? pair.near.reset(crossed, error: 6)
    pair.settle()
    check([pair.near.count, pair.far.count], is: [0, 0], "so are a reset and a refusal")

    guard let unsaid = try? pair.near.open(kind: 1, address: []) else { return check(false, "a number is free") }
    try? pair.near.reset(unsaid, error: 6)
    pair.settle()
    check(
        pair.near.count + pair.far.count, is: 0, "a filament that is reset before it was heard of is forgotten as well")

    // Each end has said its end and its last credit, and one of them doesn't know yet.
    let over = pair.filament()
    try? pair.near.end(over)
    pair.settle()
    try? pair.far.end(over)
    let last = pair.far.block()
    check(pair.near.receive(last), is: nil, "the last frames come")
    try? pair.far.reset(over, error: 9)
    check(pair.near.receive(pair.far.block()), is: nil, "who has said everything doesn't reset any more")
    _ = pair.far.takeEvents()
    pair.settle()
    check(pair.far.takeEvents(), is: [], "though its program is told nothing more")
    check([pair.near.count, pair.far.count], is: [0, 0], "and it closes")
}

private func endTests() {
    var limits = Conduit.Limits()
    limits.backlog = 3
    var pair = Pair(far: limits)
    let offers = (0..<5).compactMap { _ in try? pair.near.open(kind: 1, address: []) }
    pair.settle()
    check(
        pair.near.takeEvents(), is: offers[3...].map { .refused($0, error: 11) },
        "offers beyond the backlog are refused: try again")
    check(pair.far.takeEvents().count, is: 3, "and nobody hears of them")
    try? pair.far.accept(offers[0])
    guard let again = try? pair.near.open(kind: 1, address: []) else { return check(false, "a number is free") }
    pair.settle()
    check(
        pair.far.takeEvents(), is: [.opened(again, kind: 1, address: [])],
        "an offer that was answered makes room for another")
    for _ in 0..<3 {
        guard let brief = try? pair.near.open(kind: 2, address: []) else { return check(false, "a number is free") }
        try? pair.near.reset(brief, error: 104)
    }
    try? pair.near.reset(offers[1], error: 104)
    pair.settle()
    _ = pair.far.takeEvents()
    guard let last = try? pair.near.open(kind: 3, address: []) else { return check(false, "a number is free") }
    pair.settle()
    check(pair.far.takeEvents(), is: [.opened(last, kind: 3, address: [])], "and so does one that its opener resets")
    _ = pair.near.takeEvents()
    pair.near.end(error: 110)
    check(
        Set(pair.near.takeEvents().map { "\($0)" }),
        is: Set([offers[0], offers[2], again, last].map { "\(FilamentEvent.reset($0, error: 110))" }),
        "at the conduit's end each filament is reset")
    check(pair.near.block().isEmpty && pair.near.count == 0, "and there is nothing more to send")
    check(
        pair.near.fault { c throws(FilamentFault) in try c.open(kind: 1, address: []) }, is: .gone, "or to open")
}
