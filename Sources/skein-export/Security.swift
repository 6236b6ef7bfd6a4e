import ArgumentParser
import SkeinExport
import SkeinTLS

/// TLS, as the server offers it.
struct Security: ParsableArguments {
    enum Requirement: String, ExpressibleByArgument, CaseIterable {
        case required, offered
    }

    @Option(
        help: ArgumentHelp(
            "Serve by TLS, with server-cert.pem and server-key.pem of this folder.", valueName: "folder"))
    var tlsCertificates: String?

    @Option(help: ArgumentHelp("Serve by TLS, with clients whose NAME:KEY is in this file.", valueName: "file"))
    var tlsPsk: String?

    @Option(help: "Whether clients must use TLS where there is a certificate or a key: required or offered.")
    var tls: Requirement?

    @Flag(help: "Take only clients with a certificate that ca-cert.pem of the folder has signed.")
    var tlsVerifyPeer = false

    @Option(
        help: ArgumentHelp(
            """
            Who may have an export, or without NAME all that have no rule of their own: anyone, tls, certificate:NAME, key:NAME, \
            address:NETWORK, user:NAME, or several with + between. May be repeated: one must apply. Without any: everybody.
            """, valueName: "[name=]who"))
    var allow: [String] = []

    private var hasCredentials: Bool { tlsCertificates != nil || tlsPsk != nil }

    mutating func validate() throws {
        guard hasCredentials || (tls == nil && !tlsVerifyPeer) else {
            throw ValidationError("TLS takes --tls-certificates or --tls-psk")
        }
        guard !tlsVerifyPeer || tlsCertificates != nil else {
            throw ValidationError("--tls-verify-peer takes --tls-certificates, whose folder has ca-cert.pem")
        }
        guard !tlsVerifyPeer || tls != .offered || !allow.isEmpty else {
            throw ValidationError(
                "--tls-verify-peer would be in vain with --tls offered: a client could do without TLS")
        }
    }

    /// Reads the rules.
    func rules() throws(ExportFault) -> AccessRules {
        var rules = AccessRules()
        for text in allow { try rules.add(text) }
        guard hasCredentials || !rules.needTLS else {
            throw ExportFault("a rule asks for TLS, which takes --tls-certificates or --tls-psk")
        }
        guard tlsVerifyPeer || !rules.needCertificates else {
            throw ExportFault("a rule asks for a client's certificate, which takes --tls-verify-peer")
        }
        return rules
    }

    /// Reads the credentials.
    func offer(_ log: ServerLog) throws(ExportFault) -> TLSOffer {
        guard hasCredentials else { return .none }
        var settings = TLSSettings()
        settings.certificates = tlsCertificates
        settings.keys = tlsPsk
        settings.verifiesClients = tlsVerifyPeer
        do throws(TLSFault) {
            let offer = TLSOffer.by(try TLSServer(settings), isRequired: tls != .offered)
            log.step(
                "TLS: \(tls == .offered ? "offered" : "required")\(tlsVerifyPeer ? ", with certificates of clients" : "")"
            )
            return offer
        } catch {
            throw ExportFault(error.text)
        }
    }

    /// Where clients come, as they are to write it.
    func uri(_ uri: String) -> String {
        guard hasCredentials, tls != .offered, uri.hasPrefix("nbd") else { return uri }
        return "nbds" + uri.dropFirst(3)
    }
}
