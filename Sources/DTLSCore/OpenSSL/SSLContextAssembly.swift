import COpenSSL

/// Turns a configuration into an `SSL_CTX`.
enum SSLContextAssembly {
    /// What a context is made for, beside the configuration that both roles share.
    enum Purpose {
        case client(preSharedKeys: Bool, verification: DtlsServerVerification)
        case server(DtlsServerSettings)
    }

    static func make(_ configuration: DtlsConfiguration, for purpose: Purpose) throws(DtlsError) -> OwnedSSLContext {
        try configuration.validate()
        OpenSSLErrorQueue.clear()
        defer { OpenSSLErrorQueue.clear() }
        let method: OpaquePointer? =
            switch purpose {
            case .client: DTLS_client_method()
            case .server: DTLS_server_method()
            }
        let context = OwnedSSLContext(
            takingOwnershipOf: try OpenSSLErrorQueue.checked(SSL_CTX_new(method), "SSL_CTX_new")
        )
        let pointer = context.pointer

        try setProtocol(configuration, on: pointer)
        try setIdentity(configuration.identity, on: pointer)
        if configuration.rawPublicKeys != .refused {
            let set = COpenSSL_SSL_CTX_use_raw_public_keys(pointer, configuration.rawPublicKeys == .preferred ? 1 : 0)
            try OpenSSLErrorQueue.check(set, "SSL_CTX_set1_server_cert_type")
        }
        try setAlgorithms(configuration, on: pointer)
        switch purpose {
        case .client(let preSharedKeys, let verification):
            guard configuration.stapledStatus != .required || !configuration.usesPins else {
                let message = "a stapled response cannot be required where pins alone decide"
                let hint = "nothing is known of an issuer then; leave stapledStatus at checked"
                throw DtlsError(.invalidConfiguration, phase: .configuration, message, hint: hint)
            }
            // Who has a key and names no roots wants the key.
            let certificates = !preSharedKeys || configuration.trust != nil
            try setCiphers(configuration, certificates: certificates, preSharedKeys: preSharedKeys, on: pointer)
            installCallbacks(on: pointer, role: .client, preSharedKeys: preSharedKeys, keyLog: configuration.logsKeys)
            try setApplicationProtocols(configuration.applicationProtocols, on: pointer)
            // A client keeps no cache, and sessions come out of it all the same.
            SSL_CTX_clear_options(pointer, COpenSSL_SSL_OP_NO_TICKET)
            let verifies = verification != .insecureAcceptAnyCertificate
            SSL_CTX_set_verify(pointer, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, observeVerification)
            SSL_CTX_set_cert_verify_callback(pointer, verifyPeer, nil)
            if certificates, verifies { try setTrust(configuration.trust ?? .system, on: pointer) }

        case .server(let settings):
            try setServer(settings, configuration, on: pointer)
        }
        return context
    }

