import CSystem

// A relay's stream in a program that is under Skein too: it shows as the TCP connection that it stands for,
// and says which relay has the connection. The name of the relay's own end says both.

/// What a relay's stream says of itself.
struct RelayAddresses {
    var local = Address()
    var peer = Address()
    /// Names the listener of the relay.
    var relay: UInt32 = 0
}

private func prefix(_ kind: StaticString) -> Text {
    var text = Text("skein/")
    text.append(decimal: UInt64(Layout.version))
    text.append(kind)
    return text
}

/// The name of a relay's stream: the addresses that the program would see on the connection itself, the
/// relay, and a number that no other of its streams has. 105 bytes at most, which a Unix address holds.
func relayName(_ end: Endpoint, relay: UInt32, serial: UInt32) -> HiddenName {
    var text = prefix("/r/")
    func part(_ value: UInt64) {
        text.append(hex: value)
        text.append(byte: 47)
    }
    let block = end.block
    part(UInt64(block.load32(Block.family)))
    part(UInt64(block.load32(Block.localPort)))
    part(UInt64(block.load32(Block.peerPort)))
    part(block.load64(Block.localAddress))
    part(block.load64(Block.localAddress + 8))
    part(block.load64(Block.peerAddress))
    part(block.load64(Block.peerAddress + 8))
    part(UInt64(relay))
    text.append(hex: UInt64(serial & 0xff_ffff))
    return HiddenName(text)
}

/// Where a relay is asked for its connections.
func relayListenerName(_ relay: UInt32) -> HiddenName {
    var text = prefix("/relay/")
    text.append(hex: UInt64(relay))
    return HiddenName(text)
}

/// nil for anything but a relay's stream. One system call.
func relayAddresses(_ descriptor: Int32) -> RelayAddresses? {
    guard unsafe rules.enabled else { return nil }
    var name = sockaddr_un()
    var length = UInt32(MemoryLayout<sockaddr_un>.size)
    guard unsafe sk_getpeername(descriptor, &name, &length) == 0, name.sun_family == UInt16(AF_UNIX) else { return nil }
    return unsafe withUnsafeBytes(of: &name) { bytes in
        unsafe parse(UnsafeRawBufferPointer(rebasing: bytes[..<min(Int(length), bytes.count)]))
    }
}

/// The family's two bytes, a NUL, the prefix, then numbers in hexadecimal, each with a stroke behind it.
private func parse(_ bytes: UnsafeRawBufferPointer) -> RelayAddresses? {
    let expected = prefix("/r/")
    var place = 3
    guard unsafe bytes.count > place + expected.count && bytes[2] == 0,
        unsafe expected.withCString({ unsafe memcmp($0, bytes.baseAddress!.advanced(by: place), expected.count) }) == 0
    else { return nil }
    place += expected.count
    func number() -> UInt64? {
        var value: UInt64 = 0
        while unsafe place < bytes.count && bytes[place] != 47 {
            let byte = unsafe bytes[place]
            guard let digit = hexadecimal(byte) else { return nil }
            value = value << 4 | digit
            place += 1
        }
        place += 1
        return place <= bytes.count ? value : nil
    }
    guard let family = number(), let localPort = number(), let peerPort = number(), let localHigh = number(),
        let localLow = number(), let peerHigh = number(), let peerLow = number(), let relay = number(),
        family == UInt64(AF_INET) || family == UInt64(AF_INET6)
    else { return nil }
    var addresses = RelayAddresses()
    addresses.local.family = UInt16(family)
    addresses.local.port = UInt16(truncatingIfNeeded: localPort)
    (addresses.local.high, addresses.local.low) = (localHigh, localLow)
    addresses.peer.family = UInt16(family)
    addresses.peer.port = UInt16(truncatingIfNeeded: peerPort)
    (addresses.peer.high, addresses.peer.low) = (peerHigh, peerLow)
    addresses.relay = UInt32(truncatingIfNeeded: relay)
    return addresses
}

private func hexadecimal(_ byte: UInt8) -> UInt64? {
    switch byte {
    case 48...57: UInt64(byte - 48)
    case 97...102: UInt64(byte - 87)
    default: nil
    }
}
