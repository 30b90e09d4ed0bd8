/// A group of the ephemeral key exchange (RFC 8422 §5.1.1). Groups are equal when their names are.
public struct DtlsGroup: Sendable, Hashable, CustomStringConvertible {
    /// OpenSSL's name, such as `X25519` or `P-256` (`SSL_CTX_set1_groups_list(3)`).
    public let name: String

    /// Names a group that OpenSSL has and that has no constant here.
    ///
    /// The name is not checked here: contexts throw ``DtlsError/Code-swift.struct/invalidConfiguration`` for one that
    /// the linked OpenSSL does not know.
    public init(openSSLName name: String) {
        self.name = name
    }

    /// Curve25519.
    public static let x25519 = DtlsGroup(openSSLName: "X25519")
    /// Curve448.
    public static let x448 = DtlsGroup(openSSLName: "X448")
    /// NIST P-256, secp256r1. CoAP prescribes it.
    public static let p256 = DtlsGroup(openSSLName: "P-256")
    /// NIST P-384, secp384r1.
    public static let p384 = DtlsGroup(openSSLName: "P-384")
    /// NIST P-521, secp521r1.
    public static let p521 = DtlsGroup(openSSLName: "P-521")

    /// The name.
    public var description: String { name }
}

/// An algorithm with which a handshake is signed (RFC 5246 §7.4.1.4.1, RFC 8446 §4.2.3).
///
/// OpenSSL has several spellings for some of them. Algorithms are equal when their names are spelt the same.
public struct DtlsSignatureAlgorithm: Sendable, Hashable, CustomStringConvertible {
    /// OpenSSL's name, such as `ECDSA+SHA256` or `rsa_pss_rsae_sha256` (`SSL_CTX_set1_sigalgs_list(3)`).
    public let name: String

    /// Names an algorithm that OpenSSL has and that has no constant here.
    ///
    /// The name is not checked here: contexts throw ``DtlsError/Code-swift.struct/invalidConfiguration`` for one that
    /// the linked OpenSSL does not know.
    public init(openSSLName name: String) {
        self.name = name
    }

    /// ECDSA with SHA-256.
    public static let ecdsaWithSHA256 = DtlsSignatureAlgorithm(openSSLName: "ECDSA+SHA256")
    /// ECDSA with SHA-384.
    public static let ecdsaWithSHA384 = DtlsSignatureAlgorithm(openSSLName: "ECDSA+SHA384")
    /// ECDSA with SHA-512.
    public static let ecdsaWithSHA512 = DtlsSignatureAlgorithm(openSSLName: "ECDSA+SHA512")
    /// RSA-PSS with SHA-256, for ordinary RSA certificates.
    public static let rsaPSSWithSHA256 = DtlsSignatureAlgorithm(openSSLName: "rsa_pss_rsae_sha256")
    /// RSA-PSS with SHA-384, for ordinary RSA certificates.
    public static let rsaPSSWithSHA384 = DtlsSignatureAlgorithm(openSSLName: "rsa_pss_rsae_sha384")
    /// RSA PKCS#1 with SHA-256.
    public static let rsaPKCS1WithSHA256 = DtlsSignatureAlgorithm(openSSLName: "RSA+SHA256")
    /// RSA PKCS#1 with SHA-384.
    public static let rsaPKCS1WithSHA384 = DtlsSignatureAlgorithm(openSSLName: "RSA+SHA384")
    /// Ed25519. OpenSSL uses it in DTLS from version 4.1 on.
    public static let ed25519 = DtlsSignatureAlgorithm(openSSLName: "ed25519")

    /// The name.
    public var description: String { name }

    /// All of the constants.
    static let constants: [DtlsSignatureAlgorithm] = [
        .ecdsaWithSHA256,
        .ecdsaWithSHA384,
        .ecdsaWithSHA512,
        .rsaPSSWithSHA256,
        .rsaPSSWithSHA384,
        .rsaPKCS1WithSHA256,
        .rsaPKCS1WithSHA384,
        .ed25519,
    ]
}
