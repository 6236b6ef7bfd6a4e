import ArgumentParser
import Glibc
import Skein

/// A stream socket of any kind: STP's own, or the kernel's, whose calls module Skein passes on.
typealias StreamSocket = Skein.Socket

/// An STP address as an argument. "localhost" is this host, as in an address of TCP.
func stpAddress(_ text: String) throws -> Address {
    guard let address = Address(text) else {
        throw ValidationError("'\(text)' is no STP address; give PORT, HOST:PORT or GROUP/HOST:PORT, as in :7000")
    }
    return address.host == "localhost" ? Address(group: address.group, host: "", port: address.port)! : address
}

/// A socket that listens, or what to tell the user.
func listening(on address: Address, backlog: Int = 128) throws -> StreamSocket {
    do {
        return try StreamSocket(listeningOn: address, backlog: backlog)
    } catch {
        throw failure("can't listen on \(address): \(explanation(of: error))", code: Exit.unreachable)
    }
}

/// A socket connected to a server, or what to tell the user.
func connected(to address: Address) throws -> StreamSocket {
    do {
        return try StreamSocket(connectedTo: address)
    } catch {
        throw failure("can't connect to \(address): \(explanation(of: error))", code: Exit.unreachable)
    }
}

/// The connection that comes first, or what to tell the user.
func accepted(by listener: borrowing StreamSocket) throws -> StreamSocket {
    do {
        return try listener.accept()
    } catch {
        throw failure("can't accept a connection: \(explanation(of: error))", code: Exit.unreachable)
    }
}

/// The library's sentence where it has one, which says what to do, else the system's words.
func explanation(of error: SocketError) -> String {
    let text = error.advice.isEmpty ? SystemError(code: error.errno).text : error.advice
    // A name in capitals stays one.
    return text.dropFirst().first?.isUppercase == true ? text : text.prefix(1).lowercased() + text.dropFirst()
}
