import CSystem

// The C library's second names of calls: each is the call.

@c(__read) public func hookReadAlias(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    unsafe hookRead(descriptor, buffer, count)
}

@c(__write) public func hookWriteAlias(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    unsafe hookWrite(descriptor, buffer, count)
}

@c(__send) public func hookSendAlias(
    _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int, _ flags: Int32
) -> Int { unsafe hookSend(descriptor, buffer, count, flags) }

@c(__connect) public func hookConnectAlias(
    _ descriptor: Int32, _ address: UnsafeRawPointer?, _ length: UInt32
) -> Int32 { unsafe hookConnect(descriptor, address, length) }

@c(__close) public func hookCloseAlias(_ descriptor: Int32) -> Int32 { hookClose(descriptor) }

@c(__dup2) public func hookDup2Alias(_ descriptor: Int32, _ target: Int32) -> Int32 { hookDup2(descriptor, target) }

@c(__fcntl) public func hookControlAlias(
    _ descriptor: Int32, _ command: Int32, _ argument: UnsafeMutableRawPointer?
) -> Int32 { unsafe hookControl(descriptor, command, argument) }

@c(__poll) public func hookPollAlias(
    _ items: UnsafeMutablePointer<pollfd>?, _ count: UInt, _ timeout: Int32
) -> Int32 { unsafe hookPoll(items, count, timeout) }

@c(__select) public func hookSelectAlias(
    _ count: Int32, _ read: UnsafeMutableRawPointer?, _ write: UnsafeMutableRawPointer?,
    _ except: UnsafeMutableRawPointer?, _ timeout: UnsafeMutablePointer<timeval>?
) -> Int32 { unsafe hookSelect(count, read, write, except, timeout) }

@c(__fork) public func hookForkAlias() -> Int32 { hookFork() }
