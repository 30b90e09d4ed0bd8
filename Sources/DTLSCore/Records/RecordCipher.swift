import COpenSSL
import DTLSPrimitives

/// An AEAD cipher that seals DTLS 1.2 records, as OpenSSL's `EVP` computes it.
///
/// There is one object for each cipher, shared by every association of the process: fetching an algorithm takes longer
/// than sealing a record, and a context for each association and direction would be most of what an association needs.
/// So contexts are kept keyed for those that are busy (``CipherSlot``), and where there is none, one that nobody uses
/// at the moment is keyed for the one record.
///
/// Nothing here knows of records: the same nonce must never come twice with the same key, which is ``DetachedRecords``'
/// to see to.
final class RecordCipher: Sendable {
    /// The algorithm, and how RFC 5288, 6655, 7251 and 7905 use it.
    enum Algorithm: UInt8, CaseIterable {
        // The numbers stand in exported associations: never change one.
        case aes128GCM = 1
        case aes256GCM = 2
        case aes128CCM = 3
        case aes256CCM = 4
        case aes128CCM8 = 5
        case aes256CCM8 = 6
        case chaCha20Poly1305 = 7
    }

    let algorithm: Algorithm

    /// Whether contexts take a nonce, and a tag to compare with, by `COpenSSL_begin_gcm`: for half of what
    /// `EVP_CipherInit_ex` and `EVP_CTRL_AEAD_SET_TAG` cost, of which the first asks for the nonce's length each time.
    let takesNonceAsParameter: Bool

    // Fetched in init, never changed, and freed in deinit; OpenSSL's algorithms may be used by any number of threads.
    private nonisolated(unsafe) let cipher: OpaquePointer

    /// Contexts that nobody uses at the moment: as many as there have been threads at once.
    private let idle = Lock<[Context]>([])

    private let slots = Lock(CipherSlots())

    /// Why it is safe: a context is used by one thread at a time, the one that has taken it out of ``idle``.
    private struct Context: @unchecked Sendable {
        let pointer: OpaquePointer
    }

    /// - Parameter takesNonceAsParameter: See there; ``of(_:)`` finds out where that may be.
    init?(_ algorithm: Algorithm, takesNonceAsParameter: Bool) {
        OpenSSLErrorQueue.clear()
        defer { OpenSSLErrorQueue.clear() }
        guard let cipher = EVP_CIPHER_fetch(nil, algorithm.openSSLName, nil) else { return nil }
        self.algorithm = algorithm
        self.cipher = cipher
        self.takesNonceAsParameter = takesNonceAsParameter
        // What the record's layout is computed from must be what OpenSSL computes with.
        guard EVP_CIPHER_get_key_length(cipher) == Int32(algorithm.keyLength) else { return nil }
    }

    deinit {
        idle.withLock { for context in $0 { EVP_CIPHER_CTX_free(context.pointer) } }
        EVP_CIPHER_free(cipher)
    }

    /// Whether the algorithm is OpenSSL's own, and not some other provider's.
    var isOfDefaultProvider: Bool {
        guard let provider = EVP_CIPHER_get0_provider(cipher), let name = OSSL_PROVIDER_get0_name(provider) else {
            return false
        }
        return strcmp(name, "default") == 0
    }

    private static let all: [RecordCipher?] = Algorithm.allCases.map { quickest($0) }

    /// The object for an algorithm; nil where OpenSSL does not have it.
    static func of(_ algorithm: Algorithm) -> RecordCipher? {
        all.first { $0?.algorithm == algorithm } ?? nil
    }

    /// The object for the cipher of one of OpenSSL's suites; nil for those that are not AEAD, or not known here.
    static func of(suite: OpaquePointer?) -> RecordCipher? {
        guard let suite else { return nil }
        var hasShortTag: Bool { SSL_CIPHER_get_name(suite).map { strstr($0, "CCM8") != nil } ?? false }
        switch SSL_CIPHER_get_cipher_nid(suite) {
        case NID_aes_128_gcm: return of(.aes128GCM)
        case NID_aes_256_gcm: return of(.aes256GCM)
        case NID_aes_128_ccm: return of(hasShortTag ? .aes128CCM8 : .aes128CCM)
        case NID_aes_256_ccm: return of(hasShortTag ? .aes256CCM8 : .aes256CCM)
        case NID_chacha20_poly1305: return of(.chaCha20Poly1305)
        default: return nil
        }
    }

    /// Where a context may stay keyed with one of two keys, and their numbers: this one and the next.
    struct Place {
        let slot: CipherSlot
        let keys: UInt64

