import COpenSSL
import DTLSPrimitives

// The handshake's way through OpenSSL, and the question for a pre-shared key.

extension AttachedAssociation {
    func acceptHello(_ hello: DtlsClientHello) {
        guard offer?.knowsExtendedMasterSecret == true || !context.configuration.requiresExtendedMasterSecret else {
            // Before anything is computed. OpenSSL would go on, and an honest client would believe itself connected.
            let alert = DtlsAlert(level: .fatal, code: .handshakeFailure)
            sendInClear(alert)
            return end(.failed(extendedMasterSecretMissing(alertSent: alert)))
        }
        guard bindsSessionToServerName() else {
            let message = "OpenSSL cannot bind a session to the server's name"
            return end(.failed(DtlsError(.internalFailure, phase: .handshake, message)))
        }
        hello.record.withUnsafeBytes { record in
            bio.withInbound(record, [0..<record.count]) { acceptHello() }
        }
    }

    /// Has a session be resumed for that server name alone for which it was made.
    private func bindsSessionToServerName() -> Bool {
        if case .none = context.settings.resumption.kind { return true }
        guard let name = offer?.serverName else { return true }
        let id = SessionFingerprint.ofServer(context.sessionDemands, serverName: name)
        return !id.isEmpty && SSL_set_session_id_context(records.pointer, id, UInt32(id.count)) == 1
    }

    private func acceptHello() {
        switch records.perform(.acceptHello) {
        case .done:
            advance()
        case .failed(let errors):
            failHandshake(errors)
        case .waits, .waitsForVerdict, .closedByPeer, .emptyRecord:
            // The gate has read this hello; that OpenSSL would not is a fault of the hello.
            failHandshake([])
        }
    }

    func advance() {
        switch records.perform(.handshake) {
        case .done:
            finishHandshake()
        case .waits, .emptyRecord:
            break
        case .waitsForVerdict:
            askAboutCertificates()
        case .closedByPeer:
            failHandshake([])
        case .failed(let errors):
            failHandshake(errors)
        }
    }

    private func finishHandshake() {
        let ssl = records.pointer
        if context.configuration.requiresExtendedMasterSecret, COpenSSL_SSL_get_extms_support(ssl) != 1 {
            _ = records.perform(.shutdown)
            return end(.failed(extendedMasterSecretMissing(alertSent: callbacks.alertSent)))
        }
        // A server's application is asked only now, and before anything is exposed.
        if context.role == .server, callbacks.decision == .asked { return askAboutCertificates() }
        expose()
    }

    /// Opens the association: the handshake is finished and every check has passed.
    private func expose() {
        let ssl = records.pointer
        let usedKey = DtlsCipherSuite.usesPreSharedKey(SSL_get_current_cipher(ssl))
        let negotiated = DtlsNegotiated(
            of: ssl,
            role: context.role,
            preSharedKeyIdentity: usedKey ? identityInUse : nil,
            clientOffer: offer,
            connectionIDs: callbacks.negotiatedConnectionIDs
        )
        self.negotiated = negotiated
        guard lifecycle.finish() else { return }
        statistics.handshakesCompleted = 1
        prepareGraduation(negotiated)
        guard graduation != nil || negotiated.connectionIDs == nil else {
            // OpenSSL cannot read what the peer sends from here on.
            let message = "the keys for records with Connection IDs could not be derived"
            return end(.failed(DtlsError(.internalFailure, phase: .handshake, message)))
        }
        bio.keepsFlight = false
        reassembly?.finish(counting: &statistics.drops)
        reassembly = nil
        if negotiated.isResumed { statistics.handshakesResumed = 1 }
        if let overhead = callbacks.sealedOverhead(of: records.cipher) { filter.minimumSealedLength = overhead }
        measurePayload()
        handshakeDeadline = nil
        alertDeadline = nil
        events.append(.handshakeFinished(negotiated))
        guard graduation == nil else { return }
        // What came before the Finished waits in OpenSSL, and may be larger than the datagram at hand.
        readAll(largest: 16_384)
    }

    private var identityInUse: [UInt8]? {
        switch callbacks.preSharedKey {
        case .key(let key): return key.identity
        case .pending, .none, .secret: break
        }
        if let requestedIdentity { return requestedIdentity }
        // A resumed session asks for no key; it knows the identity that was used when it began.
        return SSL_get_psk_identity(records.pointer).map { Array(UnsafeBufferPointer(start: $0, count: strlen($0))) }?
            .map { UInt8(truncatingIfNeeded: $0) }
    }
}

