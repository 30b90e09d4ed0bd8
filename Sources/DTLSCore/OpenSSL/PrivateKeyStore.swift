import COpenSSL

/// Private keys by URI.
enum PrivateKeyStore {
    static func load(_ uri: String, passphrase: DtlsSecretBytes?) throws(DtlsError) -> OwnedPrivateKey {
        OpenSSLErrorQueue.clear()
        guard !uri.utf8.contains(0) else {
            throw DtlsError(.invalidPrivateKey, phase: .configuration, "\(uri.sanitized()) is no URI")
        }
        let request = PassphraseRequest(passphrase)
        // Never a question on the terminal, whatever the loader.
        let method = try OpenSSLErrorQueue.checked(
            UI_UTIL_wrap_read_pem_callback(supplyPassphrase, 0),
            "UI_UTIL_wrap_read_pem_callback"
        )
        defer { UI_destroy_method(method) }
        let userdata = Unmanaged.passUnretained(request).toOpaque()
        let key = withExtendedLifetime(request) { find(uri, method, userdata) }
        if let key {
            OpenSSLErrorQueue.clear()
            return OwnedPrivateKey(takingOwnershipOf: key)
        }
        let errors = OpenSSLErrorQueue.drain()
        // Whatever the kind of URI, OpenSSL also looks for a file of that name; 3.5 complains about it first.
        let isUnknown =
            !uri.hasPrefix("file:") && uri.contains(":") && errors.contains { saysUnknownScheme($0.code) }
        throw DtlsError(
            isUnknown ? .unsupported : .invalidPrivateKey,
            phase: .configuration,
            isUnknown
                ? "no provider of OpenSSL loads \(uri.sanitized())" : "there is no private key at \(uri.sanitized())",
            hint: isUnknown
                ? "configure a provider in openssl.cnf, such as pkcs11"
                : request.wasAsked && passphrase == nil ? "give its passphrase" : nil,
            openSSLErrors: errors
        )
    }

    private static func saysUnknownScheme(_ code: UInt) -> Bool {
        let reason = ERR_GET_REASON(code)
        return ERR_GET_LIB(code) == ERR_LIB_OSSL_STORE
            && (reason == OSSL_STORE_R_UNREGISTERED_SCHEME || reason == OSSL_STORE_R_UNSUPPORTED_OPERATION
                || reason == ERR_R_UNSUPPORTED)
    }

    private static func find(
        _ uri: String,
        _ method: OpaquePointer,
        _ userdata: UnsafeMutableRawPointer
    ) -> OpaquePointer? {
        guard let store = OSSL_STORE_open(uri, method, userdata, nil, nil) else { return nil }
        defer { OSSL_STORE_close(store) }
        _ = OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY)
        // A container holds a handful of objects at the most; a loader that never ends must not hang us.
        for _ in 0..<64 where OSSL_STORE_eof(store) == 0 {
            guard let info = OSSL_STORE_load(store) else { continue }
            defer { OSSL_STORE_INFO_free(info) }
            if OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY { return OSSL_STORE_INFO_get1_PKEY(info) }
        }
        return nil
    }
}
