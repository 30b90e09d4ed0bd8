import COpenSSL

// Every function that OpenSSL calls about a handshake. What concerns certificates is in VerificationCallbacks, what
// concerns resumption in SessionCallbacks.

/// Sets the callbacks of a context.
func installCallbacks(on context: OpaquePointer, role: DtlsRole, preSharedKeys: Bool, keyLog: Bool) {
    SSL_CTX_set_info_callback(context, observeAlerts)
    COpenSSL_SSL_CTX_set_status_callback(context, handleStapledStatus)
    if keyLog { SSL_CTX_set_keylog_callback(context, collectKeyLog) }
    switch role {
    case .client:
        if preSharedKeys { SSL_CTX_set_psk_client_callback(context, clientPreSharedKey) }
    case .server:
        if preSharedKeys { SSL_CTX_set_psk_server_callback(context, serverPreSharedKey) }
        SSL_CTX_set_cookie_generate_cb(context) { _, _, _ in 0 }
        // The gate has verified the cookie before the engine was made; see DtlsHelloGate.
        SSL_CTX_set_cookie_verify_cb(context) { _, _, _ in 1 }
        SSL_CTX_set_alpn_select_cb(context, selectApplicationProtocol, nil)
    }
}

/// `DTLS_timer_cb`: the next wait in microseconds, after one of `previous`.
func retransmissionTimer(_ ssl: OpaquePointer?, _ previous: UInt32) -> UInt32 {
    guard let state = CallbackState.of(ssl) else { return previous == 0 ? 1_000_000 : previous }
    return state.beginWait(after: previous)
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
    // OpenSSL's room is 256 bytes beside the NUL (PSK_MAX_IDENTITY_LEN).
    guard answer.identity.count <= Int(identityRoom), identityRoom >= PSK_MAX_IDENTITY_LEN else { return 0 }
    UnsafeMutableRawBufferPointer(start: identity, count: Int(identityRoom)).copyBytes(from: answer.identity)
    identity[answer.identity.count] = 0
    state.preSharedKeyWasUsed = true
    return copy(answer.key, to: key, room: keyRoom)
}

private func serverPreSharedKey(
    _ ssl: OpaquePointer?,
    _ identity: UnsafePointer<CChar>?,
    _ key: UnsafeMutablePointer<UInt8>?,
    _ keyRoom: UInt32
) -> UInt32 {
    guard let state = CallbackState.of(ssl), let key else { return 0 }
    state.preSharedKeyWasUsed = true
    // The key is good for the identity that OpenSSL has read and will put into the session, not for one that stood in a
    // fragment that it ignored, or before a zero byte.
    if case .secret(let secret) = state.preSharedKey, let identity, let requested = state.requestedIdentity,
        strlen(identity) == requested.count, memcmp(identity, requested, requested.count) == 0
    {
        return copy(secret, to: key, room: keyRoom)
    }
    switch state.context.unknownIdentity {
    case .alert:
        return 0
    case .pretendWrongKey:
        let count = Int32(Swift.min(keyRoom, 32))
        return RAND_bytes(key, count) == 1 ? UInt32(count) : 0
    }
}

/// Copies `secret` to where OpenSSL wants it. 0 means "no key".
private func copy(_ secret: DtlsSecretBytes, to key: UnsafeMutablePointer<UInt8>, room: UInt32) -> UInt32 {
    guard secret.count > 0, secret.count <= Int(room) else { return 0 }
    secret.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: key, count: Int(room)).copyMemory(from: $0) }
    return UInt32(secret.count)
}

/// Remembers the alerts that OpenSSL sent and received.
private func observeAlerts(_ ssl: OpaquePointer?, _ location: Int32, _ value: Int32) {
    guard location & SSL_CB_ALERT != 0, let state = CallbackState.of(ssl) else { return }
    let alert = DtlsAlert(packed: value)
    if location & SSL_CB_WRITE != 0 { state.alertSent = alert } else { state.alertReceived = alert }
}

private func collectKeyLog(_ ssl: OpaquePointer?, _ line: UnsafePointer<CChar>?) {
    guard let state = CallbackState.of(ssl), let line else { return }
    state.keyLogLines.append(String(cString: line))
}

/// Chooses the server's most preferred protocol among those that the client offers (RFC 7301 §3.2).
private func selectApplicationProtocol(
    _ ssl: OpaquePointer?,
    _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ chosenCount: UnsafeMutablePointer<UInt8>?,
    _ offered: UnsafePointer<UInt8>?,
    _ offeredCount: UInt32,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let state = CallbackState.of(ssl), let chosen, let chosenCount, let offered else {
        return SSL_TLSEXT_ERR_NOACK
    }
    let own = state.context.configuration.applicationProtocols
    // A server without protocols does not take part.
    if own.isEmpty { return SSL_TLSEXT_ERR_NOACK }
    let list = UnsafeRawBufferPointer(start: offered, count: Int(offeredCount))
    for name in own {
        var reader = ByteReader(list)
        while let candidate = reader.prefixed8() {
            guard candidate.elementsEqual(name.utf8), let start = candidate.baseAddress else { continue }
            // Points into the client's list, which OpenSSL keeps until it has copied the choice.
            chosen.pointee = start.assumingMemoryBound(to: UInt8.self)
            chosenCount.pointee = UInt8(truncatingIfNeeded: candidate.count)
            return SSL_TLSEXT_ERR_OK
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
}

/// Accepts CCM8 suites, which were asked for by name, at every security level; asks OpenSSL's own callback about all
/// else.
///
/// OpenSSL counts them as 64-bit since 3.2, and would have the level lowered for everything (openssl/ssl/s3_lib.c).
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

/// OpenSSL's own callback, the same for every context, so it is fetched once.
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