    private static func setServer(
        _ settings: DtlsServerSettings,
        _ configuration: DtlsConfiguration,
        on context: OpaquePointer
    ) throws(DtlsError) {
        let certificates = configuration.identity != nil || settings.choosesIdentity
        guard settings.usesPreSharedKeys || certificates else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "the server has neither pre-shared keys nor a certificate",
                hint: "give the context preSharedKeys, or set the configuration's identity"
            )
        }
        guard certificates || settings.clientCertificates == .none else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "client certificates need a server certificate",
                hint: "set the configuration's identity"
            )
        }
        guard settings.usesPreSharedKeys || settings.identityHint == nil else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "clients are to get a hint about pre-shared keys, but the server has none",
                hint: "give the context preSharedKeys, or no identityHint"
            )
        }
        guard !settings.asksApplication || settings.clientCertificates != .none else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "the application is to judge clients' certificates, but none are asked for",
                hint: "set clientCertificates to requested or required"
            )
        }
        if settings.asksApplication, case .none = settings.resumption.kind {
        } else if settings.asksApplication {
            // A session is sealed into a ticket before the application has answered, and resuming it asks nobody.
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "sessions cannot be resumed where the application judges each client's certificates",
                hint: "set resumption to none"
            )
        }
        let usesKeys = settings.usesPreSharedKeys
        try setCiphers(configuration, certificates: certificates, preSharedKeys: usesKeys, on: context)
        installCallbacks(on: context, role: .server, preSharedKeys: usesKeys, keyLog: configuration.logsKeys)
        try setIdentityHint(settings.identityHint, on: context)
        try setClientCertificates(settings.clientCertificates, configuration, on: context)
        SSL_CTX_set_cert_verify_callback(context, verifyPeer, nil)
        // A message of the handshake reserves the memory that it claims to need.
        COpenSSL_SSL_CTX_set_max_cert_list(context, settings.clientCertificates == .none ? 16_384 : 65_536)
        try setResumption(settings.resumption, on: context)
        // Sessions are good only where the same is demanded of clients. Without any ID, a resuming client would fail as
        // soon as certificates are verified.
        let demands = SessionFingerprint.ofServer(settings, configuration)
        guard !demands.isEmpty else {
            throw DtlsError(.internalFailure, phase: .configuration, "OpenSSL cannot compute a hash")
        }
        try OpenSSLErrorQueue.check(
            SSL_CTX_set_session_id_context(context, demands, UInt32(demands.count)),
            "SSL_CTX_set_session_id_context"
        )
    }

    private static func setResumption(_ resumption: DtlsResumption, on context: OpaquePointer) throws(DtlsError) {
        if case .none = resumption.kind { return }
        guard (Duration.seconds(1)...Duration.seconds(604_800)).contains(resumption.lifetime) else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "a session's lifetime of \(resumption.lifetime) is outside of one second to one week"
            )
        }
        SSL_CTX_set_timeout(context, Int(resumption.lifetime.components.seconds))
        switch resumption.kind {
        case .none:
            break
        case .tickets:
            SSL_CTX_clear_options(context, COpenSSL_SSL_OP_NO_TICKET)
            let set = SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticketKey)
            try OpenSSLErrorQueue.check(set, "SSL_CTX_set_tlsext_ticket_key_evp_cb")
        case .store:
            COpenSSL_SSL_CTX_set_session_cache_mode(
                context,
                Int(SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL)
            )
            SSL_CTX_sess_set_new_cb(context, sessionEstablished)
            SSL_CTX_sess_set_get_cb(context, sessionOffered)
        }
    }

    /// A client's offer, as the wire has it. `SSL_CTX_set_alpn_protos(3)` returns 0 on success, unlike all else.
    private static func setApplicationProtocols(_ names: [String], on context: OpaquePointer) throws(DtlsError) {
        guard !names.isEmpty else { return }
        let list = names.flatMap { [UInt8(truncatingIfNeeded: $0.utf8.count)] + Array($0.utf8) }
        guard SSL_CTX_set_alpn_protos(context, list, UInt32(list.count)) == 0 else {
            throw OpenSSLErrorQueue.error(.internalFailure, phase: .configuration, "SSL_CTX_set_alpn_protos failed")
        }
    }

    private static func setAlgorithms(_ configuration: DtlsConfiguration, on context: OpaquePointer) throws(DtlsError) {
        func set(_ names: [String]?, _ what: String, _ call: (String) -> Int32) throws(DtlsError) {
            guard let names else { return }
            guard !names.isEmpty else {
                throw DtlsError(
                    .invalidConfiguration,
                    phase: .configuration,
                    "the list of \(what) is empty",
                    hint: "nil leaves them to OpenSSL"
                )
            }
            // OpenSSL refuses a name that stands there twice.
            var seen: Set<String> = []
            let list = names.filter { seen.insert($0).inserted }.joined(separator: ":")
            guard !list.isEmpty, !list.utf8.contains(0), call(list) == 1 else {
                let message = "the \(what) \"\(list.sanitized())\" are not known to OpenSSL"
                throw OpenSSLErrorQueue.error(.invalidConfiguration, phase: .configuration, message)
            }
        }
        try set(configuration.groups?.map(\.name), "groups") { COpenSSL_SSL_CTX_set1_groups_list(context, $0) }
        try set(configuration.signatureAlgorithms?.map(\.name), "signature algorithms") { list in
            Swift.min(
                COpenSSL_SSL_CTX_set1_sigalgs_list(context, list),
                COpenSSL_SSL_CTX_set1_client_sigalgs_list(context, list)
            )
        }
        guard !configuration.srtpProfiles.isEmpty else { return }
        var listed: Set<DtlsSRTPProfile> = []
        if let repeated = configuration.srtpProfiles.first(where: { !listed.insert($0).inserted }) {
            let message = "the SRTP profile \(repeated) is listed twice"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
        let profiles = configuration.srtpProfiles.map(\.name).joined(separator: ":")
        // Returns 0 on success.
        guard SSL_CTX_set_tlsext_use_srtp(context, profiles) == 0 else {
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .configuration,
                "the SRTP profiles \(profiles) are not known to OpenSSL"
            )
        }
    }

    private static func setProtocol(_ configuration: DtlsConfiguration, on context: OpaquePointer) throws(DtlsError) {
        try OpenSSLErrorQueue.check(
            COpenSSL_SSL_CTX_set_min_proto_version(context, Int32(configuration.minimumVersion.wireValue)),
            "SSL_CTX_set_min_proto_version"
        )
        try OpenSSLErrorQueue.check(
            COpenSSL_SSL_CTX_set_max_proto_version(context, Int32(configuration.maximumVersion.wireValue)),
            "SSL_CTX_set_max_proto_version"
        )
        SSL_CTX_set_security_level(context, Int32(configuration.securityLevel ?? 2))
        SSL_CTX_set_options(
            context,
            COpenSSL_SSL_OP_NO_RENEGOTIATION | COpenSSL_SSL_OP_NO_COMPRESSION
                | COpenSSL_SSL_OP_CIPHER_SERVER_PREFERENCE | COpenSSL_SSL_OP_NO_ENCRYPT_THEN_MAC
                | COpenSSL_SSL_OP_NO_TICKET
        )
        // The chain goes out as the identity has it, not as OpenSSL would complete it from the trusted roots.
        let modes = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN
        COpenSSL_SSL_CTX_set_mode(context, Int(modes))
        COpenSSL_SSL_CTX_set_session_cache_mode(context, Int(SSL_SESS_CACHE_OFF))
    }

    private static func setCiphers(
        _ configuration: DtlsConfiguration,
        certificates: Bool,
        preSharedKeys: Bool,
        on context: OpaquePointer
    ) throws(DtlsError) {
        let suites = configuration.cipherSuites
        if let problem = suites.problem(certificates: certificates, preSharedKeys: preSharedKeys) { throw problem }
        if suites.namesCCM8 { SSL_CTX_set_security_callback(context, acceptCCM8) }
        let list = suites.list(certificates: certificates, preSharedKeys: preSharedKeys)
        // OpenSSL would take everything up to a zero byte.
        guard !list.utf8.contains(0), SSL_CTX_set_cipher_list(context, list) == 1 else {
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .configuration,
                "the cipher list \"\(list.sanitized())\" selects no suite",
                hint: "`openssl ciphers -v` lists the names; a list may also carry @SECLEVEL"
            )
        }
    }

    private static func setIdentity(_ identity: DtlsIdentity?, on context: OpaquePointer) throws(DtlsError) {
        guard let identity else { return }
        let leaf = identity.certificateChain.first
        // A raw public key has no certificate.
        let usesLeaf = leaf.map { $0.withX509 { SSL_CTX_use_certificate(context, $0) } == 1 } ?? true
        guard usesLeaf, identity.privateKey.withPrivateKey({ SSL_CTX_use_PrivateKey(context, $0) }) == 1
        else {
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .configuration,
                "the certificate \(leaf.map { "\($0)" } ?? "(raw public key)") cannot be used",
                hint: "its key may be too small for the security level"
            )
        }
        for certificate in identity.certificateChain.dropFirst() {
            let added = certificate.withX509 { COpenSSL_SSL_CTX_add1_chain_cert(context, $0) }
            try OpenSSLErrorQueue.check(added, "SSL_CTX_add1_chain_cert")
        }
    }

    private static func setTrust(_ trust: DtlsTrust, on context: OpaquePointer) throws(DtlsError) {
        if trust.includesSystemRoots {
            try OpenSSLErrorQueue.check(SSL_CTX_set_default_verify_paths(context), "SSL_CTX_set_default_verify_paths")
        }
        let store = try OpenSSLErrorQueue.checked(SSL_CTX_get_cert_store(context), "SSL_CTX_get_cert_store")
        for certificate in trust.certificates {
            let added = certificate.withX509 { X509_STORE_add_cert(store, $0) }
            try OpenSSLErrorQueue.check(added, "X509_STORE_add_cert")
        }
        for list in trust.revocationLists {
            let added = list.withCRL { X509_STORE_add_crl(store, $0) }
            try OpenSSLErrorQueue.check(added, "X509_STORE_add_crl")
        }
        // A certificate that the caller trusts is an anchor even if it is no root itself.
        var flags = X509_V_FLAG_PARTIAL_CHAIN
        if !trust.revocationLists.isEmpty { flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL }
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), UInt(flags))
    }

    private static func setIdentityHint(_ hint: [UInt8]?, on context: OpaquePointer) throws(DtlsError) {
        guard let hint else { return }
        guard hint.count <= 128, !hint.contains(0) else {
            let message = "the identity hint has a zero byte or more than 128 bytes"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
        let terminated = hint.map { CChar(truncatingIfNeeded: $0) } + [0]
        try OpenSSLErrorQueue.check(SSL_CTX_use_psk_identity_hint(context, terminated), "SSL_CTX_use_psk_identity_hint")
    }

    private static func setClientCertificates(
        _ policy: DtlsClientCertificatePolicy,
        _ configuration: DtlsConfiguration,
        on context: OpaquePointer
    ) throws(DtlsError) {
        switch policy {
        case .none:
            SSL_CTX_set_verify(context, SSL_VERIFY_NONE, observeVerification)
            return
        case .requested:
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, observeVerification)
        case .required:
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, observeVerification)
        }
        try setTrust(configuration.trust ?? .system, on: context)
        // Tells clients which issuers are accepted, so that they can choose among several certificates.
        for certificate in configuration.trust?.certificates ?? [] {
            let added = certificate.withX509 { SSL_CTX_add_client_CA(context, $0) }
            try OpenSSLErrorQueue.check(added, "SSL_CTX_add_client_CA")
        }
    }
}
