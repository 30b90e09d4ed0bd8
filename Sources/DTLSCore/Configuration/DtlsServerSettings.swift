/// What a server's context has beside the ``DtlsConfiguration`` that both roles share. It is checked when the context
/// is made, which throws ``DtlsError/Code-swift.struct/invalidConfiguration`` for what cannot be.
public struct DtlsServerSettings: Sendable {
    /// Whether pre-shared keys are accepted. Engines then raise ``DtlsEvent/preSharedKeyRequested(_:)``. Default: they
    /// are not.
    public var usesPreSharedKeys = false

    /// The keys by identity, where all are known beforehand; nobody is asked for them then. Needs
    /// ``usesPreSharedKeys``.
    package var preSharedKeys: [[UInt8]: DtlsSecretBytes]?

    /// What clients are told about which identity to use (RFC 4279 §5.2): up to 128 bytes, none zero. Needs
    /// ``usesPreSharedKeys``. `nil`, the default: nothing.
    public var identityHint: [UInt8]?

    /// How an identity without a key is answered. Default: like a wrong key.
    public var unknownIdentity = DtlsUnknownIdentityPolicy.pretendWrongKey

    /// Whether clients are asked for certificates, which takes a certificate of the server. Default: they are not.
    public var clientCertificates = DtlsClientCertificatePolicy.none

    /// Whether the application chooses the identity for each client (``DtlsEvent/helloReceived(_:)``), so that the
    /// configuration needs none. Only engines that were given a ``DtlsClientHello`` ask. Default: it does not.
    public var choosesIdentity = false

    /// Whether the application is asked about each client's certificates (``DtlsEvent/certificatesPresented(_:)``) once
    /// they have passed, or, with ``applicationOverrules``, whatever OpenSSL says of them. Needs
    /// ``clientCertificates``, and ``resumption`` to be none. Default: it is not asked.
    public var asksApplication = false

    /// Whether the application alone decides about clients' certificates. Without ``asksApplication`` it means nothing.
    /// Default: `false`.
    public var applicationOverrules = false

    /// How clients resume sessions. Default: they do not.
    public var resumption = DtlsResumption.none

    /// Makes settings with the defaults.
    public init() {}
}
