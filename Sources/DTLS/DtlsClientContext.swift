/// What a client needs to know to trust a server and to be trusted: the configuration, the pre-shared key or the way to get one,
/// and what to demand of certificates.
///
/// Making a context may read the system's roots from disk; make it once and use it for any number of connections, of any number
/// of clients, at the same time.
///
/// ```swift
/// // A server with a certificate of a public authority.
/// let web = try DtlsClientContext()
/// // A gadget that shares a key.
/// let gadget = try DtlsClientContext(preSharedKey: DtlsPreSharedKey(identity: "sensor-7", key: key))
/// ```
public final class DtlsClientContext: Sendable {
    enum KeySource: Sendable {
        case none
        case fixed(DtlsPreSharedKey)
        case asked(@Sendable (_ hint: [UInt8]?) async -> DtlsPreSharedKey?)
    }

    let engineContext: DtlsEngineContext
    let keySource: KeySource

    /// Makes a context.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share. Its ``DtlsConfiguration/identity`` is presented when the server asks
    ///     for a certificate.
    ///   - preSharedKey: The identity and key to use. With one, and without ``DtlsConfiguration/trust``, only pre-shared-key suites
    ///     are offered.
    ///   - verification: What to demand of the server's certificate.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range or a cipher list that selects
    ///   nothing.
    public init(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        preSharedKey: DtlsPreSharedKey? = nil,
        verification: DtlsServerVerification = .chainAndName
    ) throws(DtlsError) {
        keySource = preSharedKey.map { .fixed($0) } ?? .none
        engineContext = try DtlsEngineContext(
            client: configuration,
            usesPreSharedKeys: preSharedKey != nil,
            verification: verification
        )
    }

    /// Makes a context that asks for the pre-shared key when the server has given its hint.
    ///
    /// - Parameters:
    ///   - configuration: As in ``init(_:preSharedKey:verification:)``.
    ///   - verification: As in ``init(_:preSharedKey:verification:)``.
    ///   - preSharedKeyForHint: Called once in each handshake, in a task of its own, with the server's hint or `nil`. It may take as
    ///     long as the handshake's timeout leaves it. `nil` ends the handshake with
    ///     ``DtlsError/Code-swift.struct/authenticationFailed``.
    /// - Throws: As ``init(_:preSharedKey:verification:)`` does.
    public init(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        verification: DtlsServerVerification = .chainAndName,
        preSharedKeyForHint: @escaping @Sendable (_ hint: [UInt8]?) async -> DtlsPreSharedKey?
    ) throws(DtlsError) {
        keySource = .asked(preSharedKeyForHint)
        engineContext = try DtlsEngineContext(
            client: configuration,
            usesPreSharedKeys: true,
            verification: verification
        )
    }

    /// The settings.
    public var configuration: DtlsConfiguration { engineContext.configuration }

    var fixedKey: DtlsPreSharedKey? {
        if case .fixed(let key) = keySource { key } else { nil }
    }
}
