import MediumKit
import SkeinConduit

/// The conversation of golden.py: what each end writes is compared with Python's, and what it reads is Python's.
func goldenTests(_ folder: String) {
    var pair = Pair()
    let address = Array("db:5432".utf8)
    let bulk = (0..<16_384).map { UInt8($0 * 7 % 251) }
    func say(_ name: String, _ from: inout Conduit, _ to: inout Conduit) {
        check(to.receive(compareGolden(name, from.block(), in: folder)), is: nil, "Swift takes Python's \(name)")
    }
    guard let first = try? pair.near.open(kind: 3, address: address) else { return check(false, "a number is free") }
    _ = pair.near.send(first, Array("hello".utf8))
    try? pair.near.end(first)
    say("near-opens", &pair.near, &pair.far)
    check(pair.far.takeEvents(), is: [.opened(first, kind: 3, address: address)], "and reads what it opens")
    try? pair.far.accept(first)
    check(pair.far.received(first), is: Array("hello".utf8), "and what it says")
    _ = pair.far.send(first, Array("hi!".utf8))
    try? pair.far.close(first)
    say("far-answers", &pair.far, &pair.near)
    check(pair.near.received(first), is: Array("hi!".utf8), "and what it answers")
    say("near-finishes", &pair.near, &pair.far)
    check([pair.near.count, pair.far.count], is: [0, 0], "and that it is over")

    guard let second = try? pair.far.open(kind: 3, address: address) else { return check(false, "a number is free") }
    _ = pair.far.send(second, bulk)
    say("far-opens", &pair.far, &pair.near)
    try? pair.near.refuse(second, error: 111)
    say("near-refuses", &pair.near, &pair.far)
    say("far-resets", &pair.far, &pair.near)
    check([pair.near.count, pair.far.count], is: [0, 0], "and what is refused")

    guard let again = try? pair.near.open(kind: 3, address: address) else { return check(false, "a number is free") }
    _ = pair.near.send(again, bulk)
    try? pair.near.markUrgent(again)
    say("near-again", &pair.near, &pair.far)
    try? pair.far.accept(again)
    check(try? pair.far.bytesToMark(again), is: 16_384, "and which byte is urgent")
    _ = pair.far.received(again, 5000)
    say("far-reads", &pair.far, &pair.near)
    check(try? pair.near.unacknowledged(again), is: 11_384, "and how much was read")
    try? pair.near.reset(again, error: 111)
    say("near-resets", &pair.near, &pair.far)
    say("far-agrees", &pair.far, &pair.near)
    check([pair.near.count, pair.far.count], is: [0, 0], "and what is reset")
}
