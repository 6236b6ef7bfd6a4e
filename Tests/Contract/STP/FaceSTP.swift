import CContract
import CSkein
import Glibc

extension Face {
    /// The calls of skein.h, and for the rest the C library's own, which libskein.so hooks in a program that links it.
    static let stp: Face = {
        var face = Face.tcp
        face.name = "stp"
        face.contract = .stp
        face.families = [.stp]
        face.address = { _, port in
            // An empty host would do, but what the calls tell has the names filled in.
            let own = Address.filled { STPgethostbyname("", $0, $1) }.address
            return Address(bytes: own.bytes.dropLast(2) + [UInt8(port & 255), UInt8(port >> 8)])
        }
        face.setParameter = { fd, parameter, value in
            var value = value
            return STPsetopt(fd, parameter, &value, 4)
        }
        face.socket = { STPsocket($0, $1, $2) }
        face.bind = { STPbind($0, $1, $2) }
        face.listen = { STPlisten($0, $1) }
        face.accept = { STPaccept($0, $1, $2) }
        face.connect = { STPconnect($0, $1, $2) }
        face.getsockname = { STPgetsockname($0, $1, $2) }
        face.getpeername = { STPgetpeername($0, $1, $2) }
        face.getsockopt = { STPgetsockopt($0, $1, $2, $3, $4) }
        face.setsockopt = { STPsetsockopt($0, $1, $2, $3, $4) }
        face.shutdown = { STPshutdown($0, $1) }
        face.close = { STPclose($0) }
        face.recv = { STPrecv($0, $1, $2, $3) }
        face.send = { STPsend($0, $1, $2, $3) }
        return face
    }()
}
