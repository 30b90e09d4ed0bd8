import COpenSSL

// The handshake's way through OpenSSL, the question for a pre-shared key, and the timers.

extension DtlsEngine {
    func acceptHello(_ hello: DtlsClientHello) {
        hello.record.withUnsafeBytes { record in
            bio.withInbound(record, [0..<record.count]) { acceptHello() }
        }
    }

    private func acceptHello() {
        switch records.perform(.acceptHello) {
        case .done:
            advance()
        case .failed(let errors):
            failHandshake(errors)
        case .waits, .closedByPeer, .emptyRecord:
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
            return end(
                .failed(
                    DtlsError(
                        .handshakeFailed,
                        phase: .handshake,
                        "the peer does not know the extended master secret (RFC 7627)",
                        hint: "update the peer, or set requiresExtendedMasterSecret to false",
                        alertSent: callbacks.alertSent
                    )
                )
            )
        }
        let usedKey = DtlsCipherSuite.usesPreSharedKey(SSL_get_current_cipher(ssl))
        let negotiated = DtlsNegotiated(
            of: ssl,
            role: context.role,
            preSharedKeyIdentity: usedKey ? identityInUse : nil
        )
        self.negotiated = negotiated
        guard lifecycle.finish() else { return }
        if let overhead = negotiated.cipherSuite.sealedOverhead {
            filter.minimumSealedLength = overhead
            maximumPayloadSize = Swift.min(16_384, bio.mtu - RecordHeader.size - overhead)
        } else {
            // CBC: what OpenSSL computes from the block size, for the MTU that it knows.
            maximumPayloadSize = Swift.min(16_384, DTLS_get_data_mtu(ssl))
        }
        handshakeDeadline = nil
        alertDeadline = nil
        events.append(.handshakeFinished(negotiated))
        // What came before the Finished waits in OpenSSL, and may be larger than the datagram at hand.
        readAll(largest: 16_384)
    }

    private var identityInUse: [UInt8]? {
        switch callbacks.preSharedKey {
        case .key(let key): key.identity
        case .pending, .none, .secret: requestedIdentity
        }
    }

    func retransmit() {
        if case .failed = records.perform(.handleTimeout) { failByTime() }
    }

    /// Takes note of the flights that OpenSSL has sent again since the last time, because it was told to or because it was read from
    /// late.
    func countRetransmissions() {
        let fresh = callbacks.timeouts - statistics.retransmissions
        guard fresh > 0, lifecycle.isHandshaking else { return }
        statistics.retransmissions = callbacks.timeouts
        filter.renewEarlyRecords()
        if unusableSealedRecords >= 2 {
            // The client's Finished came, again and again, and does not open: the keys differ.
            failByWrongKey()
        } else if statistics.retransmissions > context.configuration.retransmission.maximumAttempts {
            failByTime()
        }
    }
}

// MARK: - Pre-shared keys

extension DtlsEngine {
    /// Answers ``DtlsEvent/preSharedKeyRequested(_:)`` of a client. `nil` ends the handshake.
    ///
    /// Does nothing when no question is open.
    public func answerPreSharedKey(_ key: DtlsPreSharedKey?, now: ContinuousClock.Instant = .now) {
        guard isWaitingForKey, lifecycle.isHandshaking else { return }
        callbacks.preSharedKey = key.map { .key($0) } ?? .none
        guard key != nil else {
            end(
                .failed(
                    DtlsError(
                        .authenticationFailed,
                        phase: .handshake,
                        "the application has no pre-shared key for this server"
                    )
                )
            )
            return finishInput(now: now)
        }
        releaseHeldDatagrams(now: now)
    }

    /// Answers ``DtlsEvent/preSharedKeyRequested(_:)`` of a server. `nil`, or a key of a length that is not possible, is answered
    /// to the client as ``DtlsUnknownIdentityPolicy`` says.
    ///
    /// Does nothing when no question is open.
    public func answerPreSharedKey(_ secret: DtlsSecretBytes?, now: ContinuousClock.Instant = .now) {
        guard isWaitingForKey, lifecycle.isHandshaking else { return }
        if let secret, (1...DtlsPreSharedKey.maximumKeyLength).contains(secret.count) {
            callbacks.preSharedKey = .secret(secret)
        } else {
            callbacks.preSharedKey = .none
        }
        releaseHeldDatagrams(now: now)
    }

    /// Whether the handshake has come to the point where it needs a key, which this datagram would make OpenSSL ask for.
    func asksForKey(_ datagram: UnsafeRawBufferPointer) -> Bool {
        guard case .pending = callbacks.preSharedKey else { return false }
        watch.observe(datagram)
        switch context.role {
        case .server:
            guard let identity = watch.identity, DtlsCipherSuite.usesPreSharedKey(records.cipher) else { return false }
            requestedIdentity = identity
            events.append(.preSharedKeyRequested(.identity(identity)))
        case .client:
            guard let suite = watch.suite, let hint = watch.hint else { return false }
            let bytes = [UInt8(suite >> 8), UInt8(truncatingIfNeeded: suite)]
            guard DtlsCipherSuite.usesPreSharedKey(SSL_CIPHER_find(records.pointer, bytes)) else { return false }
            events.append(.preSharedKeyRequested(.hint(hint.bytes)))
        }
        isWaitingForKey = true
        return true
    }

    /// Keeps a datagram until the application has answered.
    func hold(_ datagram: UnsafeRawBufferPointer) {
        guard heldDatagrams.count < Self.maximumHeldDatagrams else {
            statistics.datagramsDroppedWhileWaiting += 1
            return
        }
        heldDatagrams.append(Array(datagram))
    }

    private func releaseHeldDatagrams(now: ContinuousClock.Instant) {
        isWaitingForKey = false
        let held = heldDatagrams
        heldDatagrams = []
        for datagram in held where lifecycle.isHandshaking || lifecycle.isOpen {
            datagram.withUnsafeBytes { process($0, now: now) }
        }
        finishInput(now: now)
    }
}

// MARK: - Names

extension DtlsEngine {
    func setServerName(_ name: String?) throws(DtlsError) {
        let offersCertificates = !context.usesPreSharedKeys || context.configuration.trust != nil
        let verifiesName = offersCertificates && context.verification == .chainAndName
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
        OpenSSLErrorQueue.clear()
        guard isAddress || Self.isPlausible(withoutTrailingDot(name)) else {
            throw DtlsError(.invalidConfiguration, phase: .handshake, "\(name.sanitized()) is no server name")
        }
        let parameters = SSL_get0_param(records.pointer)
        if verifiesName {
            X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            let set =
                isAddress
                ? X509_VERIFY_PARAM_set1_ip_asc(parameters, host)
                : X509_VERIFY_PARAM_set1_host(parameters, withoutTrailingDot(name), 0)
            try OpenSSLErrorQueue.check(set, "X509_VERIFY_PARAM_set1_host", phase: .handshake)
        }
        if !isAddress {
            let set = COpenSSL_SSL_set_tlsext_host_name(records.pointer, withoutTrailingDot(name))
            try OpenSSLErrorQueue.check(set, "SSL_set_tlsext_host_name", phase: .handshake)
        }
    }

    /// OpenSSL would cut a name at a zero byte, take an empty one for "any name", and one that starts with a dot for all subdomains.
    private static func isPlausible(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && !name.utf8.contains(0) && !name.hasPrefix(".")
    }

    /// RFC 6066 §3 wants names without the dot of the root.
    private func withoutTrailingDot(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}
