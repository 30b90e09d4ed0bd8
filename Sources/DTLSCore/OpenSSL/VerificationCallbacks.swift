import COpenSSL

// How a peer's certificates are judged: by OpenSSL's chain building, by pins, and by the application.

/// `SSL_CTX_set_cert_verify_callback(3)`: stands in place of OpenSSL's own verification.
func verifyPeer(_ store: OpaquePointer?, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    guard let store else { return 0 }
    let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()).map { OpaquePointer($0) }
    guard let ssl, let state = CallbackState.of(ssl) else { return 0 }
    let context = state.context
    if let pins = context.configuration.trust?.pins, !pins.isEmpty {
        let presented = presentedFingerprints(store)
        guard let presented, pins.contains(where: { matches($0, presented) }) else {
            state.refused = presented.map { .fingerprints(certificate: $0.certificate, key: $0.key) }
            state.verdict = DtlsCertificateVerdict(
                code: Int(X509_V_ERR_CERT_UNTRUSTED),
                reason: "the certificate matches none of the pins",
                depth: 0,
                subject: X509_STORE_CTX_get0_cert(store).map { X509Text.name(X509_get_subject_name($0)) }
            )
            X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED)
            return 0
        }
        X509_STORE_CTX_set_error(store, X509_V_OK)
    } else if context.applicationOverrules {
        // Every fault is collected on the way; only what OpenSSL cannot do at all ends it here.
        guard X509_verify_cert(store) == 1 else { return 0 }
        X509_STORE_CTX_set_error(store, X509_V_OK)
    } else if X509_verify_cert(store) != 1 {
        return 0
    }
    guard context.asksApplication else { return 1 }
    return askApplication(state, ssl, store)
}

/// A client suspends its handshake until the application has decided. A server cannot: OpenSSL takes its "retry" for
/// "verified", so there the engine asks before anything of the finished handshake is exposed.
private func askApplication(_ state: CallbackState, _ ssl: OpaquePointer, _ store: OpaquePointer) -> Int32 {
    switch state.decision {
    case .notAsked, .asked:
        state.presentedCertificates = presentedCertificates(store)
        state.presentedKey = COpenSSL_X509_STORE_CTX_get0_rpk(store)
            .map { DtlsFingerprint(sha256Of: X509Text.publicKeyInfo(ofKey: $0)) }
        state.decision = .asked
        return state.context.role == .client ? COpenSSL_SSL_set_retry_verify(ssl) : 1
    case .accepted:
        return 1
    case .rejected:
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED)
        return 0
    }
}

private func presentedCertificates(_ store: OpaquePointer) -> [DtlsCertificate] {
    guard let leaf = X509_STORE_CTX_get0_cert(store), let first = try? DtlsCertificate(borrowing: leaf) else {
        return []
    }
    let others = X509_STORE_CTX_get0_untrusted(store)
    var chain = [first]
    for index in 0..<COpenSSL_sk_X509_num(others) {
        guard let pointer = COpenSSL_sk_X509_value(others, index),
            let certificate = try? DtlsCertificate(borrowing: pointer), certificate != first
        else { continue }
        chain.append(certificate)
    }
    return chain
}

/// What pins are compared with. A raw public key has no certificate.
private typealias PresentedFingerprints = (certificate: DtlsFingerprint?, key: DtlsFingerprint)

private func presentedFingerprints(_ store: OpaquePointer) -> PresentedFingerprints? {
    if let raw = COpenSSL_X509_STORE_CTX_get0_rpk(store) {
        return (nil, DtlsFingerprint(sha256Of: X509Text.publicKeyInfo(ofKey: raw)))
    }
    guard let pointer = X509_STORE_CTX_get0_cert(store), let leaf = try? DtlsCertificate(borrowing: pointer) else {
        return nil
    }
    return (leaf.sha256Fingerprint, leaf.publicKeyFingerprint)
}

private func matches(_ pin: DtlsPin, _ presented: PresentedFingerprints) -> Bool {
    switch pin {
    case .certificate(let fingerprint): presented.certificate == fingerprint
    case .publicKey(let fingerprint): presented.key == fingerprint
    }
}

/// `SSL_CTX_set_tlsext_status_cb(3)`: a server staples, a client looks at what was stapled.
func handleStapledStatus(_ ssl: OpaquePointer?, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    guard let ssl, let state = CallbackState.of(ssl) else { return 0 }
    switch state.context.role {
    case .server:
        defer { OpenSSLErrorQueue.clear() }
        guard let response = state.identity?.ocspResponse, !response.isEmpty,
            COpenSSL_SSL_staple(ssl, response, Int32(clamping: response.count)) == 1
        else { return SSL_TLSEXT_ERR_NOACK }
        return SSL_TLSEXT_ERR_OK
    case .client:
        // They alone decide, and say nothing of an issuer.
        if state.context.configuration.usesPins { return 1 }
        let status = Int(COpenSSL_SSL_stapled_status(ssl))
        OpenSSLErrorQueue.clear()
        let isAccepted =
            status == COpenSSL_STATUS_GOOD
            || status == COpenSSL_STATUS_MISSING && state.context.configuration.stapledStatus != .required
        if isAccepted { return 1 }
        let (code, reason): (Int32, String) =
            switch status {
            case COpenSSL_STATUS_REVOKED: (X509_V_ERR_CERT_REVOKED, "the stapled OCSP response says revoked")
            case COpenSSL_STATUS_MISSING: (X509_V_ERR_OCSP_VERIFY_NEEDED, "no OCSP response was stapled")
            default: (X509_V_ERR_OCSP_VERIFY_FAILED, "the stapled OCSP response is not valid")
            }
        state.verdict = DtlsCertificateVerdict(code: Int(code), reason: reason, depth: 0, subject: nil)
        return 0
    }
}

/// `SSL_CTX_set_verify(3)`: remembers what was wrong with a certificate, and leaves the verdict as it is unless the
/// application has it.
func observeVerification(_ isAccepted: Int32, _ store: OpaquePointer?) -> Int32 {
    guard isAccepted != 1, let store else { return isAccepted }
    let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()).map { OpaquePointer($0) }
    guard let state = CallbackState.of(ssl) else { return isAccepted }
    let code = X509_STORE_CTX_get_error(store)
    let certificate = X509_STORE_CTX_get_current_cert(store)
    let verdict = DtlsCertificateVerdict(
        code: Int(code),
        reason: X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "error \(code)",
        depth: Int(X509_STORE_CTX_get_error_depth(store)),
        subject: certificate.map { X509Text.name(X509_get_subject_name($0)) }
    )
    guard state.context.applicationOverrules else {
        state.verdict = verdict
        if let certificate, [X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH].contains(code) {
            let names = X509Text.AlternativeNames(of: certificate)
            state.refused = .names(names.dns + names.ip)
        }
        return isAccepted
    }
    // On with the next certificate: a fault that the application tolerates must not hide one that it would not.
    if state.verdict == nil { state.verdict = verdict }
    if !state.verdicts.contains(verdict) { state.verdicts.append(verdict) }
    return 1
}
