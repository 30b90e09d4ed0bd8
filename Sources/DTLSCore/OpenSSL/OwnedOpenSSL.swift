import COpenSSL

// Owners of OpenSSL's objects. Swift sees all of them as OpaquePointer and would let SSL_free take an SSL_CTX; with one
// owner type for each, a pointer is freed once, by the right function.

/// Owns an `SSL`.
struct OwnedSSL: ~Copyable {
    let pointer: OpaquePointer

    init(takingOwnershipOf pointer: OpaquePointer) { self.pointer = pointer }

    /// Hands the `SSL` to a new owner.
    consuming func release() -> OpaquePointer {
        let pointer = pointer
        discard self
        return pointer
    }

    deinit { SSL_free(pointer) }
}

/// Owns an `SSL_CTX`.
struct OwnedSSLContext: ~Copyable {
    let pointer: OpaquePointer

    init(takingOwnershipOf pointer: OpaquePointer) { self.pointer = pointer }

    deinit { SSL_CTX_free(pointer) }
}

/// Owns one reference to an `X509`.
struct OwnedX509: ~Copyable {
    let pointer: OpaquePointer

    init(takingOwnershipOf pointer: OpaquePointer) { self.pointer = pointer }

    deinit { X509_free(pointer) }
}

/// Owns one reference to an `EVP_PKEY`.
struct OwnedPrivateKey: ~Copyable {
    let pointer: OpaquePointer

    init(takingOwnershipOf pointer: OpaquePointer) { self.pointer = pointer }

    deinit { EVP_PKEY_free(pointer) }
}

/// Owns a `BIO`.
struct OwnedBIO: ~Copyable {
    let pointer: OpaquePointer

    init(takingOwnershipOf pointer: OpaquePointer) { self.pointer = pointer }

    deinit { BIO_free_all(pointer) }

    /// A BIO that OpenSSL writes into.
    static func memory() throws(DtlsError) -> OwnedBIO {
        OwnedBIO(takingOwnershipOf: try OpenSSLErrorQueue.checked(BIO_new(BIO_s_mem()), "BIO_new"))
    }

    /// What was written so far, valid until the BIO changes.
    var contents: UnsafeRawBufferPointer {
        var start: UnsafeMutablePointer<CChar>?
        let count = COpenSSL_BIO_get_mem_data(pointer, &start)
        guard let start, count > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: start, count: count)
    }

    /// Calls `body` with a BIO that reads `bytes`.
    static func withReading<Result>(
        _ bytes: UnsafeRawBufferPointer,
        _ body: (OpaquePointer) throws(DtlsError) -> Result
    ) throws(DtlsError) -> Result {
        // BIO_new_mem_buf refuses a null pointer, and takes a negative count for "a C string".
        guard let start = bytes.baseAddress, let count = Int32(exactly: bytes.count), count > 0 else {
            throw DtlsError(.invalidConfiguration, phase: .configuration, "the input is empty or too large")
        }
        let bio = OwnedBIO(
            takingOwnershipOf: try OpenSSLErrorQueue.checked(BIO_new_mem_buf(start, count), "BIO_new_mem_buf")
        )
        return try body(bio.pointer)
    }
}
