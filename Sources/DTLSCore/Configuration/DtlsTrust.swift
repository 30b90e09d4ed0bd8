/// The roots that a peer's certificate chain may lead to.
public struct DtlsTrust: Sendable {
    /// Whether the roots of the operating system count (`SSL_CTX_set_default_verify_paths(3)`; the environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    public let includesSystemRoots: Bool

    /// The roots given by the caller. A self-signed leaf may stand here too, and is then trusted itself.
    public let certificates: [DtlsCertificate]

    /// The roots of the operating system.
    public static let system = DtlsTrust(includesSystemRoots: true, certificates: [])

    /// The given roots, and those of the operating system only if `andSystem` is set.
    ///
    /// An empty list without the system's roots trusts nobody.
    public static func certificates(_ roots: [DtlsCertificate], andSystem: Bool = false) -> DtlsTrust {
        DtlsTrust(includesSystemRoots: andSystem, certificates: roots)
    }
}
