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

    private var hasCredentials: Bool { tlsCertificates != nil || tlsPsk != nil }

    mutating func validate() throws {
        guard hasCredentials || (tls == nil && !tlsVerifyPeer) else {
            throw ValidationError("TLS takes --tls-certificates or --tls-psk")
        }
        guard !tlsVerifyPeer || tlsCertificates != nil else {
            throw ValidationError("--tls-verify-peer takes --tls-certificates, whose folder has ca-cert.pem")
        }
        guard !tlsVerifyPeer || tls != .offered else {
            throw ValidationError(
                "--tls-verify-peer would be in vain with --tls offered: a client could do without TLS")
        }
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
