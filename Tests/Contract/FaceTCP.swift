import CContract
import Glibc

extension Face {
    /// The C library's own calls: kernel TCP, or whatever a preloaded library makes of it.
    static let tcp = Face(
        name: "tcp",
        contract: .tcp,
        families: [.v4, .v6],
        address: { Address.loopback($0, port: $1) },
        setParameter: { _, _, _ in
            errno = ENOPROTOOPT
            return -1
        },
        socket: { Glibc.socket($0, $1, $2) },
        bind: { Glibc.bind($0, $1, $2) },
        listen: { Glibc.listen($0, $1) },
        accept: { Glibc.accept($0, $1, $2) },
        accept4: { CContract.accept4($0, $1, $2, $3) },
        connect: { Glibc.connect($0, $1, $2) },
        getsockname: { Glibc.getsockname($0, $1, $2) },
        getpeername: { Glibc.getpeername($0, $1, $2) },
        getsockopt: { Glibc.getsockopt($0, $1, $2, $3, $4) },
        setsockopt: { Glibc.setsockopt($0, $1, $2, $3, $4) },
        shutdown: { Glibc.shutdown($0, $1) },
        close: { Glibc.close($0) },
        read: { Glibc.read($0, $1, $2) },
        write: { Glibc.write($0, $1, $2) },
        recv: { Glibc.recv($0, $1, $2, $3) },
        send: { Glibc.send($0, $1, $2, $3) },
        recvfrom: { Glibc.recvfrom($0, $1, $2, $3, $4, $5) },
        sendto: { Glibc.sendto($0, $1, $2, $3, $4, $5) },
        recvmsg: { Glibc.recvmsg($0, $1, $2) },
        sendmsg: { Glibc.sendmsg($0, $1, $2) },
        recvmmsg: { cx_recvmmsg($0, $1, $2, $3, $4) },
        sendmmsg: { cx_sendmmsg($0, $1, $2, $3) },
        readv: { Glibc.readv($0, $1, $2) },
        writev: { Glibc.writev($0, $1, $2) },
        sendfile: { CContract.sendfile($0, $1, $2, $3) },
        poll: { Glibc.poll($0, $1, $2) },
        ppoll: { CContract.ppoll($0, $1, $2, $3) },
        select: { Glibc.select($0, $1, $2, $3, $4) },
        epollCreate: { epoll_create1($0) },
        epollControl: { cx_epoll_ctl($0, $1, $2, $3, $4) },
        epollWait: { cx_epoll_wait($0, $1, $2, $3, $4) },
        dup: { Glibc.dup($0) },
        dup2: { Glibc.dup2($0, $1) },
        fcntl: { cx_fcntl($0, $1, $2) },
        ioctl: { cx_ioctl($0, $1, $2) },
        fstat: { Glibc.fstat($0, $1) }
    )
}

extension Address {
    static func loopback(_ family: Family, port: UInt16) -> Address {
        let head: [UInt8] = [UInt8(family.number), 0, UInt8(port >> 8), UInt8(port & 255)]
        if family == .v4 { return Address(bytes: head + [127, 0, 0, 1] + [UInt8](repeating: 0, count: 8)) }
        return Address(bytes: head + [UInt8](repeating: 0, count: 19) + [1, 0, 0, 0, 0])
    }
}
