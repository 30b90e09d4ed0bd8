/// Which cipher suites of DTLS 1.2 a context offers or accepts, in order of preference.
public struct DtlsCipherSuites: Sendable, Hashable {
    enum Choice: Hashable, Sendable {
        case automatic
        case suites([DtlsCipherSuite])
        case openSSL(String)
    }

    let choice: Choice

    /// Forward-secret and PSK suites with AEAD ciphers only (AES-GCM, ChaCha20-Poly1305, AES-CCM), of the kinds that
    /// the context has credentials for: certificates, pre-shared keys or both. The default.
    public static let automatic = DtlsCipherSuites(choice: .automatic)

    /// Exactly these suites, as far as the context has the kind of credentials that they need.
    ///
    /// CCM8 suites are usable at every security level when they are listed, without lowering the level for anything
    /// else. Making a context throws ``DtlsError/Code-swift.struct/invalidConfiguration`` when OpenSSL has none of
    /// them, or none is left for the context's credentials.
    public static func suites(_ suites: [DtlsCipherSuite]) -> DtlsCipherSuites {
        DtlsCipherSuites(choice: .suites(suites))
    }

    /// A list in OpenSSL's own notation (`openssl-ciphers(1)`), such as `ECDHE+AESGCM:PSK-AES128-CCM8`, taken as it is:
    /// whatever the context's credentials are, and with `@SECLEVEL`, which overrules
    /// ``DtlsConfiguration/securityLevel``.
    ///
    /// CCM8 suites are usable at every security level when they are named here. CBC suites are used only when they are
    /// named here; encrypt-then-MAC is off, because a forged record would end an association that uses it in OpenSSL.
    ///
    /// Making a context throws ``DtlsError/Code-swift.struct/invalidConfiguration`` when the list selects no suite.
    public static func openSSL(_ list: String) -> DtlsCipherSuites {
        DtlsCipherSuites(choice: .openSSL(list))
    }

    static let certificateSuites: [DtlsCipherSuite] = [
        .ecdheECDSAWithAES128GCM, .ecdheRSAWithAES128GCM,
        .ecdheECDSAWithChaCha20Poly1305, .ecdheRSAWithChaCha20Poly1305,
        .ecdheECDSAWithAES256GCM, .ecdheRSAWithAES256GCM,
        .ecdheECDSAWithAES128CCM,
    ]

    static let preSharedKeySuites: [DtlsCipherSuite] = [
        .ecdhePSKWithChaCha20Poly1305, .pskWithAES128GCM, .pskWithChaCha20Poly1305, .pskWithAES256GCM,
        .pskWithAES128CCM,
    ]

    /// The list for OpenSSL, given the credentials a context has.
    func list(certificates: Bool, preSharedKeys: Bool) -> String {
        let suites: [DtlsCipherSuite]
        switch choice {
        case .openSSL(let list):
            return list
        case .suites(let list):
            // A suite without the credentials that it needs would only mislead the peer.
            suites = list.filter { $0.usesPreSharedKey ? preSharedKeys : certificates }
        case .automatic:
            suites = (certificates ? Self.certificateSuites : []) + (preSharedKeys ? Self.preSharedKeySuites : [])
        }
        return suites.map(\.openSSLName).joined(separator: ":")
    }

    /// Why nothing is left of typed suites for the credentials that a context has; `nil` when some are, or when it is
    /// for OpenSSL to say.
    func problem(certificates: Bool, preSharedKeys: Bool) -> DtlsError? {
        guard case .suites(let suites) = choice,
            !suites.contains(where: { $0.usesPreSharedKey ? preSharedKeys : certificates })
        else { return nil }
        let message: String
        let hint: String
        switch suites.first?.usesPreSharedKey {
        case nil:
            message = "the list of cipher suites is empty"
            hint = "automatic stands for the defaults"
        case true?:
            message = "none of the cipher suites fits the credentials: they need a pre-shared key"
            hint = "give the context one, or list suites for certificates"
        case false?:
            message = "none of the cipher suites fits the credentials: they need a certificate"
            hint =
                "set a server's identity, or, for a client that has a pre-shared key, trust; "
                + "or list suites for pre-shared keys"
        }
        return DtlsError(.invalidConfiguration, phase: .configuration, message, hint: hint)
    }

    /// Whether suites with the eight-byte tag of CCM8 were asked for by name.
    var namesCCM8: Bool {
        switch choice {
        case .automatic: false
        case .suites(let suites): suites.contains { $0.openSSLName.contains("CCM8") }
        case .openSSL(let list): list.contains("CCM8")
        }
    }
}
