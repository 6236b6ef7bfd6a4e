import SkeinDevice

/// The contract of every kind of device that can be written.
func contract(_ kind: String, _ device: any Device) {
    let iop = IOP(device)
    let size = iop.length.bytes
    guard var model = iop.read(at: 0, count: size) else { return check(false, "\(kind): all of it can be read") }
    check(iop.features.contains(.writable), "\(kind): it can be written")
    check(size > 0 && !device.description.isEmpty, "\(kind): it has a size and a description")
    contentTests(kind, iop, &model)
    rangeTests(kind, iop, &model)
    concurrencyTests(kind, iop)
}

private func contentTests(_ kind: String, _ iop: IOP, _ model: inout [UInt8]) {
    let size = iop.length.bytes
    var state: UInt64 = 42
    func random(_ limit: UInt64) -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return (state >> 24) % limit
    }
    var answers: [Answer] = []
    var isRight = true
    for round in 0..<200 {
        let count = min(size, [1, 511, 4096, 4097, 65_536, 200_000][Int(random(6))])
        let offset = random(size - count + 1)
        let range = Int(offset)..<Int(offset + count)
        switch round % 5 {
        case 3:
            answers.append(iop.send(.zeroes, round % 2 == 0 ? .noHole : [], at: offset, count: count))
            model.replaceSubrange(range, with: repeatElement(0, count: Int(count)))
        default:
            let bytes = noise(Int(count), seed: UInt64(round))
            answers.append(iop.write(bytes, at: offset, round % 7 == 0 ? .durable : []))
            model.replaceSubrange(range, with: bytes)
        }
        let start = offset > 5000 ? offset - 5000 : 0
        let end = min(size, offset + count + 5000)
        if iop.read(at: start, count: end - start) != Array(model[Int(start)..<Int(end)]) { isRight = false }
    }
    check(
        answers.allSatisfy { $0 == .done }, "\(kind): writes and zeroes are done",
        saw: "\(Set(answers.map { "\($0)" }))")
    check(isRight, "\(kind): what was written is read, and nothing around it changes")
    check(iop.read(at: 0, count: size) == model, "\(kind): all of it is what was written, at the end")
    check(iop.send(.flush), is: .done, "\(kind): it can be flushed")
}

private func rangeTests(_ kind: String, _ iop: IOP, _ model: inout [UInt8]) {
    let size = iop.length.bytes
    check(iop.send(.cache, at: 10, count: size - 10), is: .done, "\(kind): it takes a hint of what will be read")
    let extents = iop.extents(at: 0, count: size)
    check(extents.reduce(0) { $0 + $1.length }, is: size, "\(kind): extents cover the whole, asked for in pieces")
    var position = 0
    var isZero = true
    for extent in extents {
        let end = position + Int(extent.length)
        if extent.kind.contains(.zero) && model[position..<end].contains(where: { $0 != 0 }) { isZero = false }
        position = end
    }
    check(isZero, "\(kind): what is called zero is zero")
    check(iop.extents(at: 5, count: 1).map(\.length), is: [1], "\(kind): an extent doesn't go beyond what was asked")
    check(iop.send(.trim, at: 8192, count: 65_536), is: .done, "\(kind): a range can be given back")
    guard let after = iop.read(at: 0, count: size) else { return check(false, "\(kind): it can be read after a trim") }
    check(
        Array(after[..<8192]) == Array(model[..<8192]) && Array(after[73_728...]) == Array(model[73_728...]),
        "\(kind): giving back changes nothing around it")
    check(iop.write(Array(model[8192..<73_728]), at: 8192), is: .done, "\(kind): what was given back can be written")
    check(iop.read(at: 0, count: size) == model, "\(kind): and is as before")
    check(
        iop.send(.zeroes, .fastZero, at: 4096, count: 8192) != .failed(5), "\(kind): quick zeroes are done or refused")
}

private func concurrencyTests(_ kind: String, _ iop: IOP) {
    let part = iop.length.bytes / 4
    together(
        (0..<4).map { index in
            {
                // Neighbours that share blocks: none may undo what another writes.
                for round in 0..<30 {
                    let bytes = noise(777, seed: UInt64(index * 100 + round))
                    _ = iop.write(bytes, at: UInt64(index) * part + UInt64(round) * 777)
                }
            }
        })
    let isRight = (0..<4).allSatisfy { index in
        (0..<30).allSatisfy { round in
            iop.read(at: UInt64(index) * part + UInt64(round) * 777, count: 777)
                == noise(777, seed: UInt64(index * 100 + round))
        }
    }
    check(isRight, "\(kind): threads that write side by side don't undo each other")
}
