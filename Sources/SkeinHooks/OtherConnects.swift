import CSystem

// Connections that TCP alone can make: those that begin with data (TCP Fast Open by sendto), and MPTCP's. They are
// recorded as such, and --strict refuses them as it refuses what connect would bring to TCP.

private let multipath: UInt64 = 262  // IPPROTO_MPTCP

/// A connect of a socket that isn't known here, which may be one of MPTCP. True where --strict forbids it.
func forbidsForeignConnect(_ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32) -> Bool {
    guard unsafe rules.isStrict, entry(descriptor) == 0, let target = unsafe Address(address, length: length) else {
        return false
    }
    return isForbidden(target) && protocolNumber(of: descriptor) == multipath
}

/// No rule leaves the address to TCP.
private func isForbidden(_ target: Address) -> Bool {
    unsafe rules.enabled && rules.isStrict && rules.allows(target.orLoopback())
}

/// A call that sends with MSG_FASTOPEN to that address.
func sendOpening(_ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32, _ send: () -> Int) -> Int {
    let number = protocolNumber(of: descriptor)
    guard let target = unsafe Address(address, length: length), number == 6 || number == multipath else {
        return send()
    }
    if isForbidden(target) {
        logFallBack(descriptor, .optionSet)
        return finish(-Int(EHOSTUNREACH))
    }
    let result = send()
    if result >= 0 || sk_errno() == EINPROGRESS, let socket = unsafe streamSocket(descriptor) {
        unsafe recordFallBack(descriptor, socket, target, .optionSet)
        logFallBack(descriptor, .optionSet)
    }
    return result
}
