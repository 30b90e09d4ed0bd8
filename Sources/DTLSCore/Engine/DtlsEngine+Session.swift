import COpenSSL

// What an application sets before the start, and what it may take from an open association.

extension DtlsEngine {
    /// Whether the application has a say before OpenSSL sees the hello.
    func asksBeforeHello(_ hello: DtlsClientHello) -> Bool {
        context.settings.choosesIdentity || context.storesSessions && !hello.offer.sessionID.isEmpty
    }

    /// Answers ``DtlsEvent/helloReceived(_:)``. Does nothing when that is not the question.
    ///
    /// - Parameters:
    ///   - identity: The certificate chain and key for this client; `nil` for the configuration's.
    ///   - session: What the application's store has under ``DtlsClientOffer/sessionID``, if anything.
    ///   - now: The time.
    public func answer(
        identity: DtlsIdentity?,
        session: DtlsStoredSession? = nil,
        now: ContinuousClock.Instant = .now
    ) {
        guard case .hello? = question, lifecycle.isHandshaking, let hello else { return }
        question = nil
        callbacks.offeredSession = session?.contents
        do throws(DtlsError) {
            if let identity { try setIdentity(identity) }
            acceptHello(hello)
        } catch {
            end(.failed(error))
        }
        finishInput(now: now)
    }

    /// Sets the identity of this `SSL` alone. Never `SSL_set_SSL_CTX`, which read out of bounds in mid-handshake (CVE-2026-72897).
    private func setIdentity(_ identity: DtlsIdentity) throws(DtlsError) {
        OpenSSLErrorQueue.clear()
        let ssl = records.pointer
        // OpenSSL has a place for each kind of key, and would go on to use what stands in the others.
        SSL_certs_clear(ssl)
        let leaf = identity.certificateChain.first
        let usesLeaf = leaf.map { $0.withX509 { SSL_use_certificate(ssl, $0) } == 1 } ?? true
        guard usesLeaf, identity.privateKey.withPrivateKey({ SSL_use_PrivateKey(ssl, $0) }) == 1
        else {
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .handshake,
                "the chosen certificate cannot be used",
                hint: "its key may be too small for the security level"
            )
        }
        callbacks.identity = identity
        _ = COpenSSL_SSL_clear_chain_certs(ssl)
        for certificate in identity.certificateChain.dropFirst() {
            let added = certificate.withX509 { COpenSSL_SSL_add1_chain_cert(ssl, $0) }
            try OpenSSLErrorQueue.check(added, "SSL_add1_chain_cert", phase: .handshake)
        }
    }

    /// Offers to resume a session. Before ``start(now:)`` of a client only.
    ///
    /// - Returns: `false` when the session is expired or was made under other demands or credentials; the handshake will be a full one then,
    ///   as it will when the server does not want to resume.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` when the handshake has begun.
    public func resume(_ session: DtlsSession) throws(DtlsError) -> Bool {
        try requireIdle()
        guard context.role == .client, !session.isExpired, session.fingerprint == sessionFingerprint,
            let pointer = SessionEncoding.decode(session.contents)
        else { return false }
        // SSL_set_session takes a reference of its own.
        defer { SSL_SESSION_free(pointer) }
        return SSL_set_session(records.pointer, pointer) == 1
    }

    /// The session of an open client, to be resumed later; `nil` when the server does not resume sessions.
    public var session: DtlsSession? {
        guard lifecycle.isOpen, context.role == .client, let session = SSL_get_session(records.pointer) else {
            return nil
        }
        return DtlsSession(session, fingerprint: sessionFingerprint)
    }

    /// Derives secret bytes that both sides, and nobody else, can derive (RFC 5705, `SSL_export_keying_material(3)`).
    ///
    /// - Parameters:
    ///   - label: What they are for, from the IANA registry "TLS Exporter Labels" or starting with `EXPERIMENTAL`.
    ///   - context: What they are bound to; `nil` and empty are different.
    ///   - count: How many: 1 to 16,384.
    /// - Throws: ``DtlsError/Code-swift.struct/connectionClosed`` unless the association is open,
    ///   ``DtlsError/Code-swift.struct/invalidConfiguration`` for a count or label that is not possible.
    public func exportKeyingMaterial(
        label: String,
        context bound: [UInt8]? = nil,
        count: Int
    ) throws(DtlsError) -> DtlsSecretBytes {
        guard lifecycle.isOpen else { throw notOpen }
        guard (1...16_384).contains(count), (bound?.count ?? 0) <= 65_535 else {
            throw DtlsError(.invalidConfiguration, phase: .established, "\(count) bytes cannot be exported")
        }
        OpenSSLErrorQueue.clear()
        let name = Array(label.utf8).map { CChar(bitPattern: $0) }
        var isExported = false
        let secret = DtlsSecretBytes(count: count) { buffer in
            isExported =
                SSL_export_keying_material(
                    records.pointer,
                    buffer.baseAddress?.assumingMemoryBound(to: UInt8.self),
                    count,
                    name,
                    name.count,
                    bound,
                    bound?.count ?? 0,
                    bound == nil ? 0 : 1
                ) == 1
        }
        guard isExported else {
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .established,
                "keying material cannot be exported under the label \(label.sanitized())",
                hint: "labels of TLS itself, such as \"key expansion\", are refused"
            )
        }
        return secret
    }

    /// The keys of SRTP (RFC 5764 §4.2).
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/connectionClosed`` unless the association is open,
    ///   ``DtlsError/Code-swift.struct/unsupported`` when no profile was negotiated.
    public func srtpKeys() throws(DtlsError) -> DtlsSRTPKeys {
        guard let negotiated else { throw notOpen }
        guard let profile = negotiated.srtpProfile else {
            throw DtlsError(
                .unsupported,
                phase: .established,
                "no SRTP profile was negotiated",
                hint: "set srtpProfiles on both sides"
            )
        }
        let block = try exportKeyingMaterial(
            label: "EXTRACTOR-dtls_srtp",
            count: 2 * (profile.keyLength + profile.saltLength)
        )
        return DtlsSRTPKeys(block, profile: profile, role: context.role)
    }

    private func requireIdle() throws(DtlsError) {
        if case .idle = lifecycle.state { return }
        throw DtlsError(.invalidConfiguration, phase: .handshake, "the handshake has already begun")
    }
}