        /// - Parameter slot: Of the cipher that the keys are for.
        fileprivate init(_ slot: CipherSlot) {
            self.slot = slot
            keys = CipherSlot.makeKeyNumbers()
        }
    }

    /// A place for two new keys.
    func makePlace() -> Place { Place(slots.withLock { $0.assign() }) }

    #if DEBUG
        // For tests that cannot make so many associations.
        func makePlace(sharedWith other: Place) -> Place { Place(slots.withLock { $0.use(other.slot.index) }) }
    #endif

    /// A key, and where a context may be that is keyed with it.
    struct Key {
        fileprivate let bytes: UnsafeRawBufferPointer
        fileprivate let number: UInt64
        fileprivate let slot: CipherSlot?

        /// - Parameters:
        ///   - bytes: The same ones each time with the same place.
        ///   - place: `nil`: for a key that is not used again.
        ///   - second: Whether it is the second one of the place's keys.
        init(_ bytes: UnsafeRawBufferPointer, in place: Place? = nil, second: Bool = false) {
            self.bytes = bytes
            slot = place?.slot
            number = place.map { $0.keys + (second ? 1 : 0) } ?? CipherSlot.noKey
        }
    }

    /// Seals `plaintext` and writes the tag.
    ///
    /// - Parameters:
    ///   - ciphertext: Where to write to: as many bytes as `plaintext` has, the same ones or others.
    ///   - tag: Room for exactly ``Algorithm/tagLength`` bytes.
    /// - Returns: Whether it went well. Otherwise what was written must not leave.
    func seal(
        _ plaintext: UnsafeRawBufferPointer,
        into ciphertext: UnsafeMutableRawBufferPointer,
        key: Key,
        nonce: UnsafeRawBufferPointer,
        additionalData: UnsafeRawBufferPointer,
        tag: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard tag.count == algorithm.tagLength else { return false }
        return withContext(seals: true, key) { context in
            begin(context, nonce, additionalData, count: plaintext.count, tag: nil)
                && update(context, plaintext, ciphertext) && finish(context)
                && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(tag.count), tag.baseAddress) == 1
        }
    }

    /// Opens `ciphertext`.
    ///
    /// - Parameter plaintext: Where to write to: as many bytes as `ciphertext` has, the same ones or others.
    /// - Returns: Whether it is authentic. Otherwise what was written must not be looked at.
    func open(
        _ ciphertext: UnsafeRawBufferPointer,
        into plaintext: UnsafeMutableRawBufferPointer,
        key: Key,
        nonce: UnsafeRawBufferPointer,
        additionalData: UnsafeRawBufferPointer,
        tag: UnsafeRawBufferPointer
    ) -> Bool {
        guard tag.count == algorithm.tagLength else { return false }
        return withContext(seals: false, key) { context in
            begin(context, nonce, additionalData, count: ciphertext.count, tag: tag)
                && update(context, ciphertext, plaintext) && finish(context)
        }
    }

    /// Forgets two keys, which are not used any more.
    func forget(_ place: Place) {
        place.slot.forget(keys: place.keys)
        forgetIdle()
    }

    /// Takes back a place whose keys are forgotten, once.
    func giveBack(_ place: Place) { slots.withLock { $0.giveBack(place.slot) } }

    /// Makes the contexts that nobody uses forget the keys that they were used with last.
    func forgetIdle() {
        let hasAny = idle.withLock { contexts in
            for context in contexts { _ = EVP_CipherInit_ex(context.pointer, nil, nil, Self.zeros, Self.zeros, -1) }
            return !contexts.isEmpty
        }
        if hasAny { OpenSSLErrorQueue.clear() }
    }

    private static let zeros = [UInt8](repeating: 0, count: 32)

    /// Frees the contexts that have stayed keyed without having been used since the last time. Returns whether any are
    /// left.
    static func releaseIdle() -> Bool {
        guard CipherSlot.contexts > 0 else { return false }
        for cipher in all {
            guard let slots = cipher?.slots.withLock({ $0.all }) else { continue }
            for slot in slots { slot.releaseIfIdle() }
        }
        return CipherSlot.contexts > 0
    }

    // MARK: EVP's order of calls (EVP_EncryptInit(3), "AEAD interface"), with nonces as parameters where that works

    /// Gives a context its direction and key, for any number of messages.
    private func rekey(_ context: OpaquePointer, seals: Bool, _ key: UnsafeRawBufferPointer) -> Bool {
        guard key.count == algorithm.keyLength else { return false }
        let bytes = key.baseAddress?.assumingMemoryBound(to: UInt8.self)
        return EVP_CipherInit_ex(context, nil, nil, bytes, nil, seals ? 1 : 0) == 1
    }

    /// Begins a message under the context's key.
    ///
    /// - Parameter tag: What the message's is compared with, when it is opened.
    private func begin(
        _ context: OpaquePointer,
        _ nonce: UnsafeRawBufferPointer,
        _ additionalData: UnsafeRawBufferPointer,
        count: Int,
        tag: UnsafeRawBufferPointer?
    ) -> Bool {
        guard nonce.count == Self.nonceLength, let count = Int32(exactly: count) else { return false }
        let nonceBytes = nonce.baseAddress?.assumingMemoryBound(to: UInt8.self)
        if takesNonceAsParameter {
            let tagBytes = tag?.baseAddress?.assumingMemoryBound(to: UInt8.self)
            guard COpenSSL_begin_gcm(context, nonceBytes, tagBytes, tag?.count ?? 0) == 1 else { return false }
        } else {
            if let tag {
                // OpenSSL only reads the tag, but does not say so in the type.
                let expected = UnsafeMutableRawPointer(mutating: tag.baseAddress)
                let set = EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(tag.count), expected)
                guard set == 1 else { return false }
            }
            guard EVP_CipherInit_ex(context, nil, nil, nil, nonceBytes, -1) == 1 else { return false }
        }
        var written: Int32 = 0
        // CCM has the message's length in its first block.
        if algorithm.isCCM, EVP_CipherUpdate(context, nil, &written, nil, count) != 1 { return false }
        let additional = additionalData.baseAddress?.assumingMemoryBound(to: UInt8.self)
        return EVP_CipherUpdate(context, nil, &written, additional, Int32(truncatingIfNeeded: additionalData.count))
            == 1
    }

    private func update(
        _ context: OpaquePointer,
        _ input: UnsafeRawBufferPointer,
        _ output: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard output.count == input.count else { return false }
        if input.isEmpty, !algorithm.isCCM { return true }
        // Never a null pointer, not even for an empty message: that would be another question, to which CCM says yes
        // without having compared the tag.
        var nothing: UInt8 = 0
        return withUnsafeMutablePointer(to: &nothing) { nothing in
            let from = input.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? UnsafePointer(nothing)
            let to = output.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? nothing
            var written: Int32 = 0
            return EVP_CipherUpdate(context, to, &written, from, Int32(truncatingIfNeeded: input.count)) == 1
                && Int(written) == input.count
        }
    }

    private func finish(_ context: OpaquePointer) -> Bool {
        // CCM has compared the tag already.
        if algorithm.isCCM { return true }
        var rest: (UInt64, UInt64) = (0, 0)
        return withUnsafeMutableBytes(of: &rest) { rest in
            var written: Int32 = 0
            let start = rest.baseAddress?.assumingMemoryBound(to: UInt8.self)
            return EVP_CipherFinal_ex(context, start, &written) == 1 && written == 0
        }
    }

    // MARK: Contexts

    /// Calls `body` with a context that has a direction and a key, and that nobody else uses meanwhile.
    private func withContext(seals: Bool, _ key: Key, _ body: (OpaquePointer) -> Bool) -> Bool {
        let isDone =
            if let slot = key.slot, slot.take() {
                withContext(in: slot, seals: seals, key, body)
            } else {
                withIdleContext(seals: seals, key, body)
            }
        // A forged record leaves an entry, and OpenSSL's own calls look at the queue.
        if !isDone { OpenSSLErrorQueue.clear() }
        return isDone
    }

    /// - Parameter slot: One that is taken, and is given back.
    private func withContext(
        in slot: CipherSlot,
        seals: Bool,
        _ key: Key,
        _ body: (OpaquePointer) -> Bool
    ) -> Bool {
        defer { slot.giveBack() }
        let (kept, isKeyed) = slot.context(seals: seals, key: key.number)
        if let kept, isKeyed {
            if body(kept) { return true }
            // A message that is not authentic leaves a context as good as it was; there is no reason for the rest.
            if seals { slot.free(seals: true) }
            return false
        }
        guard let context = kept ?? makeContext() else { return false }
        // First, so that whatever comes of it, the context is not taken for one with the key that it had.
        slot.keep(context, seals: seals, key: key.number)
        guard rekey(context, seals: seals, key.bytes) else {
            slot.free(seals: seals)
            return false
        }
        if body(context) { return true }
        if seals { slot.free(seals: true) }
        return false
    }

    private func withIdleContext(seals: Bool, _ key: Key, _ body: (OpaquePointer) -> Bool) -> Bool {
        guard let context = idle.withLock({ $0.popLast() }) ?? makeContext().map({ Context(pointer: $0) }) else {
            return false
        }
        defer {
            // A key that has no slot is nobody's to be forgotten later.
            if key.slot == nil {
                EVP_CIPHER_CTX_free(context.pointer)
            } else {
                idle.withLock { $0.append(context) }
            }
        }
        return rekey(context.pointer, seals: seals, key.bytes) && body(context.pointer)
    }

    private func makeContext() -> OpaquePointer? {
        guard let context = EVP_CIPHER_CTX_new() else { return nil }
        guard EVP_CipherInit_ex(context, cipher, nil, nil, nil, 1) == 1,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, Int32(Self.nonceLength), nil) == 1,
            // CCM wants to know the tag's length before the key.
            !algorithm.isCCM
                || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(algorithm.tagLength), nil) == 1
        else {
            EVP_CIPHER_CTX_free(context)
            OpenSSLErrorQueue.clear()
            return nil
        }
        return context
    }

    /// Bytes of a nonce, for all of them.
    static let nonceLength = 12
}

