import COpenSSL

/// Turns a configuration into an `SSL_CTX`.
enum SSLContextAssembly {
    /// What a context is made for, beside the configuration that both roles share.
    enum Purpose {
        case client(preSharedKeys: Bool, verification: DtlsServerVerification)
        case server(preSharedKeys: Bool, identityHint: [UInt8]?, clientCertificates: DtlsClientCertificatePolicy)
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
        switch purpose {
        case .client(let preSharedKeys, let verification):
            // Who has a key and names no roots wants the key.
            let certificates = !preSharedKeys || configuration.trust != nil
            try setCiphers(configuration, certificates: certificates, preSharedKeys: preSharedKeys, on: pointer)
            installCallbacks(on: pointer, role: .client, preSharedKeys: preSharedKeys)
            let verifies = verification != .insecureAcceptAnyCertificate
            SSL_CTX_set_verify(pointer, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, observeVerification)
            if certificates, verifies { try setTrust(configuration.trust ?? .system, on: pointer) }

        case .server(let preSharedKeys, let identityHint, let clientCertificates):
            guard preSharedKeys || configuration.identity != nil else {
                throw DtlsError(
                    .invalidConfiguration,
                    phase: .configuration,
                    "the server has neither pre-shared keys nor a certificate",
                    hint: "give the context preSharedKeys, or set the configuration's identity"
                )
            }
            let certificates = configuration.identity != nil
            guard certificates || clientCertificates == .none else {
                throw DtlsError(
                    .invalidConfiguration,
                    phase: .configuration,
                    "client certificates need a server certificate",
                    hint: "set the configuration's identity"
                )
            }
            try setCiphers(configuration, certificates: certificates, preSharedKeys: preSharedKeys, on: pointer)
            installCallbacks(on: pointer, role: .server, preSharedKeys: preSharedKeys)
            try setIdentityHint(identityHint, on: pointer)
            try setClientCertificates(clientCertificates, configuration, on: pointer)
            // A message of the handshake reserves the memory that it claims to need.
            COpenSSL_SSL_CTX_set_max_cert_list(pointer, clientCertificates == .none ? 16_384 : 65_536)
            // Without one, a resuming client would fail as soon as certificates are verified.
            try OpenSSLErrorQueue.check(
                SSL_CTX_set_session_id_context(pointer, "swift-dtls", 10),
                "SSL_CTX_set_session_id_context"
            )
        }
        return context
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
        if configuration.cipherSuites.namesCCM8 { SSL_CTX_set_security_callback(context, acceptCCM8) }
        let list = configuration.cipherSuites.list(certificates: certificates, preSharedKeys: preSharedKeys)
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
        guard let identity, let leaf = identity.certificateChain.first else { return }
        guard leaf.withX509({ SSL_CTX_use_certificate(context, $0) }) == 1,
            identity.privateKey.withPrivateKey({ SSL_CTX_use_PrivateKey(context, $0) }) == 1
        else {
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .configuration,
                "the certificate \(leaf) cannot be used",
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
        // A certificate that the caller trusts is an anchor even if it is no root itself.
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), UInt(X509_V_FLAG_PARTIAL_CHAIN))
    }

    private static func setIdentityHint(_ hint: [UInt8]?, on context: OpaquePointer) throws(DtlsError) {
        guard let hint else { return }
        guard hint.count <= 128, !hint.contains(0) else {
            let message = "the identity hint has a zero byte or more than 128 bytes"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
        let terminated = hint.map { CChar(bitPattern: $0) } + [0]
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
