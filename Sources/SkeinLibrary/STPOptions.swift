import CSystem

// Socket options (BSD's) and parameters (STP's own).

@c(STPsetsockopt) public func stpSetSocketOption(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeRawPointer?, _ length: UInt32
) -> Int32 {
    if isSTP(descriptor) && level != SOL_SOCKET { return fail(ENOPROTOOPT, .option) }
    return unsafe reportOption(hookSetOption(descriptor, level, name, value, length))
}

@c(STPgetsockopt) public func stpGetSocketOption(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard isSTP(descriptor) else { return unsafe report(hookGetOption(descriptor, level, name, value, length)) }
    guard level == SOL_SOCKET else { return fail(ENOPROTOOPT, .option) }
    guard let value = unsafe value, let length = unsafe length else { return fail(EFAULT, .option) }
    if unsafe length.pointee > UInt32(Int32.max) { return fail(EINVAL, .option) }
    switch name {
    case 3 /* SO_TYPE */: return unsafe give(1, value, length)
    case 38 /* SO_PROTOCOL */, 39 /* SO_DOMAIN */: return unsafe give(Int32(Address.stpFamily), value, length)
    case 17 /* SO_PEERCRED */: return unsafe end(sk_getsockopt(descriptor, SOL_SOCKET, name, value, length))
    case 7, 8 /* SO_SNDBUF, SO_RCVBUF */:
        // What was asked for is remembered in TCP's terms; the Unix socket has sizes of its own.
        if let socket = unsafe unconnected(descriptor) {
            let option = name == 7 ? Option.sendBuffer : Option.receiveBuffer
            if unsafe socket.pointee.optionsSet & (1 << UInt32(option.rawValue)) != 0 {
                return unsafe give(socket.pointee.options[option.rawValue], value, length)
            }
            return unsafe give(name == 7 ? 2_626_560 : 131_072, value, length)
        }
    default: break
    }
    return unsafe reportOption(hookGetOption(descriptor, level, name, value, length))
}

private func give(_ answer: Int32, _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>) -> Int32 {
    var copy = answer
    let count = unsafe min(4, Int(length.pointee))
    unsafe memcpy(value, &copy, count)
    unsafe length.pointee = UInt32(count)
    return succeed(0)
}

// MARK: - STP's parameters

/// The numbers of skein.h.
private enum Parameter: Int32 {
    case ring = 1
    case spin, connect, closeLimit, giftLimit, carrier, carrierInUse, bytesIn, bytesOut, bells, sleeps
}

@c(STPsetopt) public func stpSetParameter(
    _ descriptor: Int32, _ option: Int32, _ value: UnsafeRawPointer?, _ length: UInt32
) -> Int32 {
    guard isSTP(descriptor) else { return refuseOther(descriptor) }
    guard let parameter = Parameter(rawValue: option), option < Parameter.carrierInUse.rawValue else {
        return fail(ENOPROTOOPT, .option)
    }
    guard let value = unsafe value else { return fail(EFAULT, .option) }
    if parameter == .carrier { return unsafe setCarrier(descriptor, value, length) }
    guard length >= 4 else { return fail(EINVAL, .option) }
    let number = unsafe value.loadUnaligned(as: Int32.self)
    switch parameter {
    case .ring:
        guard number >= 0 && number <= 2 else { return fail(EINVAL, .option) }
        if UInt32(number) == EndSetting.largeRing, let end = endpoint(descriptor), end.block.load64(Block.tail) != 0 {
            return fail(EISCONN, .state)
        }
        change(descriptor, clear: EndSetting.smallRing | EndSetting.largeRing, set: UInt32(number))
    case .spin:
        guard number >= 0, let policy = Spin.Policy(rawValue: UInt8(truncatingIfNeeded: min(number, 255))) else {
            return fail(EINVAL, .option)
        }
        unsafe process.spinPolicy = policy
    case .connect:
        guard number >= 0 && number <= 1 else { return fail(EINVAL, .option) }
        change(descriptor, clear: EndSetting.queuedConnect, set: number == 1 ? EndSetting.queuedConnect : 0)
    case .closeLimit, .giftLimit:
        guard number >= 0 else { return fail(EINVAL, .option) }
        setLimit(descriptor, parameter, UInt32(number))
    default: return fail(ENOPROTOOPT, .option)
    }
    return succeed(0)
}

