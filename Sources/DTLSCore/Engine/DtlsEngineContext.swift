import COpenSSL

/// Everything that engines of one role have in common: an `SSL_CTX`, made once, never changed, shared by any number of engines.
///
/// Making one reads the system's roots from disk where they are wanted; it belongs neither on an I/O thread nor into a loop.
/// Users of the `DTLS` module make a `DtlsClientContext` or `DtlsServerContext` instead.
public final class DtlsEngineContext: Sendable {
    /// The role of the engines.
    public let role: DtlsRole

    /// The settings.
    public let configuration: DtlsConfiguration

    /// What a client demands of the server's certificate.
    public let verification: DtlsServerVerification

    /// What a server demands of its clients' certificates.
    public let clientCertificates: DtlsClientCertificatePolicy

    let unknownIdentity: DtlsUnknownIdentityPolicy
    let usesPreSharedKeys: Bool
    // An SSL_CTX that is not changed after init; OpenSSL counts its references and locks its caches (SSL_CTX_new(3)).
    private nonisolated(unsafe) let context: OwnedSSLContext

    /// Makes the context of clients.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share.
    ///   - usesPreSharedKeys: Whether the client has pre-shared keys. Its engines then raise
    ///     ``DtlsEvent/preSharedKeyRequested(_:)`` unless they were given one before they started. Without
    ///     ``DtlsConfiguration/trust`` only pre-shared-key suites are offered.
    ///   - verification: What to demand of a server's certificate. Default: ``DtlsServerVerification/chainAndName``.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range or a cipher list that selects
    ///   nothing; ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no memory.
    public init(
        client configuration: DtlsConfiguration,
        usesPreSharedKeys: Bool = false,
        verification: DtlsServerVerification = .chainAndName
    ) throws(DtlsError) {
        role = .client
        self.configuration = configuration
        self.verification = verification
        self.usesPreSharedKeys = usesPreSharedKeys
        clientCertificates = .none
        unknownIdentity = .pretendWrongKey
        context = try SSLContextAssembly.make(
            configuration,
            for: .client(preSharedKeys: usesPreSharedKeys, verification: verification)
        )
    }

    /// Makes the context of servers.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share. A server without pre-shared keys needs
    ///     ``DtlsConfiguration/identity``.
    ///   - usesPreSharedKeys: Whether the server accepts pre-shared keys. Its engines then raise
    ///     ``DtlsEvent/preSharedKeyRequested(_:)``.
    ///   - identityHint: What the server tells clients about which identity to use (RFC 4279 §5.2): up to 128 bytes, none zero.
    ///   - unknownIdentity: How an identity without a key is answered.
    ///   - clientCertificates: Whether clients are asked for certificates.
    /// - Throws: As ``init(client:usesPreSharedKeys:verification:)`` does.
    public init(
        server configuration: DtlsConfiguration,
        usesPreSharedKeys: Bool = false,
        identityHint: [UInt8]? = nil,
        unknownIdentity: DtlsUnknownIdentityPolicy = .pretendWrongKey,
        clientCertificates: DtlsClientCertificatePolicy = .none
    ) throws(DtlsError) {
        role = .server
        self.configuration = configuration
        self.clientCertificates = clientCertificates
        self.usesPreSharedKeys = usesPreSharedKeys
        self.unknownIdentity = unknownIdentity
        verification = .insecureAcceptAnyCertificate
        context = try SSLContextAssembly.make(
            configuration,
            for: .server(
                preSharedKeys: usesPreSharedKeys,
                identityHint: identityHint,
                clientCertificates: clientCertificates
            )
        )
    }

    /// The version of the OpenSSL that is linked, such as `OpenSSL 3.0.19 27 Jan 2026`.
    public static var openSSLVersion: String {
        OpenSSL_version(OPENSSL_VERSION).map { String(cString: $0) } ?? "unknown"
    }

    /// Makes an `SSL` in the context's role.
    func makeSSL() throws(DtlsError) -> OwnedSSL {
        OpenSSLErrorQueue.clear()
        let ssl = OwnedSSL(
            takingOwnershipOf: try OpenSSLErrorQueue.checked(SSL_new(context.pointer), "SSL_new", phase: .handshake)
        )
        switch role {
        case .client: SSL_set_connect_state(ssl.pointer)
        case .server: SSL_set_accept_state(ssl.pointer)
        }
        return ssl
    }
}
