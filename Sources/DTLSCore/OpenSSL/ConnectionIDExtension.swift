import COpenSSL

// The hello extensions connection_id (RFC 9146 §3) and rrc (RFC 9853 §3), which OpenSSL does not know, through
// SSL_CTX_add_custom_ext(3).

enum ConnectionIDExtension {
    /// Lets the hellos of a context carry Connection IDs. Returns whether they may: not where OpenSSL knows the
    /// extension itself, and not for a client that offers suites whose records only OpenSSL can seal.
    static func install(on context: OpaquePointer, role: DtlsRole) -> Bool {
        if role == .client, !offersOnlyAEAD(context) { return false }
        OpenSSLErrorQueue.clear()
        defer { OpenSSLErrorQueue.clear() }
        let places = UInt32(SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO)
        return SSL_CTX_add_custom_ext(
            context,
            UInt32(number),
            places,
            addConnectionID,
            freeConnectionID,
            nil,
            parseConnectionID,
            nil
        )
            == 1
    }

    /// Its number in the IANA registry "TLS ExtensionType Values".
    static let number: UInt16 = 54

    /// Lets the hellos of a context say that return routability checks are known, after ``install(on:role:)``: that is
    /// the order in which OpenSSL writes and reads them.
    static func installPathChecks(on context: OpaquePointer) {
        let places = UInt32(SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO)
        _ = SSL_CTX_add_custom_ext(context, pathChecks, places, addPathChecks, nil, nil, parsePathChecks, nil)
        OpenSSLErrorQueue.clear()
    }

    private static let pathChecks: UInt32 = 61

    private static func offersOnlyAEAD(_ context: OpaquePointer) -> Bool {
        let suites = SSL_CTX_get_ciphers(context)
        for index in 0..<COpenSSL_sk_SSL_CIPHER_num(suites) {
            let suite = COpenSSL_sk_SSL_CIPHER_value(suites, index)
            // The suites of TLS 1.3 stand in every list and are none of DTLS 1.2.
            let isNewer = suite.flatMap { SSL_CIPHER_get_name($0) }.map { strncmp($0, "TLS_", 4) == 0 } ?? false
            guard isNewer || RecordCipher.of(suite: suite) != nil else { return false }
        }
        return true
    }
}

/// Writes the own ID into the hello: a length, and as many bytes.
private func addConnectionID(
    _ ssl: OpaquePointer?,
    _ number: UInt32,
    _ place: UInt32,
    _ bytes: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ count: UnsafeMutablePointer<Int>?,
    _ certificate: OpaquePointer?,
    _ chainIndex: Int,
    _ alert: UnsafeMutablePointer<Int32>?,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let ssl, let state = CallbackState.of(ssl), let own = state.ownConnectionID, let bytes, let count else {
        return 0
    }
    if state.context.role == .server {
        // Only in answer to a client that has offered it, and only with a suite whose records are ours to seal.
        // Longer ones leave no room in small datagrams.
        guard let peer = state.peerConnectionID, peer.count <= 2 * DtlsConnectionIDs.maximumLength,
            RecordCipher.of(suite: SSL_get_pending_cipher(ssl) ?? SSL_get_current_cipher(ssl)) != nil
        else { return 0 }
        state.agreesOnConnectionIDs = true
    }
    // Until OpenSSL has copied it, and calls freeConnectionID.
    let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: own.count + 1)
    copy[0] = UInt8(truncatingIfNeeded: own.count)
    for (index, byte) in own.enumerated() { copy[index + 1] = byte }
    bytes.pointee = UnsafePointer(copy)
    count.pointee = own.count + 1
    return 1
}

private func freeConnectionID(
    _ ssl: OpaquePointer?,
    _ number: UInt32,
    _ place: UInt32,
    _ bytes: UnsafePointer<UInt8>?,
    _ argument: UnsafeMutableRawPointer?
) {
    bytes?.deallocate()
}

/// Reads the peer's ID.
private func parseConnectionID(
    _ ssl: OpaquePointer?,
    _ number: UInt32,
    _ place: UInt32,
    _ bytes: UnsafePointer<UInt8>?,
    _ count: Int,
    _ certificate: OpaquePointer?,
    _ chainIndex: Int,
    _ alert: UnsafeMutablePointer<Int32>?,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let ssl, let state = CallbackState.of(ssl), state.ownConnectionID != nil else { return 1 }
    guard let bytes, count > 0, Int(bytes[0]) == count - 1 else {
        alert?.pointee = DtlsAlertDescription.decodeError.alertNumber
        return 0
    }
    if state.context.role == .client {
        // A client offers it only with suites for which it can be had.
        guard RecordCipher.of(suite: SSL_get_pending_cipher(ssl) ?? SSL_get_current_cipher(ssl)) != nil else {
            alert?.pointee = DtlsAlertDescription.illegalParameter.alertNumber
            return 0
        }
        state.agreesOnConnectionIDs = true
    }
    state.peerConnectionID = Array(UnsafeBufferPointer(start: bytes + 1, count: count - 1))
    return 1
}

/// Says that checks are known: a server only to a client that has said so, and only beside an ID.
private func addPathChecks(
    _ ssl: OpaquePointer?,
    _ number: UInt32,
    _ place: UInt32,
    _ bytes: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ count: UnsafeMutablePointer<Int>?,
    _ certificate: OpaquePointer?,
    _ chainIndex: Int,
    _ alert: UnsafeMutablePointer<Int32>?,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let ssl, let state = CallbackState.of(ssl), state.ownConnectionID != nil else { return 0 }
    if state.context.role == .server {
        guard state.peerChecksPaths, state.agreesOnConnectionIDs else { return 0 }
        state.agreesOnPathChecks = true
    }
    bytes?.pointee = nil
    count?.pointee = 0
    return 1
}

private func parsePathChecks(
    _ ssl: OpaquePointer?,
    _ number: UInt32,
    _ place: UInt32,
    _ bytes: UnsafePointer<UInt8>?,
    _ count: Int,
    _ certificate: OpaquePointer?,
    _ chainIndex: Int,
    _ alert: UnsafeMutablePointer<Int32>?,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let ssl, let state = CallbackState.of(ssl), state.ownConnectionID != nil else { return 1 }
    guard count == 0 else {
        alert?.pointee = DtlsAlertDescription.decodeError.alertNumber
        return 0
    }
    state.peerChecksPaths = true
    if state.context.role == .client { state.agreesOnPathChecks = true }
    return 1
}

extension DtlsAlertDescription {
    fileprivate var alertNumber: Int32 { Int32(rawValue) }
}
