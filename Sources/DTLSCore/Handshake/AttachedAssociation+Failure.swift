import COpenSSL

// From OpenSSL's words to an error that says what happened and what to do.

extension AttachedAssociation {
    /// Ends the handshake with what OpenSSL said.
    func failHandshake(_ errors: [DtlsOpenSSLError]) {
        let reasons = Set(errors.map { ERR_GET_REASON(UInt($0.code)) })
        // OpenSSL looks at its timer when it reads, too.
        if reasons.contains(SSL_R_READ_TIMEOUT_EXPIRED) { return failByTime() }
        let verdict = callbacks.verdict
        var code = DtlsError.Code.handshakeFailed
        var message = "the handshake failed"
        var hint: String?
        if callbacks.decision == .rejected {
            code = .certificateRejected
            message = "the application did not accept the peer's certificate"
        } else if let verdict,
            !reasons.isDisjoint(with: [SSL_R_CERTIFICATE_VERIFY_FAILED, SSL_R_INVALID_STATUS_RESPONSE])
        {
            code = .certificateRejected
            message = "the peer's certificate was not accepted"
            hint = remedy(for: verdict)
        } else if reasons.contains(SSL_R_NO_APPLICATION_PROTOCOL) {
            code = .noApplicationProtocol
            message = "no shared application protocol"
            hint = "this side has \(context.configuration.applicationProtocols.joined(separator: ", ").sanitized())"
        } else if reasons.contains(SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
            code = .certificateRejected
            message = "the client presented no certificate"
            hint = "the server requires one; set the client configuration's identity"
        } else if reasons.contains(SSL_R_NO_SHARED_CIPHER) {
            message = "no shared cipher"
            hint = sharedCipherHint
        } else if reasons.contains(SSL_R_PSK_IDENTITY_NOT_FOUND) {
            code = .authenticationFailed
            message = "no pre-shared key is known for the identity"
        } else if reasons.contains(SSL_R_UNSUPPORTED_PROTOCOL) || reasons.contains(SSL_R_VERSION_TOO_LOW) {
            message = "no shared version"
            hint = "this side speaks \(context.configuration.minimumVersion) to \(context.configuration.maximumVersion)"
        }
        end(
            .failed(
                DtlsError(
                    code,
                    phase: .handshake,
                    message,
                    hint: hint,
                    alertSent: callbacks.alertSent,
                    alertReceived: callbacks.alertReceived,
                    certificateVerdict: code == .certificateRejected ? verdict : nil,
                    openSSLErrors: errors
                )
            )
        )
    }

    /// Ends the handshake with the alert that the peer sent, after which nothing more came of it.
    func failByHeldAlert() {
        guard let alert = filter.heldAlert else {
            alertDeadline = nil
            return
        }
        end(.failed(Self.error(for: alert, role: context.role, usedKey: callbacks.preSharedKeyWasUsed)))
    }

    func failByTime() {
        tellPeerOfUnexposedEnd()
        if filter.heldAlert != nil { return failByHeldAlert() }
        if unusableSealedRecords > 0 { return failByWrongKey() }
        if !hasHeardFromPeer, let unreachable { return end(.failed(unreachable)) }
        let heard = statistics.datagramsReceived > (hello == nil ? 0 : -1)
        end(
            .failed(
                DtlsError(
                    .handshakeTimedOut,
                    phase: .handshake,
                    heard
                        ? "the handshake was not finished in time"
                        : "the peer did not answer",
                    hint: heard
                        ? "if pre-shared keys are in use, identity or key may be wrong: many servers fall silent then"
                        : "check address and port, and whether something on the way drops UDP"
                )
            )
        )
    }

    /// Ends a server's handshake whose client has another key, and tells the client so.
    func failByWrongKey() {
        let alert = DtlsAlert(level: .fatal, code: .decryptError)
        sendInClear(alert)
        end(.failed(wrongKey(alertSent: alert)))
    }

    /// What a server's own side is told. The client learns no more than that its key is wrong.
    func wrongKey(alertSent: DtlsAlert?) -> DtlsError {
        let name = String(decoding: requestedIdentity ?? [], as: UTF8.self).sanitized()
        let isKnown = if case .secret = callbacks.preSharedKey { true } else { false }
        return DtlsError(
            .authenticationFailed,
            phase: .handshake,
            isKnown
                ? "the client's pre-shared key is not the one of its identity \"\(name)\""
                : "the client's pre-shared-key identity \"\(name)\" is unknown",
            alertSent: alertSent
        )
    }

    func extendedMasterSecretMissing(alertSent: DtlsAlert?) -> DtlsError {
        DtlsError(
            .handshakeFailed,
            phase: .handshake,
            "the peer does not know the extended master secret (RFC 7627)",
            hint: "update the peer, or set requiresExtendedMasterSecret to false",
            alertSent: alertSent
        )
    }

    /// Writes an alert record of epoch 0: the server's side of the handshake is still in clear, and OpenSSL sends
    /// alerts only where it fails itself.
    func sendInClear(_ alert: DtlsAlert) {
        // Beyond what was sent so far, or where the ServerHello would have begun (RFC 6347 §4.2.1).
        let sequence = bio.highestSequenceNumber.map { $0 &+ 1 } ?? hello?.recordSequenceNumber ?? 0
        var record: [UInt8] = []
        let content = [alert.level.rawValue, alert.code.rawValue]
        ClearRecord.append(ContentType.alert, content, numbered: sequence, to: &record)
        bio.appendRecord(record)
    }

