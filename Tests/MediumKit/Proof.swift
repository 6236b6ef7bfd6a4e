import SkeinMedium

/// What a block under this seal proves, and that a block under an `other` one isn't taken.
package func proofTests(_ seal: any Seal, other: (any Seal)?) {
    let how = seal.isSealed ? "sealed" : "clear"
    let body = noise(5000)
    let channel = BlockChannel(.data, medium: medium, writer: writer, reader: reader, seal: seal)
    let block = channel.block(place: 9, count: 3, body: body)
    check(block.count, is: 2 * unitSize, "a \(how) block of 5,000 bytes takes two units")
    check(channel.open(block, place: 9)?.body, is: body, "a \(how) block opens where it belongs")
    check(channel.open(block, place: 10) == nil, "not at another place")
    check(channel.open(Array(block[..<unitSize]), place: 9) == nil, "not where only its first unit is there")
    let others =
        [
            BlockChannel(.table, medium: medium, writer: writer, reader: reader, seal: seal),
            BlockChannel(.data, medium: reader, writer: writer, reader: reader, seal: seal),
            BlockChannel(.data, medium: medium, writer: medium, reader: reader, seal: seal),
            BlockChannel(.data, medium: medium, writer: writer, reader: writer, seal: seal),
        ] + (other.map { [BlockChannel(.data, medium: medium, writer: writer, reader: reader, seal: $0)] } ?? [])
    check(
        others.allSatisfy { $0.open(block, place: 9) == nil },
        "a \(how) block doesn't open for another kind, medium, writer, reader or key")
    var survivors = 0
    for byte in 0..<BlockHeader.size + body.count where byte % 97 == 0 || byte < BlockHeader.size {
        var changed = block
        changed[byte] ^= UInt8(1) << UInt8(byte % 8)
        if channel.open(changed, place: 9) != nil { survivors += 1 }
    }
    check(survivors, is: 0, "a \(how) block with one bit changed doesn't open")
    let again = channel.block(place: 9, count: 4, body: body)
    check(
        seal.isSealed != (again[64..<164] == block[64..<164]),
        seal.isSealed
            ? "a block written again is sealed with another nonce" : "a clear block written again has the same body")
}
