import CSystem

// Programs that go from one network namespace to another. A socket stays in the one that it was made in, and TCP
// connects it there. What is asked here, listeners and hidden names, is answered for the thread's own.

/// A thread has entered another namespace at some time; else all sockets made here are of the process's own.
nonisolated(unsafe) private var crossesNetworks = false

private let newNetwork: Int32 = 0x4000_0000  // CLONE_NEWNET

@c(setns) public func hookSetNamespace(_ descriptor: Int32, _ kinds: Int32) -> Int32 {
    // 0 is whatever the descriptor stands for.
    if kinds == 0 || kinds & newNetwork != 0 { unsafe crossesNetworks = true }
    return real.setns!(descriptor, kinds)
}

@c(unshare) public func hookUnshare(_ kinds: Int32) -> Int32 {
    if kinds & newNetwork != 0 { unsafe crossesNetworks = true }
    return real.unshare!(kinds)
}

/// Whether a socket belongs to the network namespace that this thread is in; not where that can't be found out. Asks
/// the kernel only in a program that has been in two.
func isAtHome(_ descriptor: Int32) -> Bool {
    guard unsafe crossesNetworks else { return true }
    let made = sk_socket(AF_UNIX, 5 | Flag.closeOnExec, 0)
    guard made >= 0 else { return false }
    defer { _ = sk_close(Int32(made)) }
    guard let here = network(of: Int32(made)) else { return false }
    return here == network(of: descriptor)
}
