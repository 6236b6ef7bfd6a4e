import CSystem

// SCM_RIGHTS: a descriptor of ours that is sent to another process.

/// Sends a message whose control part has descriptors of ours: who receives it gets a relay's stream.
func sendWithStreams(_ descriptor: Int32, _ message: UnsafeMutablePointer<msghdr>, _ flags: Int32) -> Int {
    let length = unsafe Int(message.pointee.msg_controllen)
    guard let copy = unsafe malloc(max(length, 1)) else { return -Int(ENOMEM) }
    defer { unsafe free(copy) }
    unsafe memcpy(copy, message.pointee.msg_control, length)
    var changed = unsafe message.pointee
    unsafe changed.msg_control = unsafe copy
    // As many as the kernel passes in one message (SCM_MAX_FD).
    var streams = InlineArray<253, Int32>(repeating: -1)
    var count = 0
    var control = unsafe sk_cmsg_first(&changed)
    while let header = unsafe control {
        let numbers = unsafe sk_cmsg_descriptors(header)
        for index in unsafe 0..<Int(sk_cmsg_descriptor_count(header)) {
            if let listener = unsafe listener(numbers![index]) { unsafe leaveToTCP(numbers![index], listener) }
            guard let end = unsafe endpoint(numbers![index]) else { continue }
            guard count < 253, let stream = unsafe handOver(numbers![index]) else {
                for index in 0..<count { _ = sk_close(streams[index]) }
                return -Int(EMFILE)
            }
            noteHandedOn(end)
            unsafe numbers![index] = stream
            streams[count] = stream
            count += 1
        }
        unsafe control = unsafe sk_cmsg_next(&changed, header)
    }
    let result = unsafe sk_sendmsg(descriptor, &changed, flags)
    for index in 0..<count { _ = sk_close(streams[index]) }
    return result
}

/// A TCP listener with a hidden one.
private func listener(_ descriptor: Int32) -> UnsafeMutablePointer<StreamSocket>? {
    guard let socket = unsafe streamSocket(descriptor), unsafe socket.pointee.hidden >= 0 && !socket.pointee.isSTP
    else { return nil }
    return unsafe socket
}

/// Whether a message passes a descriptor that is an endpoint or a listener.
func passesEndpoints(_ message: UnsafeMutablePointer<msghdr>) -> Bool {
    guard unsafe descriptorTable != nil, unsafe message.pointee.msg_controllen > 0 else { return false }
    var control = unsafe sk_cmsg_first(message)
    while let header = unsafe control {
        let numbers = unsafe sk_cmsg_descriptors(header)
        for index in unsafe 0..<Int(sk_cmsg_descriptor_count(header))
        where unsafe endpoint(numbers![index]) != nil || listener(numbers![index]) != nil {
            return true
        }
        unsafe control = unsafe sk_cmsg_next(message, header)
    }
    return false
}
