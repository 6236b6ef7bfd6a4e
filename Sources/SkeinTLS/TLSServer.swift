import CGnuTLS
import Glibc

/// Why TLS can't be had, and what to do.
public struct TLSFault: Error, Equatable, Sendable {
    public let text: String
}

/// What a server shows to its clients, and asks of them.
public struct TLSSettings: Equatable, Sendable {
    /// A folder with server-cert.pem and server-key.pem; with ca-cert.pem too where clients are to have certificates, and with
    /// ca-crl.pem where some of those are withdrawn.
    public var certificates: String?
    /// A file with a line NAME:KEY (hexadecimal) for each client that has a key beforehand.
    public var keys: String?
    /// Clients must have a certificate that ca-cert.pem has signed.
    public var verifiesClients = false

    public init() {}
}

/// A server's credentials, which any number of sessions use; they keep it alive.
@safe
public final class TLSServer: Sendable {
    /// TLS 1.2 and newer, with what the library takes for secure.
    private static let versions = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
    private static let keyExchanges = ":+ECDHE-PSK:+DHE-PSK:+PSK"

    /// The library's own objects, which it only reads once they are filled.
    @safe private struct Credentials: @unchecked Sendable {
        var certificates: gnutls_certificate_credentials_t?
        var keys: gnutls_psk_server_credentials_t?
    }

    private let credentials: Credentials
    let verifiesClients: Bool

    /// Reads certificates and keys.
    public init(_ settings: TLSSettings) throws(TLSFault) {
        var credentials = Credentials()
        do throws(TLSFault) {
            if let folder = settings.certificates {
                try TLSServer.check(unsafe gnutls_certificate_allocate_credentials(&credentials.certificates), "TLS")
                try unsafe TLSServer.load(folder, settings.verifiesClients, into: credentials.certificates!)
            }
            if let file = settings.keys {
                try TLSServer.check(unsafe gnutls_psk_allocate_server_credentials(&credentials.keys), "TLS")
                guard unsafe access(file, R_OK) == 0 else {
                    throw TLSFault(
                        text: "the keys in \(file) can't be read: \(unsafe String(cString: strerror(errno)))")
                }
                try TLSServer.check(
                    unsafe gnutls_psk_set_server_credentials_file(credentials.keys, file), "the keys in \(file)")
            }
        } catch {
            TLSServer.free(credentials)
            throw error
        }
        self.credentials = credentials
        verifiesClients = settings.verifiesClients
    }

    deinit { TLSServer.free(credentials) }

    private static func free(_ credentials: Credentials) {
        if let certificates = unsafe credentials.certificates {
            unsafe gnutls_certificate_free_credentials(certificates)
        }
        if let keys = unsafe credentials.keys { unsafe gnutls_psk_free_server_credentials(keys) }
    }

    private static func check(_ result: Int32, _ what: String) throws(TLSFault) {
        guard result < 0 else { return }
        throw TLSFault(text: "\(what): \(unsafe String(cString: gnutls_strerror(result)))")
    }

    private static func load(
        _ folder: String, _ verifiesClients: Bool, into certificates: gnutls_certificate_credentials_t
    ) throws(TLSFault) {
        let certificate = "\(folder)/server-cert.pem"
        let key = "\(folder)/server-key.pem"
        try checkReadable(certificate)
        try checkReadable(key)
        let loaded = unsafe gnutls_certificate_set_x509_key_file(certificates, certificate, key, GNUTLS_X509_FMT_PEM)
        try check(loaded, "\(certificate) and \(key)")
        try unsafe checkDates(of: certificates, certificate)
        guard verifiesClients else { return }
        let authority = "\(folder)/ca-cert.pem"
        try checkReadable(authority)
        let count = unsafe gnutls_certificate_set_x509_trust_file(certificates, authority, GNUTLS_X509_FMT_PEM)
        try check(count, authority)
        guard count > 0 else { throw TLSFault(text: "\(authority) has no certificate: no client could come") }
        let withdrawn = "\(folder)/ca-crl.pem"
        guard unsafe access(withdrawn, F_OK) == 0 else { return }
        try check(unsafe gnutls_certificate_set_x509_crl_file(certificates, withdrawn, GNUTLS_X509_FMT_PEM), withdrawn)
    }

    private static func checkReadable(_ path: String) throws(TLSFault) {
        guard unsafe access(path, R_OK) != 0 else { return }
        throw TLSFault(text: "\(path) can't be read: \(unsafe String(cString: strerror(errno)))")
    }

    /// No client would take one that has expired.
    private static func checkDates(
        of certificates: gnutls_certificate_credentials_t, _ path: String
    ) throws(TLSFault) {
        var raw = unsafe gnutls_datum_t()
        try check(unsafe gnutls_certificate_get_crt_raw(certificates, 0, 0, &raw), path)
        var parsed: gnutls_x509_crt_t?
        try check(unsafe gnutls_x509_crt_init(&parsed), path)
        defer { unsafe gnutls_x509_crt_deinit(parsed) }
        try check(unsafe gnutls_x509_crt_import(parsed, &raw, GNUTLS_X509_FMT_DER), path)
        let now = time(nil)
        guard unsafe now <= gnutls_x509_crt_get_expiration_time(parsed) else {
            throw TLSFault(text: "the certificate \(path) has expired: replace it")
        }
        guard unsafe now >= gnutls_x509_crt_get_activation_time(parsed) else {
            throw TLSFault(text: "the certificate \(path) is not valid yet: is this machine's clock right?")
        }
    }

    /// A session on a connected socket that doesn't wait. Nil where memory is short.
    public func session(_ descriptor: Int32) -> TLSSession? {
        var session: gnutls_session_t?
        let flags = UInt32(GNUTLS_SERVER.rawValue | GNUTLS_NONBLOCK.rawValue | GNUTLS_NO_SIGNAL.rawValue)
        guard unsafe gnutls_init(&session, flags) == 0, let session = unsafe session else { return nil }
        let priorities = unsafe TLSServer.versions + (credentials.keys == nil ? "" : TLSServer.keyExchanges)
        var results = unsafe [gnutls_priority_set_direct(session, priorities, nil)]
        if let certificates = unsafe credentials.certificates {
            unsafe results.append(
                gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(certificates)))
        }
        if let keys = unsafe credentials.keys {
            unsafe results.append(gnutls_credentials_set(session, GNUTLS_CRD_PSK, UnsafeMutableRawPointer(keys)))
        }
        if verifiesClients {
            unsafe gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE)
            unsafe gnutls_session_set_verify_cert(session, nil, 0)
        }
        unsafe gnutls_transport_set_int2(session, descriptor, descriptor)
        guard results.allSatisfy({ $0 == 0 }) else {
            unsafe gnutls_deinit(session)
            return nil
        }
        return unsafe TLSSession(session, self)
    }
}
