import COpenSSL

/// The secrets of an association: the master secret, what the handshake mixed into it, and the keys of both directions
/// (RFC 5246 §6.3 and §8.1).
///
/// They stand in one place, and are wiped when the last copy is released.
struct RecordKeys: Sendable {
    /// The hash of the suite's pseudorandom function. The numbers stand in exported associations: never change one.
    enum Hash: UInt8 {
        case sha256 = 1
        case sha384 = 2
    }

    let cipher: RecordCipher
    let hash: Hash
    private let place: RecordCipher.Place

    // client key, server key, client nonce, server nonce, master secret, client random, server random.
    private let secrets: DtlsSecretBytes

    static let masterSecretLength = 48
    static let randomLength = 32
    /// Master secret, client random and server random, in this order.
    static let handshakeLength = masterSecretLength + 2 * randomLength

    /// Computes the keys.
    ///
    /// - Parameter handshake: Master secret, client random and server random: ``handshakeLength`` bytes.
    init?(cipher: RecordCipher, hash: Hash, handshake: DtlsSecretBytes) {
        guard handshake.count == Self.handshakeLength else { return nil }
        self.cipher = cipher
        self.hash = hash
        let keyBlock = 2 * (cipher.algorithm.keyLength + cipher.algorithm.fixedNonceLength)
        var isDerived = false
        secrets = DtlsSecretBytes(count: keyBlock + handshake.count) { all in
            handshake.withUnsafeBytes { handshake in
                UnsafeMutableRawBufferPointer(rebasing: all[keyBlock...]).copyMemory(from: handshake)
                // The key block wants the server's random first, unlike all else (RFC 5246 §6.3).
                let master = UnsafeRawBufferPointer(rebasing: handshake[..<Self.masterSecretLength])
                var seed = Self.expansionLabel
                seed.append(contentsOf: UnsafeRawBufferPointer(rebasing: handshake[80..<112]))
                seed.append(contentsOf: UnsafeRawBufferPointer(rebasing: handshake[48..<80]))
                let keys = UnsafeMutableRawBufferPointer(rebasing: all[..<keyBlock])
                isDerived = hash.derive(keys, from: master, seed: seed)
            }
        }
        guard isDerived else { return nil }
        place = cipher.makePlace()
    }

    private static let expansionLabel = Array("key expansion".utf8)

    /// Has the cipher forget the keys, of which no copy is used any more. To be called once.
    func forget() {
        cipher.forget(place)
        cipher.giveBack(place)
    }

    /// Asks an `SSL` whose handshake has come to its keys.
    init?(of ssl: OpaquePointer, suite: OpaquePointer?) {
        guard let suite, let cipher = RecordCipher.of(suite: suite), let hash = Hash(of: suite),
            let session = SSL_get_session(ssl)
        else { return nil }
        var isWhole = false
        let handshake = DtlsSecretBytes(count: Self.handshakeLength) { all in
            guard let start = all.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
            isWhole =
                SSL_SESSION_get_master_key(session, start, Self.masterSecretLength) == Self.masterSecretLength
                && SSL_get_client_random(ssl, start + 48, Self.randomLength) == Self.randomLength
                && SSL_get_server_random(ssl, start + 80, Self.randomLength) == Self.randomLength
        }
        guard isWhole else { return nil }
        self.init(cipher: cipher, hash: hash, handshake: handshake)
    }

    /// Calls `body` with the key of one side and the part of its nonces that stands in no record.
    func withCipherKey<Result>(
        of role: DtlsRole,
        _ body: (_ key: RecordCipher.Key, _ fixedNonce: UnsafeRawBufferPointer) -> Result
    ) -> Result {
        withKey(of: role) { key, fixedNonce in
            body(RecordCipher.Key(key, in: place, second: role == .server), fixedNonce)
        }
    }

    /// Calls `body` with the bytes of that key and nonce.
    func withKey<Result>(
        of role: DtlsRole,
        _ body: (_ key: UnsafeRawBufferPointer, _ fixedNonce: UnsafeRawBufferPointer) -> Result
    ) -> Result {
        let keyLength = cipher.algorithm.keyLength
        let nonceLength = cipher.algorithm.fixedNonceLength
        let index = role == .client ? 0 : 1
        let nonceStart = 2 * keyLength + index * nonceLength
        return secrets.withUnsafeBytes { all in
            body(
                UnsafeRawBufferPointer(rebasing: all[(index * keyLength)..<((index + 1) * keyLength)]),
                UnsafeRawBufferPointer(rebasing: all[nonceStart..<(nonceStart + nonceLength)])
            )
        }
    }

    /// What ``init(cipher:hash:handshake:)`` was given.
    var handshake: DtlsSecretBytes {
        secrets.withUnsafeBytes { DtlsSecretBytes($0[($0.count - Self.handshakeLength)...]) }
    }

    /// Derives secret bytes for the application (RFC 5705 §4); nil when OpenSSL cannot.
    func export(label: String, context: [UInt8]?, count: Int) -> DtlsSecretBytes? {
        var isDerived = false
        let secret = DtlsSecretBytes(count: count) { output in
            secrets.withUnsafeBytes { all in
                let start = all.count - Self.handshakeLength
                let master = UnsafeRawBufferPointer(rebasing: all[start..<(start + Self.masterSecretLength)])
                var seed = Array(label.utf8) + all[(start + 48)...]
                if let context {
                    seed += [UInt8(truncatingIfNeeded: context.count >> 8), UInt8(truncatingIfNeeded: context.count)]
                    seed += context
                }
                isDerived = hash.derive(output, from: master, seed: seed)
            }
        }
        return isDerived ? secret : nil
    }

    /// Labels of TLS itself, whose secrets nobody may have (RFC 5705 §4).
    static let reservedLabels: Set<String> = [
        "client finished", "server finished", "master secret", "extended master secret", "key expansion",
    ]
}

extension RecordKeys.Hash {
    /// The hash of a suite's pseudorandom function; nil for those of suites from before DTLS 1.2.
    fileprivate init?(of suite: OpaquePointer) {
        guard let digest = SSL_CIPHER_get_handshake_digest(suite) else { return nil }
        switch EVP_MD_get_type(digest) {
        case NID_sha256: self = .sha256
        case NID_sha384: self = .sha384
        default: return nil
        }
    }

    /// TLS 1.2's pseudorandom function (RFC 5246 §5).
    fileprivate func derive(
        _ output: UnsafeMutableRawBufferPointer,
        from secret: UnsafeRawBufferPointer,
        seed: [UInt8]
    ) -> Bool {
        let keyedHash = self == .sha256 ? KeyedHash.sha256 : KeyedHash.sha384
        return seed.withUnsafeBytes { keyedHash?.derive(output, from: secret, seed: $0) } ?? false
    }
}