extension RecordCipher.Algorithm {
    fileprivate var openSSLName: String {
        switch self {
        case .aes128GCM: "AES-128-GCM"
        case .aes256GCM: "AES-256-GCM"
        case .aes128CCM, .aes128CCM8: "AES-128-CCM"
        case .aes256CCM, .aes256CCM8: "AES-256-CCM"
        case .chaCha20Poly1305: "ChaCha20-Poly1305"
        }
    }

    var isGCM: Bool {
        switch self {
        case .aes128GCM, .aes256GCM: true
        case .aes128CCM, .aes256CCM, .aes128CCM8, .aes256CCM8, .chaCha20Poly1305: false
        }
    }

    var isCCM: Bool {
        switch self {
        case .aes128CCM, .aes256CCM, .aes128CCM8, .aes256CCM8: true
        case .aes128GCM, .aes256GCM, .chaCha20Poly1305: false
        }
    }

    /// In bytes.
    var keyLength: Int {
        switch self {
        case .aes128GCM, .aes128CCM, .aes128CCM8: 16
        case .aes256GCM, .aes256CCM, .aes256CCM8, .chaCha20Poly1305: 32
        }
    }

    /// Bytes of the nonce that come out of the key block: all of them for ChaCha20-Poly1305 (RFC 7905 §2), or the first
    /// four.
    var fixedNonceLength: Int { self == .chaCha20Poly1305 ? 12 : 4 }

