import Glibc
import Skein

func addressTests() throws {
    for text in [":7", "box:7", "lab/box:7", "lab/:7", ":0", ":65535", "a:b:7"] {
        check(Address(text).map { "\($0)" } == text, "an address reads and writes \(text)")
    }
    check(Address("80") == Address(port: 80) && Address(":80") == Address(port: 80), "a port alone is an address here")
    check(Address("lab/box:80") == Address(group: "lab", host: "box", port: 80), "GROUP/HOST:PORT has all three")
    for text in ["", ":", "box", "box:", "lab/80", "box:65536", "box:-1", "box:+1", "a/b/c:1", "\0:1"] {
        check(Address(text) == nil, "\(text.debugDescription) is no address")
    }
    let long = String(repeating: "g", count: 16)
    check(Address("\(long)/box:1") == nil, "a group has 15 bytes at most")
    check(Address("\(long.dropLast())/box:1") != nil, "and may have them all")
    check(Address(host: long + long, port: 1) == nil, "a host has 31 bytes at most")

    let own = try Address.name(of: "")
    check(!own.host.isEmpty && own.port == 0, "the name of this host is known", saw: "\(own)")
    check(
        try Address.name(of: own.host) == own && Address.name(of: "localhost") == own, "by its name, and as localhost")
    check(throws: EHOSTUNREACH, .noAgent, "another host's name is EHOSTUNREACH") { () throws(SocketError) in
        _ = try Address.name(of: "nowhere")
    }

    let socket = try Socket()
    check(try socket.localAddress.port, is: 0, "a fresh socket has no port")
    let assigned = try socket.assignAddress()
    check(try assigned.port != 0 && socket.localAddress == assigned, "it gets one when asked for its address")
    check(throws: ENOTCONN, .state, "a socket without a peer has no peer's address") { () throws(SocketError) in
        _ = try socket.peerAddress
    }
    check(throws: EINVAL, .state, "it can't be bound twice") { () throws(SocketError) in
        try socket.bind(to: Address(port: 0))
    }
    check(throws: EADDRINUSE, .portTaken, "nor can its port be taken") { () throws(SocketError) in
        try Socket().bind(to: assigned)
    }
    check(throws: EADDRNOTAVAIL, .host, "another host's address is not ours to bind") { () throws(SocketError) in
        try Socket().bind(to: Address(host: "nowhere", port: 0)!)
    }
}
