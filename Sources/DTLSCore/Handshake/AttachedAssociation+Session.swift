import COpenSSL
import DTLSPrimitives

// What an application sets before the start, and what it may take from an open association.

extension AttachedAssociation {
    /// Whether the application has a say before OpenSSL sees the hello.
    func asksBeforeHello(_ offer: DtlsClientOffer) -> Bool {
        context.settings.choosesIdentity || context.storesSessions && !offer.sessionID.isEmpty
    }

    func answer(
        identity: DtlsIdentity?,
        session: DtlsStoredSession?,
        now: Moment
    ) {
        guard case .hello? = question, lifecycle.isHandshaking, let hello else { return }
        question = nil
        // Of an honest client nothing but its hello again, which is about to be answered.
        for held in heldDatagrams {
            statistics.drops[.waitingForApplication] += 1
            held.original?.withUnsafeBytes { capture($0) }
        }
        heldDatagrams = []
        callbacks.offeredSession = session?.contents
        do throws(DtlsError) {
            if let identity { try setIdentity(identity) }
            acceptHello(hello)
        } catch {
            end(.failed(error))
        }
        finishInput(now: now)
    }

    /// Sets the identity of this `SSL` alone. Never `SSL_set_SSL_CTX`, which read out of bounds in mid-handshake
    /// (CVE-2026-72897).
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

    func resume(_ session: DtlsSession) throws(DtlsError) -> Bool {
        try requireIdle()
        guard context.role == .client, !session.isExpired, !sessionFingerprint.isEmpty,
            session.fingerprint == sessionFingerprint,
            let pointer = SessionEncoding.decode(session.contents)
        else { return false }
        // SSL_set_session takes a reference of its own.
        defer { SSL_SESSION_free(pointer) }
        return SSL_set_session(records.pointer, pointer) == 1
    }

    var session: DtlsSession? {
        guard lifecycle.isOpen, context.role == .client, let session = SSL_get_session(records.pointer) else {
            return nil
        }
        return DtlsSession(session, fingerprint: sessionFingerprint)
    }

    func exportKeyingMaterial(
        label: String,
        context bound: [UInt8]?,
        count: Int
    ) throws(DtlsError) -> DtlsSecretBytes {
        try requireExportable(count, label, bound)
        OpenSSLErrorQueue.clear()
        let name = Array(label.utf8).map { CChar(truncatingIfNeeded: $0) }
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
        guard isExported else { throw cannotExport(label) }
        return secret
    }

    private func requireIdle() throws(DtlsError) {
        if case .idle = lifecycle.state { return }
        throw DtlsEngine.alreadyBegun
    }
}