    /// Bytes of the nonce that stand in each record.
    var explicitNonceLength: Int { RecordCipher.nonceLength - fixedNonceLength }

    /// In bytes.
    var tagLength: Int {
        switch self {
        case .aes128CCM8, .aes256CCM8: 8
        case .aes128GCM, .aes256GCM, .aes128CCM, .aes256CCM, .chaCha20Poly1305: 16
        }
    }

    /// What a sealed record is longer than what is in it, in bytes, beside its header.
    var overhead: Int { explicitNonceLength + tagLength }

    /// How many blocks of 16 bytes one key may seal, in and beside the messages; nil where the sequence numbers end
    /// before.
    ///
    /// RFC 9147 §4.5.3 counts records of 2^14 bytes: 2^24.5 for GCM, 2^23 for CCM. What its bounds are about is blocks
    /// (RFC 9147 appendix B), so small records count for less.
    var sealedBlockLimit: UInt64? {
        switch self {
        case .aes128GCM, .aes256GCM: 24_296_004_000
        case .aes128CCM, .aes256CCM, .aes128CCM8, .aes256CCM8: 1 << 33
        case .chaCha20Poly1305: nil
        }
    }

    /// How many records may fail to open with one key (RFC 9147 §4.5.3): 2^36; with CCM, 2^23.5 of the largest ones.
    ///
    /// Anybody can send forged records, and small ones come cheap: what CCM's bound is about is blocks of 16 bytes, so
    /// that those are counted there. For the short tags of CCM8 RFC 9147 has 2^7, which would let any stranger end an
    /// association with 128 datagrams; DTLS 1.2 knows no such limit, and here they have that of CCM.
    var forgeryLimit: UInt64 {
        switch self {
        case .aes128GCM, .aes256GCM, .chaCha20Poly1305: 1 << 36
        case .aes128CCM, .aes256CCM, .aes128CCM8, .aes256CCM8: 12_148_002_000
        }
    }
}
