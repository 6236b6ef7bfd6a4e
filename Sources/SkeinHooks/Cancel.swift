import CSystem

// Sleeps in a program's own calls are cancellation points, as those calls are. They go through the C
// library's functions for that; a cancelled thread takes off what it had armed.

/// A system call that sleeps, and what is armed for it.
@safe
struct Sleep {
    @safe enum Call {
        /// One sleeper alone takes its bell by the call that sleeps.
        case receive(Int32)
        case poll(UnsafeMutablePointer<pollfd>, Int, UnsafePointer<timespec>?, UnsafeRawPointer?)
        case epoll(Int32, UnsafeMutableRawPointer, room: Int32, milliseconds: Int32, UnsafeRawPointer?)
    }

    @safe enum Armed {
        case nothing
        /// It is closed.
        case descriptor(Int32)
        case end(UnsafeMutablePointer<LocalState>, Arms)
        case items(PollWork, Int)
        case set(UnsafeMutablePointer<EpollSet>)
    }

    let call: Call
    let armed: Armed

    init(_ call: Call, armed: Armed) {
        self.call = call
        self.armed = armed
    }

    /// Sleeps. The kernel's result, or minus the errno; never returns when the thread is cancelled.
    func run() -> Int {
        var context = self
        let result = unsafe withUnsafeMutablePointer(to: &context) { place in
            unsafe sk_cancellable(
                { unsafe $0!.assumingMemoryBound(to: Sleep.self).pointee.enterKernel() },
                { unsafe $0!.assumingMemoryBound(to: Sleep.self).pointee.disarm() }, place)
        }
        return result < 0 ? -Int(sk_errno()) : result
    }

    private func enterKernel() -> Int {
        switch call {
        case .receive(let descriptor):
            var bell: UInt64 = 0
            return unsafe real.recvfrom!(descriptor, &bell, 8, 0, nil, nil)
        case .poll(let items, let count, let timeout, let mask):
            return unsafe Int(real.ppoll!(items, UInt(count), timeout, mask))
        case .epoll(let set, let events, let room, let milliseconds, let mask):
            return unsafe Int(real.epollWaitMask!(set, events, room, milliseconds, mask))
        }
    }

    private func disarm() {
        switch armed {
        case .nothing: break
        case .descriptor(let descriptor): _ = sk_close(descriptor)
        case .end(let local, let arms): unsafe Endpoint(local).disarm(arms)
        case .items(let work, let count): disarmAll(count, work)
        case .set(let set): unsafe withLock(set) { $0.endSleep() }
        }
    }
}
