import CSystem

/// An STP address as a program passes it: checked, or the errno and code that say what is wrong.
struct STPName {
    var port: UInt16 = 0
    /// The group and the host are this process's own, or left empty.
    var isOfThisHost = false
    /// Otherwise, if the agent knows it: the numbers of that host and of this one in the group.
    var others: (host: Int, own: Int)?
}

extension STPName {
    private static let groupOffset = 2
    private static let hostOffset = 18
    private static let portOffset = 50

    /// nil with errno and the code set.
    init?(_ pointer: UnsafeRawPointer?, length: UInt32) {
        guard let pointer = unsafe pointer else {
            _ = fail(EFAULT, .address)
            return nil
        }
        guard 2...Address.sizeLimit ~= length else {
            _ = fail(EINVAL, .address)
            return nil
        }
        guard unsafe pointer.loadUnaligned(as: UInt16.self) == Address.stpFamily else {
            _ = fail(EAFNOSUPPORT, .address)
            return nil
        }
        guard length >= UInt32(Address.stpSize), unsafe isTerminated(pointer, STPName.groupOffset, 16),
            unsafe isTerminated(pointer, STPName.hostOffset, 32)
        else {
            _ = fail(EINVAL, .address)
            return nil
        }
        port = unsafe pointer.loadUnaligned(fromByteOffset: STPName.portOffset, as: UInt16.self)
        isOfThisHost = true
        var index = 0
        while unsafe pointer.load(fromByteOffset: STPName.groupOffset, as: UInt8.self) != 0 && index < 16 {
            let byte = unsafe pointer.load(fromByteOffset: STPName.groupOffset + index, as: UInt8.self)
            if unsafe byte != process.group[index] { isOfThisHost = false }
            if byte == 0 { break }
            index += 1
        }
        index = 0
        while unsafe pointer.load(fromByteOffset: STPName.hostOffset, as: UInt8.self) != 0 && index < 32 {
            let byte = unsafe pointer.load(fromByteOffset: STPName.hostOffset + index, as: UInt8.self)
            if unsafe byte != process.host[index] { isOfThisHost = false }
            if byte == 0 { break }
            index += 1
        }
        if !isOfThisHost { unsafe lookUp(pointer) }
    }

    /// By the names that the agent tells: an empty group is its group.
    private mutating func lookUp(_ pointer: UnsafeRawPointer) {
        guard let file = GroupFile() else { return }
        var isOfGroup = unsafe pointer.load(fromByteOffset: STPName.groupOffset, as: UInt8.self) == 0
        let group = unsafe (pointer + STPName.groupOffset).assumingMemoryBound(to: CChar.self)
        unsafe withName(group) { group in file.withGroup { if $0.isEqual(to: group) { isOfGroup = true } } }
        let name = unsafe (pointer + STPName.hostOffset).assumingMemoryBound(to: CChar.self)
        guard isOfGroup, let host = unsafe withName(name, { file.number(of: $0) }) else { return }
        if host == file.host { isOfThisHost = true } else { others = (host, file.host) }
    }
}

private func isTerminated(_ pointer: UnsafeRawPointer, _ offset: Int, _ size: Int) -> Bool {
    for index in 0..<size where unsafe pointer.load(fromByteOffset: offset + index, as: UInt8.self) == 0 { return true }
    return false
}

/// Whether a descriptor is an STP socket, connected or not.
func isSTP(_ descriptor: Int32) -> Bool {
    if let end = endpoint(descriptor) { return end.block.load32(Block.family) == UInt32(Address.stpFamily) }
    if let socket = unsafe streamSocket(descriptor) { return unsafe socket.pointee.isSTP }
    return false
}

/// The STP socket behind a descriptor while it is not connected.
func unconnected(_ descriptor: Int32) -> UnsafeMutablePointer<StreamSocket>? {
    guard let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.isSTP else { return nil }
    return unsafe socket
}

private func store(
    _ address: Address, _ pointer: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard unsafe pointer != nil && length != nil else { return fail(EFAULT, .address) }
    unsafe address.store(pointer, length)
    return succeed(0)
}

@c(STPgethostbyname) public func stpGetHostByName(
    _ name: UnsafePointer<CChar>?, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard becomeReady() else { return -1 }
    guard let name = unsafe name else { return fail(EFAULT, .address) }
    let own = unsafe withUnsafeBytes(of: &process.host) { bytes in
        unsafe strcmp(name, bytes.baseAddress!.assumingMemoryBound(to: CChar.self)) == 0
    }
    guard unsafe own || name[0] == 0 || strcmp(name, "localhost") == 0 else {
        guard let file = GroupFile(), let host = unsafe withName(name, { file.number(of: $0) }) else {
            return fail(EHOSTUNREACH, .noAgent)
        }
        return unsafe store(Address(stpPort: 0, host: host == file.host ? nil : host), address, length)
    }
    return unsafe store(Address(stpPort: 0), address, length)
}

@c(STPgetsockname) public func stpGetSocketName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let socket = unsafe unconnected(descriptor) else {
        return unsafe report(hookGetSocketName(descriptor, address, length))
    }
    return unsafe store(Address(stpPort: socket.pointee.stp.port), address, length)
}

@c(STPgethostname) public func stpGetHostName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    if let socket = unsafe unconnected(descriptor), unsafe socket.pointee.stp.port == 0 {
        let result = unsafe takePort(socket, 0)
        if result != 0 { return end(result) }
    }
    return unsafe stpGetSocketName(descriptor, address, length)
}

@c(STPgetpeername) public func stpGetPeerName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    if unsafe unconnected(descriptor) != nil { return fail(ENOTCONN, .state) }
    if let end = endpoint(descriptor), !end.isAccepted() { return fail(ENOTCONN, .state) }
    return unsafe report(hookGetPeerName(descriptor, address, length))
}
