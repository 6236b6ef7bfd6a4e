import CSystem

/// Whether a name can be stored there, as the kernel has it: 0, or minus the errno.
func refusal(of address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?) -> Int {
    guard let length = unsafe length else { return -Int(EFAULT) }
    if unsafe length.pointee > UInt32(Int32.max) { return -Int(EINVAL) }
    return unsafe address == nil && length.pointee > 0 ? -Int(EFAULT) : 0
}

private func isUnix(_ address: UnsafeRawPointer?, _ room: UInt32) -> Bool {
    guard let address = unsafe address, room >= 2 else { return false }
    return unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX)
}

@c(getsockname) public func hookGetSocketName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let end = knownEndpoint(descriptor) else {
        let room = unsafe length?.pointee ?? 0
        let result = unsafe real.getsockname!(descriptor, address, length)
        if unsafe result == 0 && isUnix(address, room), let relayed = relayAddresses(descriptor) {
            unsafe length?.pointee = room
            unsafe relayed.local.store(address, length)
        }
        return result
    }
    let refusal = unsafe refusal(of: address, length)
    if refusal != 0 { return Int32(finish(refusal)) }
    unsafe end.localAddress.store(address, length)
    return 0
}

@c(getpeername) public func hookGetPeerName(
    _ descriptor: Int32, _ address: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let end = knownEndpoint(descriptor) else {
        let room = unsafe length?.pointee ?? 0
        let result = unsafe real.getpeername!(descriptor, address, length)
        if unsafe result == 0 && isUnix(address, room), let relayed = relayAddresses(descriptor) {
            unsafe length?.pointee = room
            unsafe relayed.peer.store(address, length)
        }
        return result
    }
    end.askKernel(descriptor)
    if end.isClosed() || !end.isAccepted() { return Int32(finish(-Int(ENOTCONN))) }
    let refusal = unsafe refusal(of: address, length)
    if refusal != 0 { return Int32(finish(refusal)) }
    unsafe end.peerAddress.store(address, length)
    return 0
}
