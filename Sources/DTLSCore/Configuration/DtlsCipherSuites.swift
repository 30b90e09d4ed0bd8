/// Which cipher suites a context offers or accepts.
public struct DtlsCipherSuites: Sendable, Hashable {
    enum Choice: Hashable, Sendable {
        case automatic
        case openSSL(String)
    }

    let choice: Choice

    /// Forward-secret and PSK suites with AEAD ciphers only (AES-GCM, ChaCha20-Poly1305, AES-CCM), of the kinds that the
    /// context has credentials for: certificates, pre-shared keys or both. The default.
    public static let automatic = DtlsCipherSuites(choice: .automatic)

    /// A list in OpenSSL's own notation (`openssl-ciphers(1)`), such as `ECDHE+AESGCM:PSK-AES128-CCM8`.
    ///
    /// `PSK-AES128-CCM8` and its like, which CoAP prescribes, are usable at every security level when they are named here,
    /// without lowering the level for anything else. CBC suites are used only when they are named here; a forged record
    /// can then end nothing, because encrypt-then-MAC is switched off (see SECURITY.md).
    ///
    /// Making a context throws ``DtlsError/Code-swift.struct/invalidConfiguration`` when the list selects no suite.
    public static func openSSL(_ list: String) -> DtlsCipherSuites {
        DtlsCipherSuites(choice: .openSSL(list))
    }

    static let certificateSuites = [
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-CCM",
    ]

    static let preSharedKeySuites = [
        "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-GCM-SHA256", "PSK-CHACHA20-POLY1305",
        "PSK-AES256-GCM-SHA384", "PSK-AES128-CCM",
    ]

    /// The list for OpenSSL, given the credentials a context has.
    func list(certificates: Bool, preSharedKeys: Bool) -> String {
        switch choice {
        case .openSSL(let list):
            list
        case .automatic:
            ((certificates ? Self.certificateSuites : []) + (preSharedKeys ? Self.preSharedKeySuites : []))
                .joined(separator: ":")
        }
    }

    /// Whether suites with the eight-byte tag of CCM8 were asked for by name.
    var namesCCM8: Bool {
        if case .openSSL(let list) = choice { list.contains("CCM8") } else { false }
    }
}

/// A cipher suite, as it was negotiated.
public struct DtlsCipherSuite: Sendable, Hashable, CustomStringConvertible {
    /// The number in the IANA registry "TLS Cipher Suites", such as 0xC0A8.
    public let id: UInt16

    /// The name in the IANA registry, such as `TLS_PSK_WITH_AES_128_CCM_8`.
    public let name: String

    /// OpenSSL's name, such as `PSK-AES128-CCM8`, which ``DtlsCipherSuites/openSSL(_:)`` understands.
    public let openSSLName: String

    /// The IANA name.
    public var description: String { name }
}
