import COpenSSL
import DTLSPrimitives

/// HMAC (RFC 2104) and TLS 1.2's pseudorandom function (RFC 5246 §5), out of a hash that is fetched once.
///
/// `HMAC(3)` and `EVP_KDF` fetch their algorithms and make their contexts for each call, which takes several times as
/// long as the hashing. Here a context is used again by whoever comes next.
final class KeyedHash: Sendable {
    // Fetched in init, never changed, and freed in deinit; OpenSSL's algorithms may be used by any number of threads.
    private nonisolated(unsafe) let hash: OpaquePointer

    /// Bytes of the result.
    let length: Int

    /// Contexts that nobody uses at the moment: as many as there have been threads at once.
    private let idle = Lock<[Context]>([])

    /// Why it is safe: a context is used by one thread at a time, the one that has taken it out of ``idle``.
    private struct Context: @unchecked Sendable {
        let pointer: OpaquePointer
    }

    static let sha256 = KeyedHash("SHA256")
    static let sha384 = KeyedHash("SHA384")

    private init?(_ name: String) {
        OpenSSLErrorQueue.clear()
        defer { OpenSSLErrorQueue.clear() }
        guard let hash = EVP_MD_fetch(nil, name, nil) else { return nil }
        self.hash = hash
        length = Int(EVP_MD_get_size(hash))
    }

    deinit {
        idle.withLock { for context in $0 { EVP_MD_CTX_free(context.pointer) } }
        EVP_MD_free(hash)
    }

    /// The HMAC of `message` under a key that is no longer than a block of the hash; nil when OpenSSL cannot.
    func authenticate(_ message: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) -> [UInt8]? {
        var isDone = false
        let result = [UInt8](unsafeUninitializedCapacity: length) { output, count in
            isDone = authenticate(message, key: key, into: UnsafeMutableRawBufferPointer(output))
            count = isDone ? length : 0
        }
        return isDone ? result : nil
    }

    /// Writes the HMAC of `message` under a key that is no longer than a block of the hash into ``length`` bytes.
    /// Returns whether OpenSSL could.
    func authenticate(
        _ message: UnsafeRawBufferPointer,
        key: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard output.count >= length else { return false }
        // What the context holds afterwards is the result, which no caller has to keep secret.
        return withContext(wipes: false) { context in
            COpenSSL_hmac(
                context,
                hash,
                key.baseAddress,
                key.count,
                message.baseAddress,
                message.count,
                nil,
                0,
                output.baseAddress?.assumingMemoryBound(to: UInt8.self)
            ) == 1
        }
    }

    /// Fills `output` with what follows from a secret that is no longer than a block of the hash and a seed that begins
    /// with the label. Returns whether OpenSSL could.
    func derive(
        _ output: UnsafeMutableRawBufferPointer,
        from secret: UnsafeRawBufferPointer,
        seed: UnsafeRawBufferPointer
    ) -> Bool {
        // What it holds afterwards is the result, or as good as that.
        withContext(wipes: true) { context in
            COpenSSL_tls1_prf(
                context,
                hash,
                secret.baseAddress,
                secret.count,
                seed.baseAddress,
                seed.count,
                output.baseAddress,
                output.count
            ) == 1
        }
    }

    private func withContext(wipes: Bool, _ body: (OpaquePointer) -> Bool) -> Bool {
        let pointer = idle.withLock { $0.popLast() }?.pointer ?? EVP_MD_CTX_new()
        guard let pointer else { return false }
        let isDone = body(pointer)
        if isDone && !wipes || EVP_DigestInit_ex2(pointer, hash, nil) == 1 {
            idle.withLock { $0.append(Context(pointer: pointer)) }
        } else {
            EVP_MD_CTX_free(pointer)
        }
        if !isDone { OpenSSLErrorQueue.clear() }
        return isDone
    }
}
