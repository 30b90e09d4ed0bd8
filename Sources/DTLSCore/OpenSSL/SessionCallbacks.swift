import COpenSSL

// Resumption on a server: tickets under the application's keys, and sessions in the application's store.

/// `SSL_CTX_set_tlsext_ticket_key_evp_cb(3)`: 1 goes on, 2 goes on and issues a new ticket, 0 means a full handshake,
/// -1 fails.
func ticketKey(
    _ ssl: OpaquePointer?,
    _ name: UnsafeMutablePointer<UInt8>?,
    _ vector: UnsafeMutablePointer<UInt8>?,
    _ cipher: OpaquePointer?,
    _ mac: OpaquePointer?,
    _ isEncrypting: Int32
) -> Int32 {
    guard let state = CallbackState.of(ssl), let keys = state.context.ticketKeys, let name, let vector else { return 0 }
    let nameBytes = UnsafeMutableRawBufferPointer(start: name, count: DtlsTicketKeys.nameLength)
    if isEncrypting == 1 {
        let key = keys.encryptionKey()
        guard RAND_bytes(vector, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 else { return -1 }
        nameBytes.copyBytes(from: key.name)
        return key.install(cipher, mac, vector, isEncrypting: true) ? 1 : -1
    }
    guard let (key, isNewest) = keys.decryptionKey(named: UnsafeRawBufferPointer(nameBytes)) else { return 0 }
    guard key.install(cipher, mac, vector, isEncrypting: false) else { return -1 }
    return isNewest ? 1 : 2
}

/// `SSL_CTX_sess_set_new_cb(3)`: 0 leaves the reference with OpenSSL.
func sessionEstablished(_ ssl: OpaquePointer?, _ session: OpaquePointer?) -> Int32 {
    guard let state = CallbackState.of(ssl), let session else { return 0 }
    var count: UInt32 = 0
    guard let id = SSL_SESSION_get_id(session, &count), count > 0, let encoded = SessionEncoding.encode(session) else {
        return 0
    }
    let bytes = Array(UnsafeBufferPointer(start: id, count: Int(count)))
    state.establishedSessions.append(DtlsStoredSession(id: bytes, contents: encoded))
    return 0
}

/// `SSL_CTX_sess_set_get_cb(3)`: hands a new reference to OpenSSL.
func sessionOffered(
    _ ssl: OpaquePointer?,
    _ id: UnsafePointer<UInt8>?,
    _ count: Int32,
    _ copy: UnsafeMutablePointer<Int32>?
) -> OpaquePointer? {
    copy?.pointee = 0
    guard let state = CallbackState.of(ssl), let contents = state.offeredSession, let id, count > 0,
        let session = SessionEncoding.decode(contents)
    else { return nil }
    // What a store returns must be the session that was asked for.
    var length: UInt32 = 0
    guard let own = SSL_SESSION_get_id(session, &length), length == UInt32(count), memcmp(own, id, Int(count)) == 0
    else {
        SSL_SESSION_free(session)
        return nil
    }
    return session
}

/// `SSL_SESSION` as DER, which holds the master secret.
enum SessionEncoding {
    static func encode(_ session: OpaquePointer) -> DtlsSecretBytes? {
        let count = i2d_SSL_SESSION(session, nil)
        guard count > 0 else { return nil }
        return DtlsSecretBytes(count: Int(count)) { buffer in
            var cursor = buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
            i2d_SSL_SESSION(session, &cursor)
        }
    }

    static func decode(_ contents: DtlsSecretBytes) -> OpaquePointer? {
        contents.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return nil }
            var cursor: UnsafePointer<UInt8>? = start.assumingMemoryBound(to: UInt8.self)
            let session = d2i_SSL_SESSION(nil, &cursor, bytes.count)
            if let session, cursor.map({ UnsafeRawPointer($0) }) == start + bytes.count { return session }
            // What d2i left in the error queue would make OpenSSL's caller believe that the handshake failed.
            OpenSSLErrorQueue.clear()
            SSL_SESSION_free(session)
            return nil
        }
    }
}
