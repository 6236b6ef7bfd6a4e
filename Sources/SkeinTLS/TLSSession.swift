import CGnuTLS
import Glibc

/// TLS on one connection. Its calls don't wait, and one thread makes them at a time.
@safe
public final class TLSSession {
    public enum Handshake: Equatable {
        case done
        /// It goes on when the socket can be read or written.
        case waits
        case failed(String)
    }

    private let session: gnutls_session_t
    /// Its credentials, which the library doesn't copy.
    private let server: TLSServer
    /// A record was made that the socket hasn't taken.
    private var hasRecord = false
    /// Why the last call of `read` or `write` failed for good.
    public private(set) var fault = ""

    init(_ session: gnutls_session_t, _ server: TLSServer) {
        unsafe self.session = unsafe session
        self.server = server
    }

    deinit { unsafe gnutls_deinit(session) }

    /// Goes on with the handshake.
    public func handshake() -> Handshake {
        while true {
            let result = unsafe gnutls_handshake(session)
            switch result {
            case 0: return .done
            case GNUTLS_E_AGAIN: return .waits
            case GNUTLS_E_INTERRUPTED, GNUTLS_E_WARNING_ALERT_RECEIVED: continue
            default:
                // So that the client learns why; where the socket takes no more, it learns that it is closed.
                _ = unsafe gnutls_alert_send_appropriate(session, result)
                return .failed(unsafe String(cString: gnutls_strerror(result)))
            }
        }
    }

    /// Reads as recv(2): the number of bytes, 0 at the end, or -1 and `errno`: EAGAIN where nothing has come, EPROTO and `fault`
    /// for everything that ends the connection.
    public func read(into room: UnsafeMutableRawBufferPointer) -> Int {
        var got = 0
        while got < room.count {
            let result = unsafe gnutls_record_recv(session, room.baseAddress! + got, room.count - got)
            if result > 0 {
                got += result
                continue
            }
            switch Int32(truncatingIfNeeded: result) {
            case GNUTLS_E_INTERRUPTED: continue
            // What has come is told first; the end or the fault comes again.
            case _ where got > 0: return got
            case 0, GNUTLS_E_PREMATURE_TERMINATION: return 0
            case GNUTLS_E_AGAIN: return failed(EAGAIN)
            case let code: return failed(EPROTO, code)
            }
        }
        return got
    }

    /// Writes as send(2), a record at most. After EAGAIN the next call must begin with the same bytes, wherever they lie.
    public func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        while true {
            let result =
                hasRecord
                ? unsafe gnutls_record_send(session, nil, 0)
                : unsafe gnutls_record_send(session, bytes.baseAddress, bytes.count)
            if result >= 0 {
                hasRecord = false
                return result
            }
            switch Int32(truncatingIfNeeded: result) {
            case GNUTLS_E_INTERRUPTED: hasRecord = true
            case GNUTLS_E_AGAIN:
                hasRecord = true
                return failed(EAGAIN)
            case let code: return failed(EPROTO, code)
            }
        }
    }

    private func failed(_ code: Int32, _ reason: Int32 = 0) -> Int {
        if reason != 0 { fault = unsafe String(cString: gnutls_strerror(reason)) }
        errno = code
        return -1
    }

    /// The name of the key by which the client has proved itself; nil where it was no key.
    public var keyName: String? {
        guard unsafe gnutls_auth_get_type(session) == GNUTLS_CRD_PSK,
            let name = unsafe gnutls_psk_server_get_username(session)
        else { return nil }
        return unsafe String(cString: name)
    }

    /// The common name and the names of hosts in the client's certificate, which was verified in the handshake. None where the client
    /// was asked for none.
    public var certificateNames: [String] {
        var count: UInt32 = 0
        guard server.verifiesClients, unsafe gnutls_auth_get_type(session) == GNUTLS_CRD_CERTIFICATE,
            let raw = unsafe gnutls_certificate_get_peers(session, &count), count > 0
        else { return [] }
        var parsed: gnutls_x509_crt_t?
        guard unsafe gnutls_x509_crt_init(&parsed) == 0 else { return [] }
        defer { unsafe gnutls_x509_crt_deinit(parsed) }
        guard unsafe gnutls_x509_crt_import(parsed, raw, GNUTLS_X509_FMT_DER) == 0 else { return [] }
        var names: [String] = []
        let common = unsafe TLSSession.text { unsafe gnutls_x509_crt_get_dn_by_oid(parsed, "2.5.4.3", 0, 0, $0, $1) }
        if let common { names.append(common) }
        var index: UInt32 = 0
        while true {
            var kind = Int32(0)
            let name = unsafe TLSSession.text {
                kind = unsafe gnutls_x509_crt_get_subject_alt_name(parsed, index, $0, $1, nil)
                return min(kind, 0)
            }
            guard kind >= 0 else { return names }
            if kind == Int32(GNUTLS_SAN_DNSNAME.rawValue), let name { names.append(name) }
            index += 1
        }
    }

    /// What a call writes into memory of 1 KiB; nil where it fails, or writes something that is no text.
    private static func text(_ call: (UnsafeMutableRawPointer, UnsafeMutablePointer<Int>) -> Int32) -> String? {
        var bytes = [UInt8](repeating: 0, count: 1024)
        var count = bytes.count
        let result = unsafe bytes.withUnsafeMutableBytes { unsafe call($0.baseAddress!, &count) }
        guard result >= 0, !bytes[..<count].contains(0) else { return nil }
        return String(validating: bytes[..<count], as: UTF8.self)
    }

    /// Tells the client that nothing more comes. What it says itself can still be read.
    public func end() { _ = unsafe gnutls_bye(session, GNUTLS_SHUT_WR) }
}