// MARK: - Pre-shared keys

extension AttachedAssociation {
    func answer(_ answer: DtlsPreSharedKeyAnswer, now: Moment) {
        guard case .preSharedKey? = question, lifecycle.isHandshaking else { return }
        switch (answer, context.role) {
        case (.identityAndKey(let key), .client):
            callbacks.preSharedKey = .key(key)
        case (.key(let secret), .server):
            callbacks.preSharedKey = Self.preSharedKey(secret)
        case (_, .server):
            callbacks.preSharedKey = .none
        case (_, .client):
            let message = "the application has no pre-shared key for this server"
            end(.failed(DtlsError(.authenticationFailed, phase: .handshake, message)))
            return finishInput(now: now)
        }
        releaseHeldDatagrams(now: now)
    }

    /// What OpenSSL is to be told of a look-up's result.
    private static func preSharedKey(_ secret: DtlsSecretBytes?) -> CallbackState.PreSharedKeyAnswer {
        guard let secret, (1...DtlsPreSharedKey.maximumKeyLength).contains(secret.count) else { return .none }
        return .secret(secret)
    }

    /// Whether the handshake has come to the point where it needs a key, which these records would make OpenSSL ask
    /// for.
    func asksForKey(_ bytes: UnsafeRawBufferPointer, _ slices: RecordFilter.Slices) -> Bool {
        guard case .pending = callbacks.preSharedKey else { return false }
        for slice in slices { watch.observe(UnsafeRawBufferPointer(rebasing: bytes[slice])) }
        switch context.role {
        case .server:
            guard let identity = watch.identity, DtlsCipherSuite.usesPreSharedKey(records.cipher) else { return false }
            guard !identity.contains(0) else {
                // OpenSSL ends identities at a zero byte; whoever sends one is nobody that is known.
                callbacks.preSharedKey = .none
                return false
            }
            requestedIdentity = identity
            callbacks.requestedIdentity = identity
            if let keys = context.settings.preSharedKeys {
                callbacks.preSharedKey = Self.preSharedKey(keys[identity])
                return false
            }
            let name = SSL_get_servername(records.pointer, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) }
            events.append(.preSharedKeyRequested(.identity(identity, serverName: name?.lowercased())))
        case .client:
            guard let suite = watch.suite, let hint = watch.hint else { return false }
            let bytes = [UInt8(suite >> 8), UInt8(truncatingIfNeeded: suite)]
            guard DtlsCipherSuite.usesPreSharedKey(SSL_CIPHER_find(records.pointer, bytes)) else { return false }
            events.append(.preSharedKeyRequested(.hint(hint.bytes)))
        }
        question = .preSharedKey
        return true
    }

    /// A datagram, or what OpenSSL has not read of one, that waits until the application has answered.
    struct HeldDatagram {
        let bytes: [UInt8]
        /// Where records stand that may pass; nil when that is still to be found out.
        var slices: RecordFilter.Slices?
        var hasSealed = false
        /// What goes into a capture when its turn comes.
        let original: [UInt8]?
    }

    /// Keeps a datagram until the application has answered. Returns whether it does.
    func hold(_ datagram: UnsafeRawBufferPointer) -> Bool {
        guard heldDatagrams.count < Self.maximumHeldDatagrams, datagram.count <= Self.maximumHeldBytes else {
            statistics.drops[.waitingForApplication] += 1
            return false
        }
        let bytes = Array(datagram)
        heldDatagrams.append(HeldDatagram(bytes: bytes, original: bytes))
        return true
    }

    /// Keeps what OpenSSL has not read of a datagram because its handshake stopped to wait.
    func holdRest(_ rest: UnsafeRawBufferPointer) {
        heldDatagrams.append(HeldDatagram(bytes: Array(rest), slices: [0..<rest.count], original: nil))
    }

    private func releaseHeldDatagrams(now: Moment) {
        question = nil
        let held = heldDatagrams
        heldDatagrams = []
        for (index, datagram) in held.enumerated() where lifecycle.isHandshaking || lifecycle.isOpen {
            // The next question may come before the last datagram.
            guard question == nil else {
                heldDatagrams += held[index...]
                break
            }
            let waits = datagram.bytes.withUnsafeBytes { bytes in
                guard let slices = datagram.slices else { return process(bytes, now: now) }
                return deliver(bytes, slices, hasSealed: datagram.hasSealed, original: nil)
            }
            deliverFinished()
            collectFromCallbacks()
            if let original = datagram.original, !waits { original.withUnsafeBytes { capture($0) } }
        }
        finishInput(now: now)
    }
}

