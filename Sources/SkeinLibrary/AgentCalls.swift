import CSystem

// The calls of Sources/CSkein/agent.h: how the agent stands in for other hosts.

@c(skein_agent_listen) public func agentListen(_ backlog: Int32) -> Int32 {
    let descriptor = stpSocket(Int32(Address.stpFamily), 1 | Flag.nonBlock | Flag.closeOnExec, 0)
    guard descriptor >= 0, let socket = unsafe unconnected(descriptor) else { return -1 }
    let name = unsafe HiddenName(agentOfDevice: process.folderDevice, inode: process.folderInode)
    var address = name.address
    var result = unsafe sk_bind(descriptor, &address, name.length)
    if result == 0 { result = sk_listen(descriptor, backlog) }
    if result == 0 { result = unsafe beginListening(descriptor, socket) }
    if result != 0 {
        _ = hookClose(descriptor)
        return end(result)
    }
    unsafe socket.pointee.bound4or6 = Address()
    unsafe socket.pointee.stp.settings |= EndSetting.answersLater
    return descriptor
}

@c(skein_agent_accepted) public func agentAccepted(_ descriptor: Int32) -> Int32 {
    guard let end = endpoint(descriptor) else { return fail(EBADF, .state) }
    end.announceAcceptance(descriptor)
    return 0
}

@c(skein_agent_refuse) public func agentRefuse(_ descriptor: Int32, _ error: Int32) -> Int32 {
    guard let end = endpoint(descriptor) else { return fail(EBADF, .state) }
    end.refuse(error)
    return 0
}

@c(skein_agent_connect) public func agentConnect(
    _ server: UnsafeRawPointer?, _ client: UnsafeRawPointer?, _ length: UInt32
) -> Int32 {
    guard becomeReady() else { return -1 }
    guard let dialled = unsafe Address(server, length: length), let from = unsafe Address(client, length: length),
        dialled.isOfGroup, from.isOfGroup
    else { return fail(EINVAL, .address) }
    let made = connectEndForOther(to: dialled, from: from)
    guard let end = made.endpoint else { return fail(errno(for: made.reason), .noListener) }
    // A number that is nobody's yet: the one of the connecting is given up.
    let number = sk_fcntl(made.descriptor, F_DUPFD_CLOEXEC, 0)
    closeConnecting(made.descriptor)
    guard number >= 0 else {
        end.release(connected: false)
        return fail(Int32(-number), .descriptors)
    }
    end.setDefaultOptions()
    end.set(EndFlag.nonBlocking)
    installEndpoint(end, Int32(number))
    return Int32(number)
}

private func errno(for reason: Reason) -> Int32 {
    switch reason {
    case .noMemory: ENOMEM
    case .noDescriptor: EMFILE
    case .backlogFull: EAGAIN
    default: ECONNREFUSED
    }
}
