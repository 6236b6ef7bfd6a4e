import CSystem

// The status flags of a listener. Accept must never sleep in the kernel on one of its two queues while the other has a
// connection, so underneath a listener of ours is always O_NONBLOCK. What its program has chosen is the file's all the
// same, as on TCP: O_APPEND, which means nothing to a socket, says that it wants to wait. So whoever holds the listener,
// in whatever process, finds and changes one and the same choice, in one word of the kernel's.

/// The flag that stands for a program that wants to wait in accept.
private let waits = Int(O_APPEND)

/// A listener's flags as its program has set them, or minus the errno.
func listenerFlags(_ descriptor: Int32) -> Int { programFlags(sk_fcntl(descriptor, F_GETFL, 0)) }

/// The same of an answer of the kernel's.
func programFlags(_ flags: Int) -> Int {
    flags >= 0 && flags & waits != 0 ? flags & ~(waits | Int(Flag.nonBlock)) : flags
}

/// Sets what the program asks for: 0 or minus the errno.
func setListenerFlags(_ descriptor: Int32, _ flags: Int) -> Int {
    let wish = flags & Int(Flag.nonBlock) == 0 ? waits : 0
    return sk_fcntl(descriptor, F_SETFL, flags & ~waits | Int(Flag.nonBlock) | wish)
}

/// The listener is the kernel's alone from now on, and blocks where its program wants it to.
func giveBackListenerFlags(_ descriptor: Int32) {
    let flags = sk_fcntl(descriptor, F_GETFL, 0)
    // Once for all who hold it: what one of them chooses from then on is the kernel's flag.
    if flags >= 0 && flags & waits != 0 { _ = sk_fcntl(descriptor, F_SETFL, flags & ~(waits | Int(Flag.nonBlock))) }
}