    /// Ends an open association with what OpenSSL said.
    func failEstablished(_ errors: [DtlsOpenSSLError]) {
        let alert = callbacks.alertReceived
        end(
            .failed(
                DtlsError(
                    .connectionClosed,
                    phase: .established,
                    alert == nil ? "the association failed" : "the peer ended the association with an alert",
                    alertSent: callbacks.alertSent,
                    alertReceived: alert,
                    openSSLErrors: errors
                )
            )
        )
    }

    /// What an alert in the handshake means.
    private static func error(for alert: DtlsAlert, role: DtlsRole, usedKey: Bool) -> DtlsError {
        let code: DtlsError.Code
        var message = "the peer ended the handshake"
        var hint: String?
        switch alert.code {
        case .badCertificate, .unsupportedCertificate, .certificateRevoked, .certificateExpired, .certificateUnknown,
            .unknownCA, .accessDenied, .certificateRequired:
            code = .certificateRejected
            message = "the peer did not accept this side's certificate"
            hint = alert.code == .unknownCA ? "the peer does not trust the certificate's issuer" : nil
        case .unknownPSKIdentity:
            code = .authenticationFailed
            message = "the peer does not know the pre-shared-key identity"
        case .decryptError where usedKey, .badRecordMac where usedKey:
            code = .authenticationFailed
            message = "the peer did not accept the pre-shared key"
            hint = "check identity and key on both sides"
        case .handshakeFailure, .insufficientSecurity:
            code = .handshakeFailed
            hint =
                role == .client
                ? "often no shared cipher, or a client certificate that the server misses: compare the cipher lists"
                : "compare the cipher lists"
        case .noApplicationProtocol:
            code = .noApplicationProtocol
            message = "the server has none of the application protocols offered"
        case .protocolVersion:
            code = .handshakeFailed
            hint = "the peer does not speak the versions of this side"
        default:
            code = .handshakeFailed
        }
        return DtlsError(code, phase: .handshake, message, hint: hint, alertReceived: alert)
    }

    private func remedy(for verdict: DtlsCertificateVerdict) -> String? {
        switch Int32(truncatingIfNeeded: verdict.code) {
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            nameHint
        case X509_V_ERR_CERT_UNTRUSTED:
            fingerprintHint
        case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID:
            "compare the certificate's dates with this machine's clock"
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
            X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            "add its root to the configuration's trust"
        case X509_V_ERR_INVALID_PURPOSE:
            "its extended key usage does not allow this role"
        default:
            nil
        }
    }

    /// The name that was expected, and some of those that the certificate has, which are the peer's text.
    private var nameHint: String {
        var names: [String] = []
        if case .names(let all)? = callbacks.refused { names = all }
        let shown = names.prefix(8).map { $0.sanitized(limit: 100) }.joined(separator: ", ")
        let held = names.isEmpty ? "has no name in its subjectAltName" : "is for \(shown)"
        let more = names.count > 8 ? " and \(names.count - 8) more" : ""
        let expected = (serverName ?? "").sanitized()
        return "\(expected) was expected, and the certificate \(held)\(more); serverName sets the expected one"
    }

    /// By what a pin would have to know what the peer has presented; `nil` where there are no pins.
    private var fingerprintHint: String? {
        guard case .fingerprints(let certificate, let key)? = callbacks.refused else { return nil }
        guard let certificate else { return "the fingerprint of its public key is \(key)" }
        return "the certificate's fingerprint is \(certificate), the one of its public key \(key)"
    }

    /// Both sides' suites, as far as they are known.
    private var sharedCipherHint: String {
        var mine: [String] = []
        var index: Int32 = 0
        while mine.count < 8, let name = SSL_get_cipher_list(records.pointer, index).map({ String(cString: $0) }) {
            // OpenSSL lists the suites of TLS 1.3, which are none of DTLS 1.2, beside every list.
            if !name.hasPrefix("TLS_") { mine.append(name) }
            index += 1
        }
        let own = "this side accepts \(mine.joined(separator: ", "))"
        guard let offer else { return own }
        // Neither secure renegotiation (RFC 5746) nor downgrade protection (RFC 7507) is a suite; they are signals.
        let suites = offer.cipherSuites.filter { $0 != 0x00FF && $0 != 0x5600 }
        let offered = suites.prefix(8).map { id -> String in
            let bytes = [UInt8(id >> 8), UInt8(truncatingIfNeeded: id)]
            let cipher = SSL_CIPHER_find(records.pointer, bytes)
            return cipher.flatMap { SSL_CIPHER_get_name($0) }.map { String(cString: $0) } ?? "0x"
                + String(id, radix: 16)
        }
        let more = suites.count > 8 ? ", …" : ""
        let note = context.configuration.identity == nil ? "; it has no certificate" : ""
        return "the client offered \(offered.joined(separator: ", "))\(more); \(own)\(note)"
    }
}
