import COpenSSL

/// What OpenSSL's callbacks may see and change of an association. They find it behind the `SSL`'s ex_data; they never throw, never
/// call back into the engine and never run a user's closure.
final class CallbackState {
    let role: DtlsRole
    let retransmission: DtlsRetransmissionPolicy
    let unknownIdentity: DtlsUnknownIdentityPolicy

    /// The answer to the question for a pre-shared key: not yet, none, or this.
    enum PreSharedKeyAnswer {
        case pending
        case none
        case key(DtlsPreSharedKey)
        /// Of a server's look-up: the key of the identity that the client gave.
        case secret(DtlsSecretBytes)
    }

    var preSharedKey = PreSharedKeyAnswer.pending
    var preSharedKeyWasUsed = false
    var alertSent: DtlsAlert?
    var alertReceived: DtlsAlert?
    var verdict: DtlsCertificateVerdict?
    /// How often OpenSSL's timer has expired, and a flight was sent again. It looks at its timer whenever it reads.
    var timeouts = 0

    init(
        role: DtlsRole,
        retransmission: DtlsRetransmissionPolicy,
        unknownIdentity: DtlsUnknownIdentityPolicy
    ) {
        self.role = role
        self.retransmission = retransmission
        self.unknownIdentity = unknownIdentity
    }

    /// The index of the ex_data slot that holds it.
    private static let index = COpenSSL_SSL_get_ex_new_index()

    /// Lets the callbacks of `ssl` find this object, which the caller keeps alive for as long as `ssl` lives.
    func attach(to ssl: OpaquePointer) throws(DtlsError) {
        let set = SSL_set_ex_data(ssl, Self.index, Unmanaged.passUnretained(self).toOpaque())
        try OpenSSLErrorQueue.check(set, "SSL_set_ex_data", phase: .handshake)
        DTLS_set_timer_cb(ssl, retransmissionTimer)
    }

    static func of(_ ssl: OpaquePointer?) -> CallbackState? {
        guard let ssl, let data = SSL_get_ex_data(ssl, index) else { return nil }
        return Unmanaged<CallbackState>.fromOpaque(data).takeUnretainedValue()
    }

    /// Copies `secret` to where OpenSSL wants it. 0 means "no key".
    fileprivate static func copy(_ secret: DtlsSecretBytes, to key: UnsafeMutablePointer<UInt8>, room: UInt32) -> UInt32
    {
        guard secret.count > 0, secret.count <= Int(room) else { return 0 }
        secret.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: key, count: Int(room)).copyMemory(from: $0) }
        return UInt32(secret.count)
    }
}

/// Sets the callbacks that every context has.
func installCallbacks(on context: OpaquePointer, role: DtlsRole, preSharedKeys: Bool) {
    SSL_CTX_set_info_callback(context, observeAlerts)
    switch role {
    case .client:
        if preSharedKeys { SSL_CTX_set_psk_client_callback(context, clientPreSharedKey) }
    case .server:
        if preSharedKeys { SSL_CTX_set_psk_server_callback(context, serverPreSharedKey) }
        SSL_CTX_set_cookie_generate_cb(context) { _, _, _ in 0 }
        // The gate has verified the cookie before the engine was made; see HelloGate.
        SSL_CTX_set_cookie_verify_cb(context) { _, _, _ in 1 }
    }
}

/// `DTLS_timer_cb`: the next wait in microseconds, after one of `previous`.
private func retransmissionTimer(_ ssl: OpaquePointer?, _ previous: UInt32) -> UInt32 {
    guard let state = CallbackState.of(ssl) else { return previous == 0 ? 1_000_000 : previous }
    if previous > 0 { state.timeouts += 1 }
    let policy = state.retransmission
    let plain = policy.timeout(after: previous)
    guard policy.jitter > 0 else { return plain }
    let varied = Double(plain) * Double.random(in: (1 - policy.jitter)...(1 + policy.jitter))
    // Below 15 ms OpenSSL takes a timer for expired.
    return UInt32(clamping: Int64(Swift.max(varied, 16_000)))
}

