import COpenSSL
package import DTLSCore

/// What the library does not offer, done with OpenSSL behind its back.
package enum OpenSSLTweaks {
    package struct Failure: Error {}

    /// Makes a side one that does not know the extended master secret (RFC 7627).
    package static func disableExtendedMasterSecret(_ ssl: OpaquePointer) {
        // SSL_OP_NO_EXTENDED_MASTER_SECRET, a macro that Swift does not import.
        SSL_set_options(ssl, 1 << 0)
    }

    /// Has a client ask for records of 512 bytes at the most (RFC 6066 §4), doubled for each further `code`, up to 4.
    package static func askForSmallRecords(_ ssl: OpaquePointer, code: UInt8) throws {
        guard SSL_set_tlsext_max_fragment_length(ssl, code) == 1 else { throw Failure() }
    }

    /// Lets a side start a renegotiation, which the library never does, and prepares it.
    package static func prepareRenegotiation(_ ssl: OpaquePointer) throws {
        SSL_clear_options(ssl, COpenSSL_SSL_OP_NO_RENEGOTIATION)
        guard SSL_renegotiate(ssl) == 1 else { throw Failure() }
        ERR_clear_error()
    }

    /// Puts an entry into the error queue of this thread, as a careless neighbour leaves one.
    package static func leaveError() {
        ERR_new()
        ERR_set_debug(#fileID, #line, #function)
        withVaList([]) { ERR_vset_error(ERR_LIB_USER, 42, nil, $0) }
    }

    /// Whether the error queue of this thread is empty.
    package static var errorQueueIsEmpty: Bool { ERR_peek_error() == 0 }

    /// Writes as OpenSSL's record layer does, then frees the `BIO`.
    package static func write(_ bytes: [UInt8], toAndFree bio: OpaquePointer) {
        _ = BIO_write(bio, bytes, Int32(bytes.count))
        BIO_free_all(bio)
    }

    /// The names of OpenSSL's suites with which `list` can be used in DTLS 1.2.
    package static func suites(_ list: String) throws -> [String] {
        guard let context = SSL_CTX_new(DTLS_method()) else { throw Failure() }
        defer { SSL_CTX_free(context) }
        // Those of TLS 1.3 stand beside every list.
        SSL_CTX_set_ciphersuites(context, "")
        guard SSL_CTX_set_cipher_list(context, list) == 1, let ssl = SSL_new(context) else { throw Failure() }
        defer { SSL_free(ssl) }
        var names: [String] = []
        while let name = SSL_get_cipher_list(ssl, Int32(names.count)) { names.append(String(cString: name)) }
        return names
    }

    /// How a private key is written.
    package enum KeyFormat {
        case encryptedPEM(String)
        case encryptedDER(String)
        case der
        /// The older kind of PEM of one algorithm, encrypted by a header.
        case traditionalPEM(String)
    }

    /// Writes a private key in a format that the library only reads.
    package static func encode(_ key: DtlsPrivateKey, as format: KeyFormat) throws -> [UInt8] {
        guard let bio = BIO_new(BIO_s_mem()) else { throw Failure() }
        defer { BIO_free_all(bio) }
        let written = key.withPrivateKey { key in
            switch format {
            case .encryptedPEM(let passphrase):
                PEM_write_bio_PKCS8PrivateKey(
                    bio,
                    key,
                    EVP_aes_256_cbc(),
                    passphrase,
                    Int32(passphrase.utf8.count),
                    nil,
                    nil
                )
            case .encryptedDER(let passphrase):
                i2d_PKCS8PrivateKey_bio(
                    bio,
                    key,
                    EVP_aes_256_cbc(),
                    passphrase,
                    Int32(passphrase.utf8.count),
                    nil,
                    nil
                )
            case .der:
                i2d_PrivateKey_bio(bio, key)
            case .traditionalPEM(let passphrase):
                PEM_write_bio_PrivateKey_traditional(
                    bio,
                    key,
                    EVP_aes_128_cbc(),
                    Array(passphrase.utf8),
                    Int32(passphrase.utf8.count),
                    nil,
                    nil
                )
            }
        }
        guard written == 1 else { throw Failure() }
        var start: UnsafeMutablePointer<CChar>?
        let count = COpenSSL_BIO_get_mem_data(bio, &start)
        guard let start, count > 0 else { throw Failure() }
        return Array(UnsafeRawBufferPointer(start: start, count: count))
    }
}