// MARK: - The application's verdict over certificates

extension AttachedAssociation {
    private func askAboutCertificates() {
        question = .certificates
        events.append(
            .certificatesPresented(
                DtlsPresentedCertificates(
                    certificates: callbacks.presentedCertificates,
                    publicKeyFingerprint: callbacks.presentedKey
                        ?? callbacks.presentedCertificates.first?.publicKeyFingerprint,
                    verdicts: callbacks.verdicts,
                    serverName: serverName ?? offer?.serverName
                )
            )
        )
    }

    func answer(accepted: Bool, now: Moment) {
        guard case .certificates? = question, lifecycle.isHandshaking else { return }
        callbacks.decision = accepted ? .accepted : .rejected
        question = nil
        if context.role == .client {
            advance()
        } else if accepted {
            expose()
        } else {
            _ = records.perform(.shutdown)
            let message = "the application did not accept the client's certificate"
            end(
                .failed(
                    DtlsError(
                        .certificateRejected,
                        phase: .handshake,
                        message,
                        alertSent: callbacks.alertSent,
                        certificateVerdict: callbacks.verdict
                    )
                )
            )
        }
        releaseHeldDatagrams(now: now)
    }
}

// MARK: - Names

extension AttachedAssociation {
    func setServerName(_ name: String?) throws(DtlsError) {
        serverName = name
        let offersCertificates = !context.usesPreSharedKeys || context.configuration.trust != nil
        let usesPins = context.configuration.usesPins
        let verifiesName = offersCertificates && context.verification == .chainAndName && !usesPins
        // The application is told of a wrong name like of everything else.
        let checksName = verifiesName || offersCertificates && context.verification == .byApplication && !usesPins
        if offersCertificates, context.configuration.stapledStatus != .ignored {
            try OpenSSLErrorQueue.check(COpenSSL_SSL_request_status(records.pointer), "SSL_set_tlsext_status_type")
        }
        guard let name, !name.isEmpty else {
            guard verifiesName else { return }
            throw DtlsError(
                .missingServerName,
                phase: .handshake,
                "the server's certificate can only be verified against a name",
                hint: "give the server's DNS name or IP address, or choose insecureIgnoreServerName"
            )
        }
        // A scope (fe80::1%eth0) is no part of the address that a certificate carries.
        let host = name.split(separator: "%", maxSplits: 1).first.map(String.init) ?? name
        let isAddress = isIPAddress(host)
        let isHostName = !isAddress && Self.isHostName(withoutTrailingDot(name))
        OpenSSLErrorQueue.clear()
        // Where no certificate has to match, what a local network calls its gadgets is as good; but it is not sent (RFC
        // 6066 §3).
        guard isAddress || isHostName || !checksName && Self.isPlausible(name) else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .handshake,
                "\(name.sanitized()) is no server name",
                hint: "give a DNS name, in punycode (xn--…) where it is international, or an IP address: without port, "
                    + "scheme, brackets and spaces"
            )
        }
        let parameters = SSL_get0_param(records.pointer)
        if checksName {
            X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            let set =
                isAddress
                ? X509_VERIFY_PARAM_set1_ip_asc(parameters, host)
                : X509_VERIFY_PARAM_set1_host(parameters, withoutTrailingDot(name), 0)
            try OpenSSLErrorQueue.check(set, "X509_VERIFY_PARAM_set1_host", phase: .handshake)
        }
        if isHostName {
            let set = COpenSSL_SSL_set_tlsext_host_name(records.pointer, withoutTrailingDot(name))
            try OpenSSLErrorQueue.check(set, "SSL_set_tlsext_host_name", phase: .handshake)
        }
    }

    private static func isPlausible(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && !name.utf8.contains(0) && !name.hasPrefix(".")
    }

    /// Whether a name consists of labels of letters, digits, hyphens and underscores, with single dots between them.
    ///
    /// No certificate would match another one, be it with a port, a scheme or a letter beyond ASCII. And OpenSSL would
    /// cut a name at a zero byte, take an empty one for "any name", and one that starts with a dot for all subdomains.
    private static func isHostName(_ name: String) -> Bool {
        guard name.utf8.count <= 255 else { return false }
        let labels = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return labels.allSatisfy { label in
            (1...63).contains(label.count)
                && label.allSatisfy { byte in
                    switch byte {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                        true
                    default:
                        false
                    }
                }
        }
    }

    /// RFC 6066 §3 wants names without the dot of the root.
    private func withoutTrailingDot(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}