/// There is one carrier inside a host; asking for it by name changes nothing, asking for another fails.
private func setCarrier(_ descriptor: Int32, _ value: UnsafeRawPointer, _ length: UInt32) -> Int32 {
    let isMemory = unsafe isText("memory", value, length)
    guard unsafe isMemory || isText("any", value, length) else { return fail(EINVAL, .option) }
    change(descriptor, clear: EndSetting.memoryCarrier, set: isMemory ? EndSetting.memoryCarrier : 0)
    return succeed(0)
}

/// With or without the NUL.
private func isText(_ name: StaticString, _ value: UnsafeRawPointer, _ length: UInt32) -> Bool {
    let count = name.utf8CodeUnitCount
    return unsafe (Int(length) == count || Int(length) == count + 1) && memcmp(value, name.utf8Start, count) == 0
}

private func change(_ descriptor: Int32, clear: UInt32, set: UInt32) {
    if let end = endpoint(descriptor) {
        end.setRings(end.block.load32(Block.settings) & ~clear | set)
    } else if let socket = unsafe unconnected(descriptor) {
        unsafe socket.pointee.stp.settings = unsafe socket.pointee.stp.settings & ~clear | set
    }
}

private func setLimit(_ descriptor: Int32, _ parameter: Parameter, _ milliseconds: UInt32) {
    if let end = endpoint(descriptor) {
        end.block.store32(parameter == .closeLimit ? Block.closeLimit : Block.giftLimit, milliseconds)
    } else if let socket = unsafe unconnected(descriptor) {
        if parameter == .closeLimit {
            unsafe socket.pointee.stp.closeLimit = milliseconds
        } else {
            unsafe socket.pointee.stp.giftLimit = milliseconds
        }
    }
}

@c(STPgetopt) public func stpGetParameter(
    _ descriptor: Int32, _ option: Int32, _ value: UnsafeMutableRawPointer?, _ length: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard isSTP(descriptor) else { return refuseOther(descriptor) }
    guard let parameter = Parameter(rawValue: option) else { return fail(ENOPROTOOPT, .option) }
    guard let value = unsafe value, let length = unsafe length else { return fail(EFAULT, .option) }
    if unsafe length.pointee > UInt32(Int32.max) { return fail(EINVAL, .option) }
    let end = endpoint(descriptor)
    let socket = unsafe unconnected(descriptor)
    let settings = unsafe end?.block.load32(Block.settings) ?? socket?.pointee.stp.settings ?? 0
    switch parameter {
    case .ring: return unsafe give(Int32(settings & 3), value, length)
    case .spin: return unsafe give(Int32(process.spinPolicy.rawValue), value, length)
    case .connect: return unsafe give(settings & EndSetting.queuedConnect != 0 ? 1 : 0, value, length)
    case .closeLimit:
        return unsafe give(
            Int32(bitPattern: end?.block.load32(Block.closeLimit) ?? socket?.pointee.stp.closeLimit ?? 0), value, length
        )
    case .giftLimit:
        return unsafe give(
            Int32(bitPattern: end?.block.load32(Block.giftLimit) ?? socket?.pointee.stp.giftLimit ?? 0), value, length)
    case .carrier: return unsafe giveText(settings & EndSetting.memoryCarrier != 0 ? "memory" : "any", value, length)
    case .carrierInUse: return unsafe giveText(end != nil ? "memory" : "", value, length)
    case .bytesIn, .bytesOut, .bells, .sleeps: return unsafe giveCounter(end, parameter, value, length)
    }
}

private func giveText(
    _ text: StaticString, _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>
) -> Int32 {
    let size = text.utf8CodeUnitCount + 1
    guard unsafe Int(length.pointee) >= size else { return fail(EINVAL, .option) }
    unsafe memcpy(value, text.utf8Start, size)
    unsafe length.pointee = UInt32(size)
    return succeed(0)
}

private func giveCounter(
    _ end: Endpoint?, _ parameter: Parameter, _ value: UnsafeMutableRawPointer, _ length: UnsafeMutablePointer<UInt32>
) -> Int32 {
    guard unsafe length.pointee >= 8 else { return fail(EINVAL, .option) }
    var count: UInt64 = 0
    if let end {
        let record = unsafe end.local.pointee.record
        switch parameter {
        case .bytesIn: count = record.load64(SocketTable.Record.bytesIn)
        case .bytesOut: count = record.load64(SocketTable.Record.bytesOut)
        case .bells: count = record.load64(SocketTable.Record.bells)
        default: count = record.load64(SocketTable.Record.sleeps)
        }
    }
    unsafe value.storeBytes(of: count, as: UInt64.self)
    unsafe length.pointee = 8
    return succeed(0)
}
