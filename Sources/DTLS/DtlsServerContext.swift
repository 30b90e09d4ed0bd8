/// What a server needs to know to prove who it is and to let clients in.
///
/// It has a certificate (``DtlsConfiguration/identity``), pre-shared keys, or both. Make it once; it may serve any number of
/// servers at the same time.
///
/// ```swift
/// let context = try DtlsServerContext(
///     preSharedKeys: DtlsPreSharedKeyStore { identity in await database.key(for: identity) }
/// )
/// ```
public final class DtlsServerContext: Sendable {
    let engineContext: DtlsEngineContext
    let preSharedKeys: DtlsPreSharedKeyStore?

    /// Makes a context.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share. Its ``DtlsConfiguration/trust`` verifies clients' certificates.
    ///   - preSharedKeys: The keys of the clients.
    ///   - identityHint: What clients are told about which identity to use (RFC 4279 §5.2): up to 128 bytes, none zero.
    ///   - unknownIdentity: How an identity without a key is answered. Default: like a wrong key.
    ///   - clientCertificates: Whether clients are asked for certificates. Needs ``DtlsConfiguration/identity``.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range, a cipher list that selects
    ///   nothing, or a context that could serve nobody.
    public init(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        preSharedKeys: DtlsPreSharedKeyStore? = nil,
        identityHint: [UInt8]? = nil,
        unknownIdentity: DtlsUnknownIdentityPolicy = .pretendWrongKey,
        clientCertificates: DtlsClientCertificatePolicy = .none
    ) throws(DtlsError) {
        self.preSharedKeys = preSharedKeys
        engineContext = try DtlsEngineContext(
            server: configuration,
            usesPreSharedKeys: preSharedKeys != nil,
            identityHint: identityHint,
            unknownIdentity: unknownIdentity,
            clientCertificates: clientCertificates
        )
    }

    /// The settings.
    public var configuration: DtlsConfiguration { engineContext.configuration }
}

/// The pre-shared keys that a server accepts: a table, or a look-up.
public struct DtlsPreSharedKeyStore: Sendable {
    enum Source: Sendable {
        case table([[UInt8]: DtlsSecretBytes])
        case lookUp(@Sendable (_ identity: [UInt8]) async -> DtlsSecretBytes?)
    }

    let source: Source

    /// Makes a store of the given keys. Of several keys of one identity the last counts.
    public init(_ keys: [DtlsPreSharedKey]) {
        source = .table(Dictionary(keys.map { ($0.identity, $0.key) }) { _, last in last })
    }

    /// Makes a store that asks.
    ///
    /// - Parameter lookUp: Called once in each handshake, in a task of its own, with the identity as the client sent it: 0 to 256
    ///   bytes of any value. It may take as long as the handshake's timeout leaves it; other peers go on meanwhile. `nil` stands for an
    ///   unknown identity, and so does a key of 0 or of more than 512 bytes.
    public init(lookUp: @escaping @Sendable (_ identity: [UInt8]) async -> DtlsSecretBytes?) {
        source = .lookUp(lookUp)
    }
}
