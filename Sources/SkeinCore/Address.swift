import CSystem

/// An IPv4 or IPv6 address and port, as programs pass it in a sockaddr. Bytes in network order.
package struct Address {
    package var family: UInt16 = 0
    package var port: UInt16 = 0
    /// IPv4 in the low four bytes of `high` (as they lie in memory), or sixteen bytes of IPv6.
    package var high: UInt64 = 0
    package var low: UInt64 = 0
    /// The interface of a link-local address; 0 for all others, of which the kernel takes no notice of it.
    package var scope: UInt32 = 0

    package init() {}

    /// From a sockaddr of `length` bytes; nil unless it is a whole one of a family known here.
    package init?(_ pointer: UnsafeRawPointer?, length: UInt32) {
        guard let pointer = unsafe pointer, 2...Address.sizeLimit ~= length else { return nil }
        family = unsafe pointer.loadUnaligned(as: UInt16.self)
        if family == UInt16(AF_INET) && length >= 16 {
            port = sk_swap16(unsafe pointer.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            high = UInt64(unsafe pointer.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        } else if family == UInt16(AF_INET6) && length >= 24 {
            port = sk_swap16(unsafe pointer.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            high = unsafe pointer.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            low = unsafe pointer.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
            if length >= 28 && isLinkLocal {
                scope = unsafe pointer.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
            }
        } else {
            return nil
        }
    }

    /// Writes the sockaddr into a buffer of `length.pointee` bytes, cut short as the kernel does.
    package func store(_ pointer: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?) {
        guard let pointer = unsafe pointer, let length = unsafe length else { return }
        if isSTP { return unsafe storeSTP(pointer, length) }
        var whole: (UInt64, UInt64, UInt64, UInt32) = (0, 0, 0, 0)
        let size = family == UInt16(AF_INET) ? 16 : 28
        unsafe withUnsafeMutableBytes(of: &whole) { bytes in
            unsafe bytes.storeBytes(of: family, toByteOffset: 0, as: UInt16.self)
            unsafe bytes.storeBytes(of: sk_swap16(port), toByteOffset: 2, as: UInt16.self)
            if size == 16 {
                unsafe bytes.storeBytes(of: UInt32(truncatingIfNeeded: high), toByteOffset: 4, as: UInt32.self)
            } else {
                unsafe bytes.storeBytes(of: high, toByteOffset: 8, as: UInt64.self)
                unsafe bytes.storeBytes(of: low, toByteOffset: 16, as: UInt64.self)
                unsafe bytes.storeBytes(of: scope, toByteOffset: 24, as: UInt32.self)
            }
            unsafe memcpy(pointer, bytes.baseAddress!, min(size, Int(length.pointee)))
        }
        unsafe length.pointee = UInt32(size)
    }

    /// The kernel takes none that says to be longer.
    package static let sizeLimit: UInt32 = 128

    /// The family of STP addresses (`skein.h`): above every family of the kernel, which never sees it.
    package static let stpFamily: UInt16 = 0x5354
    package static let stpSize = 52
    package var isSTP: Bool { family == Address.stpFamily }

    /// 127.0.0.1 and that port.
    package static func loopback(_ port: UInt16) -> Address {
        var address = Address()
        address.family = UInt16(AF_INET)
        address.high = 0x0100_007f
        address.port = port
        return address
    }

    /// ::1 and that port.
    package static func loopback6(_ port: UInt16) -> Address {
        var address = Address()
        address.family = UInt16(AF_INET6)
        address.low = 1 << 56
        address.port = port
        return address
    }

    /// The STP address of a port of the host with that number in the group, or of this one.
    package init(stpPort: UInt16, host: Int? = nil) {
        family = Address.stpFamily
        port = stpPort
        high = host.map { UInt64($0 + 1) } ?? 0
    }

    /// The number of the other host that an STP address is of; nil for this one.
    package var stpHost: Int? { 1...UInt64(Address.groupHosts) ~= high && low == 0 ? Int(high) - 1 : nil }

    /// `struct sockaddr_stp`: family, group, host, port. A host whose name is too long or not known any more is shown by its
    /// number.
    private func storeSTP(_ pointer: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>) {
        var whole = InlineArray<52, UInt8>(repeating: 0)
        if let host = stpHost {
            var names = (group: FixedText<16>(), host: FixedText<32>())
            if let file = GroupFile() {
                file.withGroup { names.group.append($0) }
                file.withName(of: host) { names.host.append($0) }
            }
            if names.host.count == 0 || names.host.isCut {
                names.host = FixedText("#")
                names.host.append(decimal: UInt64(host))
            }
            names.group.withBytes { for index in $0.indices { whole[2 + index] = $0[index] } }
            names.host.withBytes { for index in $0.indices { whole[18 + index] = $0[index] } }
        } else {
            for index in 0..<16 { whole[2 + index] = unsafe process.group[index] }
            for index in 0..<32 { whole[18 + index] = unsafe process.host[index] }
        }
        let size = unsafe min(Address.stpSize, Int(length.pointee))
        unsafe withUnsafeMutableBytes(of: &whole) { bytes in
            unsafe bytes.storeBytes(of: family, as: UInt16.self)
            unsafe bytes.storeBytes(of: port, toByteOffset: 50, as: UInt16.self)
            unsafe memcpy(pointer, bytes.baseAddress!, size)
        }
        unsafe length.pointee = UInt32(Address.stpSize)
    }

    package var isIPv4: Bool { family == UInt16(AF_INET) }
    private static let mappedMark: UInt64 = 0xffff_0000  // ::ffff:0:0, as `low` lies in memory

    package var isMapped: Bool { family == UInt16(AF_INET6) && high == 0 && low & 0xffff_ffff == Address.mappedMark }

    /// 127/8, ::1 or a mapped 127/8.
    package var isLoopback: Bool {
        if isIPv4 { return high & 0xff == 127 }
        if isMapped { return (low >> 32) & 0xff == 127 }
        return high == 0 && low == 1 << 56
    }
    /// 127.255.255.255, to which TCP doesn't connect.
    package var isLoopbackBroadcast: Bool { isIPv4 && high == 0xffff_ff7f }
    package var isAny: Bool { high == 0 && low == 0 }
    /// fe80::/10.
    package var isLinkLocal: Bool { family == UInt16(AF_INET6) && high & 0xc0ff == 0x80fe }

    /// What connect(2) makes of the unspecified address: loopback.
    package func orLoopback() -> Address {
        guard isAny else { return self }
        var copy = self
        if isIPv4 { copy.high = 0x0100_007f } else { copy.low = 1 << 56 }
        return copy
    }

    /// The source that the kernel's routes give to who dials this address of the host from none of its own: 127.0.0.1
    /// for all of 127/8, else the address itself.
    package func source() -> Address {
        var copy = self
        if isIPv4 && isLoopback { copy.high = 0x0100_007f }
        if isMapped && isLoopback { copy.low = Address.mappedMark | 0x0100_007f << 32 }
        return copy
    }

    /// The IPv4 address inside a mapped one, or itself.
    package func unmapped() -> Address {
        guard isMapped else { return self }
        var copy = self
        copy.family = UInt16(AF_INET)
        copy.high = low >> 32
        copy.low = 0
        return copy
    }

    /// The mapped form, as a socket of family AF_INET6 shows an IPv4 peer.
    package func mapped() -> Address {
        guard isIPv4 else { return self }
        var copy = self
        copy.family = UInt16(AF_INET6)
        copy.low = Address.mappedMark | high << 32
        copy.high = 0
        return copy
    }

    package func sameHost(as other: Address) -> Bool {
        family == other.family && high == other.high && low == other.low && scope == other.scope
    }
}

extension SharedMemory {
    /// The address at `host` (16 bytes) and `port`, of the family at `family`.
    package func address(family: Int, host: Int, port: Int) -> Address {
        var address = Address()
        address.family = UInt16(truncatingIfNeeded: load32(family))
        address.high = load64(host)
        address.low = load64(host + 8)
        address.port = UInt16(truncatingIfNeeded: load32(port))
        return address
    }
    package func setAddress(_ address: Address, family: Int, host: Int, port: Int) {
        store32(family, UInt32(address.family))
        store64(host, address.high)
        store64(host + 8, address.low)
        store32(port, UInt32(address.port))
    }
}
