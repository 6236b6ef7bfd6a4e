import CSystem

/// The system's own functions, found behind us at set-up, so that another preload still sees its calls
/// and the calls stay cancellation points. Where one is missing the inline system call serves.
@safe
struct RealFunctions {
    typealias Buffer3 = @convention(c) (Int32, UnsafeMutableRawPointer?, Int) -> Int
    typealias Buffer4 = @convention(c) (Int32, UnsafeMutableRawPointer?, Int, Int32) -> Int
    typealias Buffer6 =
        @convention(c) (
            Int32, UnsafeMutableRawPointer?, Int, Int32, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?
        ) -> Int
    typealias SendTo = @convention(c) (Int32, UnsafeRawPointer?, Int, Int32, UnsafeRawPointer?, UInt32) -> Int
    typealias Vector = @convention(c) (Int32, UnsafePointer<iovec>?, Int32) -> Int
    typealias Message = @convention(c) (Int32, UnsafeMutablePointer<msghdr>?, Int32) -> Int
    typealias Messages =
        @convention(c) (Int32, UnsafeMutableRawPointer?, UInt32, Int32, UnsafeMutablePointer<timespec>?) -> Int32
    typealias Int1 = @convention(c) (Int32) -> Int32
    typealias Int2 = @convention(c) (Int32, Int32) -> Int32
    typealias Int3 = @convention(c) (Int32, Int32, Int32) -> Int32
    typealias AddressIn = @convention(c) (Int32, UnsafeRawPointer?, UInt32) -> Int32
    typealias AddressOut = @convention(c) (Int32, UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt32>?) -> Int32
    typealias Accept4 = @convention(c) (Int32, UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt32>?, Int32) -> Int32
    typealias GetOption =
        @convention(c) (
            Int32, Int32, Int32, UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt32>?
        ) -> Int32
    typealias SetOption = @convention(c) (Int32, Int32, Int32, UnsafeRawPointer?, UInt32) -> Int32
    typealias Control = @convention(c) (Int32, Int, UnsafeMutableRawPointer?) -> Int32
    typealias Poll = @convention(c) (UnsafeMutablePointer<pollfd>?, UInt, Int32) -> Int32
    typealias PollMask =
        @convention(c) (
            UnsafeMutablePointer<pollfd>?, UInt, UnsafePointer<timespec>?, UnsafeRawPointer?
        ) -> Int32
    typealias Select =
        @convention(c) (
            Int32, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?,
            UnsafeMutablePointer<timeval>?
        ) -> Int32
    typealias SelectMask =
        @convention(c) (
            Int32, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?,
            UnsafePointer<timespec>?,
            UnsafeRawPointer?
        ) -> Int32
    typealias EpollControl = @convention(c) (Int32, Int32, Int32, UnsafeMutableRawPointer?) -> Int32
    typealias EpollWait = @convention(c) (Int32, UnsafeMutableRawPointer?, Int32, Int32) -> Int32
    typealias EpollWaitMask = @convention(c) (Int32, UnsafeMutableRawPointer?, Int32, Int32, UnsafeRawPointer?) -> Int32
    typealias SendFile = @convention(c) (Int32, Int32, UnsafeMutablePointer<Int>?, Int) -> Int
    typealias Splice =
        @convention(c) (
            Int32, UnsafeMutablePointer<Int>?, Int32, UnsafeMutablePointer<Int>?, Int, UInt32
        ) -> Int
    typealias CloseRange = @convention(c) (UInt32, UInt32, Int32) -> Int32
    typealias CloseFrom = @convention(c) (Int32) -> Void
    typealias Fork = @convention(c) () -> Int32
    typealias SetAction = @convention(c) (Int32, UnsafeRawPointer?, UnsafeMutableRawPointer?) -> Int32
    typealias SetHandler = @convention(c) (Int32, UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?

    var read: Buffer3?, write: Buffer3?, recv: Buffer4?, send: Buffer4?
    var recvfrom: Buffer6?, sendto: SendTo?
    var readv: Vector?, writev: Vector?
    var recvmsg: Message?, sendmsg: Message?, recvmmsg: Messages?, sendmmsg: Messages?
    var socket: Int3?, bind: AddressIn?, listen: Int2?, connect: AddressIn?
    var accept4: Accept4?, getsockname: AddressOut?, getpeername: AddressOut?
    var getsockopt: GetOption?, setsockopt: SetOption?, shutdown: Int2?
    var close: Int1?, dup: Int1?, dup2: Int2?, dup3: Int3?
    var fcntl: Control?, ioctl: Control?
    var poll: Poll?, ppoll: PollMask?, select: Select?, pselect: SelectMask?
    var epollCreate1: Int1?, epollControl: EpollControl?, epollWait: EpollWait?, epollWaitMask: EpollWaitMask?
    var sendfile: SendFile?, splice: Splice?
    var closeRange: CloseRange?, closeFrom: CloseFrom?
    var fork: Fork?
    var setns: Int2?, unshare: Int1?
    var jump: Jump?, jumpChecked: Jump?
    var sigaction: SetAction?, signal: SetHandler?, signalOnce: SetHandler?, signalSet: SetHandler?
    var signalInterrupt: Int2?

    init() {}

    mutating func find() {
        func next<Function>(_ name: UnsafePointer<CChar>, _ type: Function.Type) -> Function? {
            guard let symbol = unsafe sk_next_symbol(name) else { return nil }
            return unsafe unsafeBitCast(symbol, to: type)
        }
        unsafe read = unsafe next("read", Buffer3.self)
        unsafe write = unsafe next("write", Buffer3.self)
        unsafe recv = unsafe next("recv", Buffer4.self)
        unsafe send = unsafe next("send", Buffer4.self)
        unsafe recvfrom = unsafe next("recvfrom", Buffer6.self)
        unsafe sendto = unsafe next("sendto", SendTo.self)
        unsafe readv = unsafe next("readv", Vector.self)
        unsafe writev = unsafe next("writev", Vector.self)
        unsafe recvmsg = unsafe next("recvmsg", Message.self)
        unsafe sendmsg = unsafe next("sendmsg", Message.self)
        unsafe recvmmsg = unsafe next("recvmmsg", Messages.self)
        unsafe sendmmsg = unsafe next("sendmmsg", Messages.self)
        socket = unsafe next("socket", Int3.self)
        unsafe bind = unsafe next("bind", AddressIn.self)
        listen = unsafe next("listen", Int2.self)
        unsafe connect = unsafe next("connect", AddressIn.self)
        unsafe accept4 = unsafe next("accept4", Accept4.self)
        unsafe getsockname = unsafe next("getsockname", AddressOut.self)
        unsafe getpeername = unsafe next("getpeername", AddressOut.self)
        unsafe getsockopt = unsafe next("getsockopt", GetOption.self)
        unsafe setsockopt = unsafe next("setsockopt", SetOption.self)
        shutdown = unsafe next("shutdown", Int2.self)
        close = unsafe next("close", Int1.self)
        dup = unsafe next("dup", Int1.self)
        dup2 = unsafe next("dup2", Int2.self)
        dup3 = unsafe next("dup3", Int3.self)
        unsafe fcntl = unsafe next("fcntl64", Control.self) ?? next("fcntl", Control.self)
        unsafe ioctl = unsafe next("ioctl", Control.self)
        unsafe poll = unsafe next("poll", Poll.self)
        unsafe ppoll = unsafe next("ppoll", PollMask.self)
        unsafe select = unsafe next("select", Select.self)
        unsafe pselect = unsafe next("pselect", SelectMask.self)
        epollCreate1 = unsafe next("epoll_create1", Int1.self)
        unsafe epollControl = unsafe next("epoll_ctl", EpollControl.self)
        unsafe epollWait = unsafe next("epoll_wait", EpollWait.self)
        unsafe epollWaitMask = unsafe next("epoll_pwait", EpollWaitMask.self)
        unsafe sendfile = unsafe next("sendfile", SendFile.self)
        unsafe splice = unsafe next("splice", Splice.self)
        closeRange = unsafe next("close_range", CloseRange.self)
        closeFrom = unsafe next("closefrom", CloseFrom.self)
        fork = unsafe next("fork", Fork.self)
        setns = unsafe next("setns", Int2.self)
        unshare = unsafe next("unshare", Int1.self)
        unsafe jump = unsafe next("siglongjmp", Jump.self)
        unsafe jumpChecked = unsafe next("__longjmp_chk", Jump.self)
        unsafe sigaction = unsafe next("sigaction", SetAction.self)
        unsafe signal = unsafe next("signal", SetHandler.self)
        unsafe signalOnce = unsafe next("sysv_signal", SetHandler.self)
        unsafe signalSet = unsafe next("sigset", SetHandler.self)
        signalInterrupt = unsafe next("siginterrupt", Int2.self)
    }
}

nonisolated(unsafe) var realFunctions = RealFunctions()

/// The functions of the system; found now if a hook runs before our initialiser did.
@inline(__always) var real: RealFunctions {
    _read {
        if unsafe realFunctions.close == nil { unsafe realFunctions.find() }
        yield unsafe realFunctions
    }
}
