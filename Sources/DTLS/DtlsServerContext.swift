/// What a server needs to know to prove who it is and to let clients in.
///
/// It has a certificate (``/DTLSCore/DtlsConfiguration/identity``), pre-shared keys, or both. Make it once, which may
/// read the system's roots from disk; it may serve any number of servers at the same time.
///
/// The closures that it is given are called in tasks of their own, outside of every loop: they may take their time,
/// within the handshake's, and call everything; other peers go on meanwhile.
///
/// ```swift
/// let context = try DtlsServerContext(
///     preSharedKeys: DtlsPreSharedKeyStore { identity in await database.key(for: identity) }
/// )
/// ```
public final class DtlsServerContext: Sendable {
    let engineContext: DtlsEngineContext
    let preSharedKeys: DtlsPreSharedKeyStore?
    let identityFor: (@Sendable (DtlsClientOffer) async -> DtlsIdentity?)?
    let acceptsCertificates: (@Sendable (DtlsPresentedCertificates) async -> Bool)?
    let resumption: DtlsServerResumption

    /// Makes a context.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share. Its ``/DTLSCore/DtlsConfiguration/trust`` verifies
    ///     clients' certificates.
    ///   - preSharedKeys: The keys of the clients. Default: none are accepted.
    ///   - identityHint: What clients are told about which identity to use (RFC 4279 §5.2): up to 128 bytes, none zero.
    ///     Needs `preSharedKeys`. Default: nothing.
    ///   - unknownIdentity: How an identity without a key is answered. Default: like a wrong key.
    ///   - clientCertificates: Whether clients are asked for certificates. Needs a certificate of the server, or
    ///     `identityFor`. Default: they are not asked.
    ///   - identityFor: Chooses the certificate for each client by what its hello says (the server name, suites,
    ///     signature algorithms), in a task of its own; the handshake waits, within its time. `nil` stands for the
    ///     configuration's ``/DTLSCore/DtlsConfiguration/identity``; where there is none either, the server has no
    ///     certificate for that client, whose handshake fails with handshake_failure unless both sides have
    ///     pre-shared keys. Contexts for several names need no other way. Default: nobody is asked.
    ///   - acceptsCertificates: Asked, in a task of its own, when a client's certificates have led to a trusted root
    ///     (or, with `applicationOverrules`, whatever OpenSSL says of them). The connection is exposed only after the
    ///     answer; `false` ends it with ``/DTLSCore/DtlsError/Code-swift.struct/certificateRejected``, and the client
    ///     gets close_notify. Such servers resume no sessions, because a ticket goes out before the answer. Needs
    ///     `clientCertificates`. Default: nobody is asked.
    ///   - applicationOverrules: Whether `acceptsCertificates`, which it needs, alone decides. Default: no.
    ///   - resumption: How clients resume sessions. Default: tickets under keys of this context's own, unless there is
    ///     `acceptsCertificates`.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range, a cipher
    ///   list that selects nothing, what OpenSSL does not know, arguments that contradict each other
    ///   (`acceptsCertificates` beside tickets or a store, `identityHint` without `preSharedKeys`), or a context that
    ///   could serve nobody; ``/DTLSCore/DtlsError/Code-swift.struct/unsupported`` for what needs a later OpenSSL;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure``.
    public init(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        preSharedKeys: DtlsPreSharedKeyStore? = nil,
        identityHint: [UInt8]? = nil,
        unknownIdentity: DtlsUnknownIdentityPolicy = .pretendWrongKey,
        clientCertificates: DtlsClientCertificatePolicy = .none,
        identityFor: (@Sendable (DtlsClientOffer) async -> DtlsIdentity?)? = nil,
        acceptsCertificates: (@Sendable (DtlsPresentedCertificates) async -> Bool)? = nil,
        applicationOverrules: Bool = false,
        resumption: DtlsServerResumption = .automatic
    ) throws(DtlsError) {
        guard acceptsCertificates != nil || !applicationOverrules else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "the application is to judge certificates, but there is no way to ask it",
                hint: "give the context acceptsCertificates"
            )
        }
        self.preSharedKeys = preSharedKeys
        self.identityFor = identityFor
        self.acceptsCertificates = acceptsCertificates
        self.resumption = resumption
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = preSharedKeys != nil
        if case .table(let keys)? = preSharedKeys?.source { settings.preSharedKeys = keys }
        settings.identityHint = identityHint
        settings.unknownIdentity = unknownIdentity
        settings.clientCertificates = clientCertificates
        settings.choosesIdentity = identityFor != nil
        settings.asksApplication = acceptsCertificates != nil
        settings.applicationOverrules = applicationOverrules
        // The application's verdict is asked for at every handshake, so there every handshake is a full one.
        let resumes = acceptsCertificates == nil || !resumption.isAutomatic
        settings.resumption = resumes ? try resumption.engineResumption() : .none
        engineContext = try DtlsEngineContext(server: configuration, settings: settings)
    }

    /// The settings that the context was made with.
    public var configuration: DtlsConfiguration { engineContext.configuration }
}

/// The pre-shared keys that a server accepts: a table, or a look-up.
///
/// A wrong key, or an unknown identity unless that is told (``/DTLSCore/DtlsUnknownIdentityPolicy/alert``), ends a
/// handshake with ``/DTLSCore/DtlsError/Code-swift.struct/authenticationFailed`` on both sides, but not at once:
/// anybody can forge a Finished that does not open, so the client's own has to come again. The server waits three times
/// for that, within the handshake's time, and for as long as its ``/DTLSCore/DtlsRetransmissionPolicy`` says: about
/// 3 seconds in all by default, 1 to 2 with the waits of ``/DTLSCore/DtlsConfiguration/webRTC``, some 16 with
/// ``/DTLSCore/DtlsConfiguration/iotConstrained``. A wait in which nothing came again does not count.
public struct DtlsPreSharedKeyStore: Sendable {
    enum Source: Sendable {
        case table([[UInt8]: DtlsSecretBytes])
        case lookUp(@Sendable (_ identity: [UInt8], _ serverName: String?) async -> DtlsSecretBytes?)
    }

    let source: Source

    /// Makes a store of the given keys. Of several keys of one identity the last counts.
    public init(_ keys: [DtlsPreSharedKey]) {
        source = .table(Dictionary(keys.map { ($0.identity, $0.key) }) { _, last in last })
    }

    /// Makes a store that asks.
    ///
    /// - Parameter lookUp: Called once in each handshake that needs a key, in a task of its own, with the identity as
    ///   the client sent it: 0 to 256 bytes of any value but zero (one with a zero byte is unknown without a call). It
    ///   may take as long as the handshake's timeout leaves it; other peers go on meanwhile. `nil` stands for an
    ///   unknown identity, and so does a key of 0 or of more than 512 bytes. Not called when a session is resumed.
    public init(lookUp: @escaping @Sendable (_ identity: [UInt8]) async -> DtlsSecretBytes?) {
        source = .lookUp { identity, _ in await lookUp(identity) }
    }

    /// Makes a store that asks, for servers of several names.
    ///
    /// - Parameter lookUp: As in ``init(lookUp:)``, with the DNS name of the server that the client means in lower
    ///   case, or `nil` when it did not say.
    public init(
        lookUpForServerName lookUp:
            @escaping @Sendable (_ identity: [UInt8], _ serverName: String?) async -> DtlsSecretBytes?
    ) {
        source = .lookUp(lookUp)
    }
}
