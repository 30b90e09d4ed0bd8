/// What a client needs to know to trust a server and to be trusted: the configuration, the pre-shared key or the way to
/// get one, and what to demand of certificates.
///
/// Making a context may read the system's roots from disk, which blocks; make it once and use it for any number of
/// connections, of any number of clients, at the same time.
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
    let acceptsCertificates: (@Sendable (DtlsPresentedCertificates) async -> Bool)?

    /// Makes a context.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share. Its ``/DTLSCore/DtlsConfiguration/identity`` is presented
    ///     when the server asks for a certificate.
    ///   - preSharedKey: The identity and key to use, whatever the server's hint. With one, and without
    ///     ``/DTLSCore/DtlsConfiguration/trust``, only pre-shared-key suites are offered. Default: none.
    ///   - verification: What to demand of the server's certificate. Default:
    ///     ``/DTLSCore/DtlsServerVerification/chainAndName``.
    ///   - acceptsCertificates: Asked, in a task of its own, when the server's certificates have passed `verification`
    ///     (or, with ``/DTLSCore/DtlsServerVerification/byApplication``, whatever OpenSSL says of them). The handshake
    ///     waits for the answer, within its time; nothing is sent under the new keys before. `false` ends it with
    ///     ``/DTLSCore/DtlsError/Code-swift.struct/certificateRejected``. Not asked when a session is resumed. It may
    ///     take its time and call everything. Default: nobody is asked.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range, a cipher
    ///   list that selects nothing, what OpenSSL does not know, or ``/DTLSCore/DtlsServerVerification/byApplication``
    ///   without `acceptsCertificates`; ``/DTLSCore/DtlsError/Code-swift.struct/unsupported`` for what needs a later
    ///   OpenSSL; ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure``.
    public convenience init(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        preSharedKey: DtlsPreSharedKey? = nil,
        verification: DtlsServerVerification = .chainAndName,
        acceptsCertificates: (@Sendable (DtlsPresentedCertificates) async -> Bool)? = nil
    ) throws(DtlsError) {
        try self.init(configuration, preSharedKey.map { .fixed($0) } ?? .none, verification, acceptsCertificates)
    }

    private init(
        _ configuration: DtlsConfiguration,
        _ keySource: KeySource,
        _ verification: DtlsServerVerification,
        _ acceptsCertificates: (@Sendable (DtlsPresentedCertificates) async -> Bool)?
    ) throws(DtlsError) {
        guard acceptsCertificates != nil || verification != .byApplication else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "the application is to judge certificates, but there is no way to ask it",
                hint: "give the context acceptsCertificates"
            )
        }
        self.keySource = keySource
        self.acceptsCertificates = acceptsCertificates
        var usesPreSharedKeys = true
        if case .none = keySource { usesPreSharedKeys = false }
        engineContext = try DtlsEngineContext(
            client: configuration,
            usesPreSharedKeys: usesPreSharedKeys,
            verification: verification,
            asksApplication: acceptsCertificates != nil
        )
    }

    /// Makes a context that asks for the pre-shared key when the server has given its hint.
    ///
    /// - Parameters:
    ///   - configuration: As in ``init(_:preSharedKey:verification:acceptsCertificates:)``.
    ///   - verification: As in ``init(_:preSharedKey:verification:acceptsCertificates:)``.
    ///   - acceptsCertificates: As in ``init(_:preSharedKey:verification:acceptsCertificates:)``.
    ///   - preSharedKeyForHint: Called once in each handshake, in a task of its own, with the server's hint or `nil`.
    ///     It may take as long as the handshake's timeout leaves it, and call everything. `nil` ends the handshake with
    ///     ``/DTLSCore/DtlsError/Code-swift.struct/authenticationFailed``. Without
    ///     ``/DTLSCore/DtlsConfiguration/trust`` only pre-shared-key suites are offered.
    /// - Throws: As ``init(_:preSharedKey:verification:acceptsCertificates:)`` does.
    public convenience init(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        verification: DtlsServerVerification = .chainAndName,
        acceptsCertificates: (@Sendable (DtlsPresentedCertificates) async -> Bool)? = nil,
        preSharedKeyForHint: @escaping @Sendable (_ hint: [UInt8]?) async -> DtlsPreSharedKey?
    ) throws(DtlsError) {
        try self.init(configuration, .asked(preSharedKeyForHint), verification, acceptsCertificates)
    }

    /// The settings that the context was made with.
    public var configuration: DtlsConfiguration { engineContext.configuration }

    var fixedKey: DtlsPreSharedKey? {
        if case .fixed(let key) = keySource { key } else { nil }
    }
}
