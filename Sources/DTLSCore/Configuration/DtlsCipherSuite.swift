/// A cipher suite: what the peers agree on for key exchange, authentication and encryption.
///
/// The constants are those that make sense in DTLS 1.2 today. Others can be named in OpenSSL's notation, see
/// ``DtlsCipherSuites/openSSL(_:)``.
public struct DtlsCipherSuite: Sendable, Hashable, CustomStringConvertible {
    /// The number in the IANA registry "TLS Cipher Suites", such as 0xC0A8.
    public let id: UInt16

    /// The name in the IANA registry, such as `TLS_PSK_WITH_AES_128_CCM_8`; `unknown` for a suite that OpenSSL cannot
    /// name.
    public let name: String

    /// OpenSSL's name, such as `PSK-AES128-CCM8`, which ``DtlsCipherSuites/openSSL(_:)`` understands.
    public let openSSLName: String

    init(_ id: UInt16, _ name: String, _ openSSLName: String) {
        self.id = id
        self.name = name
        self.openSSLName = openSSLName
    }

    var usesPreSharedKey: Bool { openSSLName.contains("PSK-") }

    /// The IANA name.
    public var description: String { name }

    /// Suites are equal when their numbers are.
    public static func == (left: DtlsCipherSuite, right: DtlsCipherSuite) -> Bool {
        left.id == right.id
    }

    /// Hashes the number.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(id)
    }
}

extension DtlsCipherSuite {
    // MARK: Certificates with ECDSA keys

    /// ECDHE, ECDSA certificates, AES-128-GCM (RFC 5289). What most peers agree on.
    public static let ecdheECDSAWithAES128GCM = DtlsCipherSuite(
        0xC02B,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    /// ECDHE, ECDSA certificates, AES-256-GCM (RFC 5289).
    public static let ecdheECDSAWithAES256GCM = DtlsCipherSuite(
        0xC02C,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384"
    )
    /// ECDHE, ECDSA certificates, ChaCha20-Poly1305 (RFC 7905). Fast where the processor has no AES.
    public static let ecdheECDSAWithChaCha20Poly1305 = DtlsCipherSuite(
        0xCCA9,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305"
    )
    /// ECDHE, ECDSA certificates, AES-128-CCM (RFC 7251).
    public static let ecdheECDSAWithAES128CCM = DtlsCipherSuite(
        0xC0AC,
        "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
        "ECDHE-ECDSA-AES128-CCM"
    )
    /// ECDHE, ECDSA certificates, AES-128-CCM with a tag of 8 bytes (RFC 7251), which CoAP prescribes (RFC 7252
    /// §9.1.3.3).
    public static let ecdheECDSAWithAES128CCM8 = DtlsCipherSuite(
        0xC0AE,
        "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
        "ECDHE-ECDSA-AES128-CCM8"
    )

    // MARK: Certificates with RSA keys

    /// ECDHE, RSA certificates, AES-128-GCM (RFC 5289).
    public static let ecdheRSAWithAES128GCM = DtlsCipherSuite(
        0xC02F,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256"
    )
    /// ECDHE, RSA certificates, AES-256-GCM (RFC 5289).
    public static let ecdheRSAWithAES256GCM = DtlsCipherSuite(
        0xC030,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384"
    )
    /// ECDHE, RSA certificates, ChaCha20-Poly1305 (RFC 7905).
    public static let ecdheRSAWithChaCha20Poly1305 = DtlsCipherSuite(
        0xCCA8,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305"
    )

    // MARK: Pre-shared keys

    /// A pre-shared key and ECDHE, ChaCha20-Poly1305 (RFC 7905). Old traffic stays secret when the key becomes known.
    public static let ecdhePSKWithChaCha20Poly1305 = DtlsCipherSuite(
        0xCCAC,
        "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305"
    )
    /// A pre-shared key alone, AES-128-GCM (RFC 5487).
    public static let pskWithAES128GCM = DtlsCipherSuite(
        0x00A8,
        "TLS_PSK_WITH_AES_128_GCM_SHA256",
        "PSK-AES128-GCM-SHA256"
    )
    /// A pre-shared key alone, AES-256-GCM (RFC 5487).
    public static let pskWithAES256GCM = DtlsCipherSuite(
        0x00A9,
        "TLS_PSK_WITH_AES_256_GCM_SHA384",
        "PSK-AES256-GCM-SHA384"
    )
    /// A pre-shared key alone, ChaCha20-Poly1305 (RFC 7905).
    public static let pskWithChaCha20Poly1305 = DtlsCipherSuite(
        0xCCAB,
        "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256",
        "PSK-CHACHA20-POLY1305"
    )
    /// A pre-shared key alone, AES-128-CCM (RFC 6655).
    public static let pskWithAES128CCM = DtlsCipherSuite(0xC0A4, "TLS_PSK_WITH_AES_128_CCM", "PSK-AES128-CCM")
    /// A pre-shared key alone, AES-128-CCM with a tag of 8 bytes (RFC 6655), which CoAP prescribes (RFC 7252 §9.1.3.1).
    public static let pskWithAES128CCM8 = DtlsCipherSuite(0xC0A8, "TLS_PSK_WITH_AES_128_CCM_8", "PSK-AES128-CCM8")

    /// All of these.
    static let constants: [DtlsCipherSuite] = [
        .ecdheECDSAWithAES128GCM,
        .ecdheECDSAWithAES256GCM,
        .ecdheECDSAWithChaCha20Poly1305,
        .ecdheECDSAWithAES128CCM,
        .ecdheECDSAWithAES128CCM8,
        .ecdheRSAWithAES128GCM,
        .ecdheRSAWithAES256GCM,
        .ecdheRSAWithChaCha20Poly1305,
        .ecdhePSKWithChaCha20Poly1305,
        .pskWithAES128GCM,
        .pskWithAES256GCM,
        .pskWithChaCha20Poly1305,
        .pskWithAES128CCM,
        .pskWithAES128CCM8,
    ]
}
