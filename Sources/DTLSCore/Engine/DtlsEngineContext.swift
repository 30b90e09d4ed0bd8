import COpenSSL

/// Everything that engines of one role have in common: an `SSL_CTX`, made once, never changed, shared by any number of
/// engines.
///
/// Making one reads the system's roots from disk where they are wanted; it belongs neither on an I/O thread nor into a
/// loop. Users of the `DTLS` module make a `DtlsClientContext` or `DtlsServerContext` instead. Everything may be called
/// from any thread.
public final class DtlsEngineContext: Sendable {
    /// The role of the engines.
    public let role: DtlsRole

    /// The settings that both roles share.
    public let configuration: DtlsConfiguration

    /// What a client demands of the server's certificate; without meaning on servers, which have ``settings``.
    public let verification: DtlsServerVerification

    /// What a server has beside the configuration; the defaults on clients.
    public let settings: DtlsServerSettings

    /// Whether pre-shared keys are in use, as was said when the context was made.
    public let usesPreSharedKeys: Bool

    /// Whether associations leave OpenSSL after their handshake, if their suite allows it.
    let detaches: Bool

    /// Whether hellos carry Connection IDs.
    let offersConnectionIDs: Bool

    /// Memory for the datagrams of associations that have left OpenSSL.
    let queues = QueuePool()

    /// The context's part of the fingerprint of its sessions.
    let sessionDemands: [UInt8]

    let asksApplication: Bool
    let applicationOverrules: Bool
    // An SSL_CTX that is not changed after init; OpenSSL counts its references and locks its caches (SSL_CTX_new(3)).
    private nonisolated(unsafe) let context: OwnedSSLContext

    /// Makes the context of clients.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share.
    ///   - usesPreSharedKeys: Whether the client has pre-shared keys. Its engines then raise
    ///     ``DtlsEvent/preSharedKeyRequested(_:)`` unless they were given one before they started. Without
    ///     ``DtlsConfiguration/trust`` only pre-shared-key suites are offered. Default: it has none.
    ///   - verification: What to demand of a server's certificate. Default: ``DtlsServerVerification/chainAndName``.
    ///   - asksApplication: Whether engines raise ``DtlsEvent/certificatesPresented(_:)`` when a server's certificates
    ///     have passed that demand. Default: no; ``DtlsServerVerification/byApplication`` implies it.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range, a cipher list that
    ///   selects nothing, groups, algorithms or profiles that OpenSSL does not know, or an identity that it does not
    ///   take; ``DtlsError/Code-swift.struct/unsupported`` for what needs a later OpenSSL;
    ///   ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no memory.
    public init(
        client configuration: DtlsConfiguration,
        usesPreSharedKeys: Bool = false,
        verification: DtlsServerVerification = .chainAndName,
        asksApplication: Bool = false
    ) throws(DtlsError) {
        role = .client
        self.configuration = configuration
        self.verification = verification
        self.usesPreSharedKeys = usesPreSharedKeys
        self.asksApplication = asksApplication || verification == .byApplication
        applicationOverrules = verification == .byApplication
        settings = DtlsServerSettings()
        sessionDemands = SessionFingerprint.demands(
            ofClient: configuration,
            verification,
            usesPreSharedKeys: usesPreSharedKeys,
            asksApplication: self.asksApplication
        )
        context = try SSLContextAssembly.make(
            configuration,
            for: .client(preSharedKeys: usesPreSharedKeys, verification: verification)
        )
        (detaches, offersConnectionIDs) = Self.prepareRecords(configuration, .client, context.pointer)
    }

    /// Makes the context of servers.
    ///
    /// - Parameters:
    ///   - configuration: The settings that both roles share. A server without pre-shared keys needs
    ///     ``DtlsConfiguration/identity``, or to choose one for each client.
    ///   - settings: What servers have beside. Default: no pre-shared keys, no questions, no resumption.
    /// - Throws: As ``init(client:usesPreSharedKeys:verification:asksApplication:)`` does;
    ///   ``DtlsError/Code-swift.struct/invalidConfiguration`` also for settings that could serve nobody or contradict
    ///   each other.
    public init(
        server configuration: DtlsConfiguration,
        settings: DtlsServerSettings = DtlsServerSettings()
    ) throws(DtlsError) {
        role = .server
        self.configuration = configuration
        self.settings = settings
        sessionDemands = SessionFingerprint.ofServer(settings, configuration)
        verification = .insecureAcceptAnyCertificate
        usesPreSharedKeys = settings.usesPreSharedKeys
        asksApplication = settings.asksApplication
        applicationOverrules = settings.asksApplication && settings.applicationOverrules
        context = try SSLContextAssembly.make(configuration, for: .server(settings))
        (detaches, offersConnectionIDs) = Self.prepareRecords(configuration, .server, context.pointer)
    }

    /// Finds out whether associations leave OpenSSL, and whether their records may carry Connection IDs then.
    private static func prepareRecords(
        _ configuration: DtlsConfiguration,
        _ role: DtlsRole,
        _ context: OpaquePointer
    ) -> (detaches: Bool, offersConnectionIDs: Bool) {
        // DTLS 1.3 has other records, and other Connection IDs.
        guard configuration.recordLayer == .detached, configuration.maximumVersion < .v1_3 else {
            return (false, false)
        }
        guard configuration.connectionIDs.length(for: role) != nil else { return (true, false) }
        let isInstalled = ConnectionIDExtension.install(on: context, role: role)
        if isInstalled, configuration.connectionIDs.checksPaths {
            ConnectionIDExtension.installPathChecks(on: context)
        }
        return (true, isInstalled)
    }

    /// The version of the OpenSSL that is linked, such as `OpenSSL 3.0.19 27 Jan 2026`.
    public static var openSSLVersion: String {
        OpenSSL_version(OPENSSL_VERSION).map { String(cString: $0) } ?? "unknown"
    }

    /// Frees what the ciphers of open associations, of all contexts, have kept at hand and have not used since the last
    /// call: some 2 KiB for each association that has them for itself, of which there are up to 1,024 for each cipher.
    /// Those beyond share 256 of them.
    ///
    /// To be called every some 15 seconds by who wants that memory back; module DTLS does so by itself. From any
    /// thread.
    ///
    /// - Returns: Whether anything is kept still. If not, calls are of no use until a record is sealed or opened.
    @discardableResult
    public static func releaseIdleCiphers() -> Bool { RecordCipher.releaseIdle() }

    var unknownIdentity: DtlsUnknownIdentityPolicy { settings.unknownIdentity }

    var ticketKeys: DtlsTicketKeys? {
        if case .tickets(let keys) = settings.resumption.kind { keys } else { nil }
    }

    /// Whether sessions live in a store of the application; engines then raise ``DtlsEvent/sessionEstablished(_:)``.
    public var storesSessions: Bool {
        if case .store = settings.resumption.kind { true } else { false }
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

extension DtlsConfiguration {
    var logsKeys: Bool { keyLog != nil || capture != nil }
}
