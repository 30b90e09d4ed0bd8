import COpenSSL

/// Seals records with the keys of an open association of the suite `PSK-AES128-GCM-SHA256` (or another one with
/// AES-128-GCM and SHA-256), as OpenSSL would not: empty ones, of any kind, with any sequence number.
package struct RecordSealer {
    private let key: [UInt8]
    private let salt: [UInt8]

    package struct Failure: Error {}

    /// - Parameters:
    ///   - secrets: The association's master secret, client random and server random, 112 bytes.
    ///   - sealsAsClient: Whether the records are the client's.
    package init(_ secrets: [UInt8], sealsAsClient: Bool) throws {
        guard secrets.count == 112 else { throw Failure() }
        let master = Array(secrets[..<48])
        let (clientRandom, serverRandom) = (secrets[48..<80], secrets[80...])
        // RFC 5246 §5 and §6.3: the keys of both sides, then their four bytes of implicit nonce (RFC 5288 §3).
        let seed = Array("key expansion".utf8) + serverRandom + clientRandom
        var block: [UInt8] = []
        var chain = seed
        while block.count < 40 {
            chain = try Self.hmac(master, chain)
            block += try Self.hmac(master, chain + seed)
        }
        key = Array(block[(sealsAsClient ? 0 : 16)...].prefix(16))
        salt = Array(block[(sealsAsClient ? 32 : 36)...].prefix(4))
    }

    /// A datagram with one sealed record of epoch 1.
    package func seal(_ payload: [UInt8], contentType: UInt8 = 23, sequenceNumber: UInt64) throws -> [UInt8] {
        let nonce = (0..<8).map { index in
            index < 2 ? UInt8(index) : UInt8(truncatingIfNeeded: sequenceNumber >> (56 - 8 * UInt64(index)))
        }
        var header = [contentType, 0xFE, 0xFD]
        header += [UInt8(payload.count >> 8), UInt8(truncatingIfNeeded: payload.count)]
        guard let context = EVP_CIPHER_CTX_new() else { throw Failure() }
        defer { EVP_CIPHER_CTX_free(context) }
        var sealed = [UInt8](repeating: 0, count: payload.count + 16)
        var tag = [UInt8](repeating: 0, count: 16)
        var count: Int32 = 0
        let associated = nonce + header
        guard EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), nil, key, salt + nonce) == 1,
            EVP_EncryptUpdate(context, nil, &count, associated, Int32(associated.count)) == 1,
            payload.isEmpty || EVP_EncryptUpdate(context, &sealed, &count, payload, Int32(payload.count)) == 1,
            EVP_EncryptFinal_ex(context, &sealed, &count) == 1 || !payload.isEmpty,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, &tag) == 1
        else { throw Failure() }
        return RecordDump(
            contentType: contentType,
            epoch: 1,
            sequenceNumber: sequenceNumber,
            body: nonce + sealed.prefix(payload.count) + tag
        ).bytes
    }

    private static func hmac(_ key: [UInt8], _ data: [UInt8]) throws -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        var count: UInt32 = 0
        guard HMAC(EVP_sha256(), key, Int32(key.count), data, data.count, &digest, &count) != nil, count == 32 else {
            throw Failure()
        }
        return digest
    }
}
