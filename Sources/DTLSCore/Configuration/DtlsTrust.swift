/// Whom a side believes: roots that a peer's certificate chain may lead to, or pins that the peer's own certificate
/// must match.
public struct DtlsTrust: Sendable {
    /// Whether the roots of the operating system count (`SSL_CTX_set_default_verify_paths(3)`; the environment
    /// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    public let includesSystemRoots: Bool

    /// The roots given by the caller. A self-signed leaf may stand here too, and is then trusted itself.
    public let certificates: [DtlsCertificate]

    /// The pins. Where there are any, they alone decide: no chain, no name, no date, no revocation list. A peer needs
    /// to match one of them.
    public let pins: [DtlsPin]

    /// Lists of certificates that were revoked before they expired (RFC 5280 §5). Where there are any, every
    /// certificate of a chain, the root included, must have a valid list of its issuer, and not be on it
    /// (`X509_V_FLAG_CRL_CHECK_ALL`). Default: none.
    public var revocationLists: [DtlsRevocationList] = []

    /// The roots of the operating system, as OpenSSL finds them.
    public static let system = DtlsTrust(includesSystemRoots: true, certificates: [], pins: [])

    /// The given roots, and those of the operating system only if `andSystem` is set.
    ///
    /// An empty list without the system's roots trusts nobody.
    ///
    /// - Parameters:
    ///   - roots: Anchors, which need not be roots themselves (`X509_V_FLAG_PARTIAL_CHAIN`).
    ///   - andSystem: Whether the system's roots count as well. Default: they do not.
    public static func certificates(_ roots: [DtlsCertificate], andSystem: Bool = false) -> DtlsTrust {
        DtlsTrust(includesSystemRoots: andSystem, certificates: roots, pins: [])
    }

    /// Peers whose certificate has one of these fingerprints, whoever signed it, as in WebRTC (RFC 8122) and for
    /// self-signed devices.
    ///
    /// An empty list trusts nobody.
    public static func pins(_ pins: [DtlsPin]) -> DtlsTrust {
        DtlsTrust(includesSystemRoots: false, certificates: [], pins: pins)
    }
}

/// What a peer's own certificate must match.
public enum DtlsPin: Sendable, Hashable {
    /// The SHA-256 hash of the certificate (RFC 8122 §5).
    case certificate(DtlsFingerprint)

    /// The SHA-256 hash of its public key with algorithm (SubjectPublicKeyInfo, RFC 7469 §2.4), which survives a
    /// renewal of the certificate.
    case publicKey(DtlsFingerprint)
}