private func clientPreSharedKey(
    _ ssl: OpaquePointer?,
    _ hint: UnsafePointer<CChar>?,
    _ identity: UnsafeMutablePointer<CChar>?,
    _ identityRoom: UInt32,
    _ key: UnsafeMutablePointer<UInt8>?,
    _ keyRoom: UInt32
) -> UInt32 {
    guard let state = CallbackState.of(ssl), let identity, let key, identityRoom > 0,
        case .key(let answer) = state.preSharedKey
    else { return 0 }
    // One byte stays free for the NUL, whichever way OpenSSL counts its room.
    let room = UnsafeMutableRawBufferPointer(start: identity, count: Int(identityRoom))
    guard answer.identity.count < room.count || answer.identity.count == room.count && identityRoom >= 256 else {
        return 0
    }
    room.copyBytes(from: answer.identity)
    identity[answer.identity.count] = 0
    state.preSharedKeyWasUsed = true
    return CallbackState.copy(answer.key, to: key, room: keyRoom)
}

private func serverPreSharedKey(
    _ ssl: OpaquePointer?,
    _ identity: UnsafePointer<CChar>?,
    _ key: UnsafeMutablePointer<UInt8>?,
    _ keyRoom: UInt32
) -> UInt32 {
    guard let state = CallbackState.of(ssl), let key else { return 0 }
    state.preSharedKeyWasUsed = true
    if case .secret(let secret) = state.preSharedKey { return CallbackState.copy(secret, to: key, room: keyRoom) }
    switch state.unknownIdentity {
    case .alert:
        return 0
    case .pretendWrongKey:
        let count = Int32(Swift.min(keyRoom, 32))
        return RAND_bytes(key, count) == 1 ? UInt32(count) : 0
    }
}

/// Remembers the alerts that OpenSSL sent and received.
private func observeAlerts(_ ssl: OpaquePointer?, _ location: Int32, _ value: Int32) {
    guard location & SSL_CB_ALERT != 0, let state = CallbackState.of(ssl) else { return }
    let alert = DtlsAlert(packed: value)
    if location & SSL_CB_WRITE != 0 { state.alertSent = alert } else { state.alertReceived = alert }
}

/// Remembers what was wrong with a certificate, and leaves the verdict as it is.
func observeVerification(_ isAccepted: Int32, _ store: OpaquePointer?) -> Int32 {
    guard isAccepted != 1, let store else { return isAccepted }
    let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()).map { OpaquePointer($0) }
    guard let state = CallbackState.of(ssl) else { return isAccepted }
    let code = X509_STORE_CTX_get_error(store)
    let certificate = X509_STORE_CTX_get_current_cert(store)
    state.verdict = DtlsCertificateVerdict(
        code: Int(code),
        reason: X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "error \(code)",
        depth: Int(X509_STORE_CTX_get_error_depth(store)),
        subject: certificate.map { X509Text.name(X509_get_subject_name($0)) }
    )
    return isAccepted
}

/// Accepts CCM8 suites, which were asked for by name, at every security level; asks OpenSSL's own callback about all else.
///
/// OpenSSL counts them as 64-bit since 3.2, and would have the level lowered for everything (openssl/ssl/s3_lib.c).
/// The own callback is the same for every context, so it is fetched once.
func acceptCCM8(
    _ ssl: OpaquePointer?,
    _ context: OpaquePointer?,
    _ operation: Int32,
    _ bits: Int32,
    _ nid: Int32,
    _ other: UnsafeMutableRawPointer?,
    _ extra: UnsafeMutableRawPointer?
) -> Int32 {
    let aboutCiphers =
        operation == SSL_SECOP_CIPHER_SUPPORTED || operation == SSL_SECOP_CIPHER_SHARED
        || operation == SSL_SECOP_CIPHER_CHECK
    if aboutCiphers, let other, let name = SSL_CIPHER_get_name(OpaquePointer(other)), strstr(name, "CCM8") != nil {
        return 1
    }
    return defaultSecurityCallback?(ssl, context, operation, bits, nid, other, extra) ?? 0
}

private let defaultSecurityCallback:
    (
        @convention(c) (
            OpaquePointer?, OpaquePointer?, Int32, Int32, Int32, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?
        ) -> Int32
    )? = {
        guard let pointer = SSL_CTX_new(DTLS_method()) else { return nil }
        let context = OwnedSSLContext(takingOwnershipOf: pointer)
        return SSL_CTX_get_security_callback(context.pointer)
    }()
