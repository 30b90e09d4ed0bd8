/// Seals and opens the records of one association, without OpenSSL's `SSL`: DTLS 1.2, AEAD suites, epoch 1, with or
/// without Connection IDs (RFC 5246 §6.2.3.3, RFC 6347 §4.1, RFC 5288, 6655, 7251, 7905, 9146).
///
/// What makes it safe is that no number is used twice with a key. It cannot be copied, so nobody else counts; a number
/// is used up before the cipher sees it, whatever comes of it; and alerts, data and repeated messages share the count.
struct DetachedRecords: ~Copyable {
    /// The epoch of the only keys that there are. Renegotiation, which would make others, is refused.
    static let epoch: UInt16 = 1

    /// Records have no more content (RFC 5246 §6.2.1).
    static let maximumContent = 16_384

    /// Sequence numbers have 48 bits.
    private static let sequenceLimit: UInt64 = 1 << 48

    /// So many of the last numbers are for alerts, so that the end can be told.
    private static let reservedNumbers: UInt64 = 16

    let keys: RecordKeys
    let role: DtlsRole
    /// What stands in the peer's records, and in this side's; empty: nothing does.
    let connectionIDs: ConnectionIDPair

    /// The number of the next record of this side.
    private(set) var nextNumber: UInt64

    private(set) var window: ReplayWindow

    /// Blocks of 16 bytes that were sealed, additional data not counted.
    private(set) var sealedBlocks: UInt64 = 0

    /// Records that came under numbers that might have been new, and were not authentic; or blocks of them, see
    /// ``RecordCipher/Algorithm/forgeryLimit``.
    private(set) var forgeries: UInt64 = 0

    /// - Parameter nextNumber: Above every number that this side has used in epoch 1.
    init(
        keys: RecordKeys,
        role: DtlsRole,
        connectionIDs: ConnectionIDPair = ConnectionIDPair(),
        nextNumber: UInt64 = 0,
        window: ReplayWindow = ReplayWindow()
    ) {
        self.keys = keys
        self.role = role
        self.connectionIDs = connectionIDs
        self.nextNumber = nextNumber
        self.window = window
    }

    private var algorithm: RecordCipher.Algorithm { keys.cipher.algorithm }

    // Nobody else uses the keys.
    deinit { keys.forget() }

    #if DEBUG
        // For tests that cannot wait so long.
        mutating func countAsSealed(blocks: UInt64) { sealedBlocks += blocks }
        mutating func countAsForged(_ count: UInt64) { forgeries += count }
    #endif

    // MARK: Hand-over

    /// Writes all that another process needs to go on. Whoever does must not go on with this one.
    func write(to writer: SecretWriter) {
        writer.append(role == .client ? UInt8(1) : 2)
        writer.append(algorithm.rawValue)
        writer.append(keys.hash.rawValue)
        writer.append(keys.handshake)
        writer.append(nextNumber)
        writer.append(sealedBlocks)
        writer.append(forgeries)
        writer.append(window.next)
        writer.append(UInt16(truncatingIfNeeded: window.contents.count))
        for word in window.contents { writer.append(word) }
        writer.appendPrefixed(connectionIDs.own, UInt8.self)
        writer.appendPrefixed(connectionIDs.peer, UInt8.self)
        writer.append(UInt16(truncatingIfNeeded: connectionIDs.padding))
        writer.append(UInt8(connectionIDs.checksPaths ? 1 : 0))
    }

    /// Goes on where another process has ended.
    init?(from reader: inout SecretReader) {
        guard let role = reader.number(UInt8.self), role == 1 || role == 2,
            let cipher = reader.number(UInt8.self).flatMap({ RecordCipher.Algorithm(rawValue: $0) })
                .flatMap({ RecordCipher.of($0) }),
            let hash = reader.number(UInt8.self).flatMap({ RecordKeys.Hash(rawValue: $0) }),
            let handshake = reader.take(RecordKeys.handshakeLength).map({ DtlsSecretBytes($0) }),
            let nextNumber = reader.number(UInt64.self), nextNumber <= Self.sequenceLimit,
            let sealedBlocks = reader.number(UInt64.self), sealedBlocks < 1 << 60,
            let forgeries = reader.number(UInt64.self), forgeries < 1 << 60,
            let next = reader.number(UInt64.self), let wordCount = reader.number(UInt16.self)
        else { return nil }
        var words: [UInt64] = []
        for _ in 0..<wordCount {
            guard let word = reader.number(UInt64.self) else { return nil }
            words.append(word)
        }
        guard let window = ReplayWindow(next: next, contents: words),
            let own = reader.prefixed(UInt8.self), own.count <= DtlsConnectionIDs.maximumLength,
            let peer = reader.prefixed(UInt8.self), let padding = reader.number(UInt16.self),
            (1...128).contains(padding), let checksPaths = reader.number(UInt8.self),
            // At last: their place is given back by who has them.
            let keys = RecordKeys(cipher: cipher, hash: hash, handshake: handshake)
        else { return nil }
        let ids = ConnectionIDPair(
            own: Array(own),
            peer: Array(peer),
            padding: Int(padding),
            checksPaths: checksPaths == 1
        )
        self.init(
            keys: keys,
            role: role == 1 ? .client : .server,
            connectionIDs: ids,
            nextNumber: nextNumber,
            window: window
        )
        self.sealedBlocks = sealedBlocks
        self.forgeries = forgeries
    }

    // MARK: Sealing

    enum Sealing {
        case sealed
        /// The numbers or the key are used up.
        case exhausted
        /// OpenSSL could not. The number is used up all the same.
        case failed
    }

    /// What a record of this side is longer than its content, header included, in bytes, padding aside.
    var overhead: Int {
        let id = connectionIDs.peer.count
        return RecordHeader.size + id + algorithm.overhead + (id > 0 ? 1 : 0)
    }

    /// How much content fits into a datagram.
    func maximumContent(ofDatagram count: Int) -> Int {
        var room = count - overhead
        if !connectionIDs.peer.isEmpty, connectionIDs.padding > 1 {
            // Content and type are filled up to a multiple.
            room = (room + 1) / connectionIDs.padding * connectionIDs.padding - 1
        }
        return Swift.max(0, Swift.min(Self.maximumContent, room))
    }

    /// Whether another record with this much content may be sealed.
    func mayStillSeal(_ count: Int) -> Bool { maySeal(blocks(count), reserve: Self.reservedNumbers) }

    private func maySeal(_ blocks: UInt64, reserve: UInt64) -> Bool {
        guard nextNumber < Self.sequenceLimit - reserve else { return false }
        guard let limit = algorithm.sealedBlockLimit else { return true }
        // What is reserved is for alerts, of two bytes.
        return sealedBlocks + blocks + reserve * self.blocks(2) <= limit
    }

    /// How many blocks a record takes, type and padding behind a Connection ID included. The counter block of the tag
    /// counts, too.
    private func blocks(_ contentCount: Int) -> UInt64 {
        UInt64(form.innerCount(of: Swift.max(0, contentCount)) + 15) / 16 + 2
    }

    /// What this side's records look like.
    private var form: RecordForm { RecordForm(connectionIDs.peer, padding: connectionIDs.padding, algorithm) }

    /// How many bytes a record of this side has.
    func size(of contentCount: Int) -> Int { form.size(of: contentCount) }

    /// Seals a record into a datagram of its own.
    mutating func seal(
        _ contentType: UInt8,
        _ content: UnsafeRawBufferPointer,
        into queue: inout DatagramQueue
    ) -> Sealing {
        var sealing = Sealing.failed
        let isSealed = queue.append(capacity: size(of: content.count)) { record in
            sealing = seal(contentType, content, into: record)
            return sealing == .sealed ? record.count : nil
        }
        return isSealed ? .sealed : sealing
    }

    /// Seals a record into exactly as many bytes as it has: ``size(of:)``.
    mutating func seal(
        _ contentType: UInt8,
        _ content: UnsafeRawBufferPointer,
        into record: UnsafeMutableRawBufferPointer
    ) -> Sealing {
        let reserve = contentType == ContentType.applicationData ? Self.reservedNumbers : 0
        let blocks = blocks(content.count)
        guard maySeal(blocks, reserve: reserve) else { return .exhausted }
        let number = nextNumber
        // Before anything can fail.
        nextNumber = number + 1
        sealedBlocks += blocks
        return protect(contentType, content, number, by: role, form, into: record) ? .sealed : .failed
    }

    /// Seals a record with a number that OpenSSL has given it. `nil` when the number was used before, or when it cannot
    /// be sealed.
    mutating func seal(
        _ contentType: UInt8,
        _ content: UnsafeRawBufferPointer,
        numbered number: UInt64
    ) -> [UInt8]? {
        let blocks = blocks(content.count)
        guard number >= nextNumber, number < Self.sequenceLimit, maySeal(blocks, reserve: 0) else { return nil }
        nextNumber = number + 1
        sealedBlocks += blocks
        return sealed(contentType, content, number, by: role, connectionIDs.peer, padding: connectionIDs.padding)
    }

    /// Seals what the peer has sealed as it would have without Connection IDs, for OpenSSL to open. It must never
    /// leave: its number is that of the peer's record.
    func sealForOpenSSL(_ contentType: UInt8, _ content: UnsafeRawBufferPointer, _ number: UInt64) -> [UInt8]? {
        sealed(contentType, content, number, by: role.other, [], padding: 1)
    }

    private func sealed(
        _ contentType: UInt8,
        _ content: UnsafeRawBufferPointer,
        _ number: UInt64,
        by side: DtlsRole,
        _ connectionID: [UInt8],
        padding: Int
    ) -> [UInt8]? {
        let form = RecordForm(connectionID, padding: padding, algorithm)
        var record = [UInt8](repeating: 0, count: form.size(of: content.count))
        let isSealed = record.withUnsafeMutableBytes { protect(contentType, content, number, by: side, form, into: $0) }
        return isSealed ? record : nil
    }

    /// Writes a record into exactly as many bytes as it has.
    private func protect(
        _ contentType: UInt8,
        _ content: UnsafeRawBufferPointer,
        _ number: UInt64,
        by side: DtlsRole,
        _ form: RecordForm,
        into record: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let innerCount = form.innerCount(of: content.count)
        let inner = form.innerStart..<(form.innerStart + innerCount)
        form.writeHeader(contentType, number, innerCount: innerCount, into: record)
        let plaintext: UnsafeRawBufferPointer
        let ciphertext = UnsafeMutableRawBufferPointer(rebasing: record[inner])
        if form.connectionID.isEmpty {
            plaintext = content
        } else {
            ciphertext.copyMemory(from: content)
            ciphertext[content.count] = contentType
            for index in (content.count + 1)..<innerCount { ciphertext[index] = 0 }
            plaintext = UnsafeRawBufferPointer(ciphertext)
        }
        let tag = UnsafeMutableRawBufferPointer(rebasing: record[inner.upperBound...])
        return form.withAdditionalData(of: UnsafeRawBufferPointer(record), innerCount: innerCount) { additionalData in
            withNonce(of: side, UnsafeRawBufferPointer(record), form) { key, nonce in
                keys.cipher.seal(
                    plaintext,
                    into: ciphertext,
                    key: key,
                    nonce: nonce,
                    additionalData: additionalData,
                    tag: tag
                )
            }
        }
    }

    // MARK: Opening

    enum Opening {
        /// Authentic: its content stands at the beginning of the buffer.
        case opened(contentType: UInt8, count: Int, isNewest: Bool)
        /// It came before, or is too old to know.
        case replayed
        case forged
        /// It cannot be one of the peer's: too short, too long, of another epoch, version or Connection ID.
        case improper
    }

    /// Whether a record can be one of the peer's, as far as everybody can tell.
    func isProper(_ header: RecordHeader, at offset: Int, in datagram: UnsafeRawBufferPointer) -> Bool {
        guard header.epoch == Self.epoch, datagram[offset + 2] == 0xFD else { return false }
        if connectionIDs.own.isEmpty {
            guard
                (ContentType.changeCipherSpec...ContentType.applicationData).contains(header.contentType)
                    || connectionIDs.checksPaths && header.contentType == ContentType.returnRoutabilityCheck
            else { return false }
        } else {
            // Once it is negotiated, nothing without it is the peer's (RFC 9146 §3).
            guard header.contentType == ContentType.connectionID,
                datagram[header.connectionID(at: offset)].elementsEqual(connectionIDs.own)
            else { return false }
        }
        // Content, 256 bytes of what a cipher may add, and as much padding as RFC 5246 §6.2.3 leaves room for.
        return header.length <= Self.maximumContent + 2_048
    }

    /// The fewest bytes that a sealed record of the peer has behind its header.
    var minimumLength: Int { algorithm.overhead + (connectionIDs.own.isEmpty ? 0 : 1) }

    /// Opens a record of the peer, if it is authentic and new.
    ///
    /// - Parameter buffer: Room for as many bytes as the record has.
    mutating func open(
        _ header: RecordHeader,
        at offset: Int,
        in datagram: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer
    ) -> Opening {
        guard isProper(header, at: offset, in: datagram), header.length >= minimumLength else { return .improper }
        let record = UnsafeRawBufferPointer(rebasing: datagram[offset..<(offset + header.size + header.length)])
        return openProper(record, header, into: buffer)
    }

    /// Opens a datagram that is one record of the peer which may bear application data, as ``open(_:at:in:into:)``
    /// does. `nil` when it is something else: then nothing has happened.
    mutating func openApplicationData(
        _ datagram: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer
    ) -> Opening? {
        guard buffer.count >= datagram.count,
            let header = RecordHeader(datagram, at: 0, expectedIDLength: connectionIDs.own.count),
            header.size + header.length == datagram.count,
            header.contentType == ContentType.applicationData || header.contentType == ContentType.connectionID,
            isProper(header, at: 0, in: datagram), header.length >= minimumLength
        else { return nil }
        return openProper(datagram, header, into: buffer)
    }

    /// - Parameter record: One that is ``isProper(_:at:in:)`` and long enough.
    private mutating func openProper(
        _ record: UnsafeRawBufferPointer,
        _ header: RecordHeader,
        into buffer: UnsafeMutableRawBufferPointer
    ) -> Opening {
        let number = header.sequenceNumber
        guard window.permits(number) else { return .replayed }
        guard let innerCount = unprotect(record, header, by: role.other, connectionIDs.own, into: buffer) else {
            forgeries += algorithm.isCCM ? blocks(header.length) : 1
            return .forged
        }
        let isNewest = window.isNewest(number)
        window.accept(number)
        var contentType = header.contentType
        var count = innerCount
        if !connectionIDs.own.isEmpty {
            // It is authentic, so how long this takes tells nobody anything but how much the peer has padded.
            while count > 0, buffer[count - 1] == 0 { count -= 1 }
            guard count > 0 else { return .improper }
            count -= 1
            contentType = buffer[count]
        }
        guard count <= Self.maximumContent else { return .improper }
        return .opened(contentType: contentType, count: count, isNewest: isNewest)
    }

    /// Whether a datagram begins with an authentic record that is newer than all before. Nothing is taken note of.
    func recognizes(_ datagram: UnsafeRawBufferPointer) -> Bool {
        guard let header = RecordHeader(datagram, at: 0, expectedIDLength: connectionIDs.own.count),
            isProper(header, at: 0, in: datagram), header.length >= minimumLength,
            window.isNewest(header.sequenceNumber)
        else { return false }
        let record = UnsafeRawBufferPointer(rebasing: datagram[..<(header.size + header.length)])
        return withUnsafeTemporaryAllocation(byteCount: header.length, alignment: 8) { buffer in
            unprotect(record, header, by: role.other, connectionIDs.own, into: buffer) != nil
        }
    }

    /// Whether so many records were forged that the next one might be believed.
    var hasSeenTooManyForgeries: Bool { forgeries >= algorithm.forgeryLimit }

    /// Opens one whole record of the peer into memory of its own; `nil` when it is not authentic or not new.
    mutating func tryOpen(_ record: [UInt8]) -> (contentType: UInt8, content: [UInt8], number: UInt64)? {
        record.withUnsafeBytes { bytes in
            guard let header = RecordHeader(bytes, at: 0, expectedIDLength: connectionIDs.own.count) else { return nil }
            return withUnsafeTemporaryAllocation(byteCount: header.length, alignment: 8) { buffer in
                guard case .opened(let contentType, let count, _) = open(header, at: 0, in: bytes, into: buffer) else {
                    return nil
                }
                return (contentType, Array(UnsafeRawBufferPointer(rebasing: buffer[..<count])), header.sequenceNumber)
            }
        }
    }

    /// Whether records carry a part of their nonce, which need not be their number.
    var hasExplicitNonce: Bool { algorithm.explicitNonceLength > 0 }

    /// Leaves out the numbers below `number`, because OpenSSL has used them.
    mutating func skip(to number: UInt64) { nextNumber = Swift.max(nextNumber, number) }

    /// Opens a record of this side, and returns its kind and content.
    func openOwn(_ record: UnsafeRawBufferPointer, hasConnectionID: Bool) -> (contentType: UInt8, content: [UInt8])? {
        let id = hasConnectionID ? connectionIDs.peer : []
        guard let header = RecordHeader(record, at: 0, expectedIDLength: id.count), header.epoch == Self.epoch,
            header.connectionIDLength == id.count, header.size + header.length == record.count
        else { return nil }
        let opened = withUnsafeTemporaryAllocation(byteCount: header.length, alignment: 8) { buffer in
            unprotect(record, header, by: role, id, into: buffer).map {
                Array(UnsafeRawBufferPointer(rebasing: buffer[..<$0]))
            }
        }
        guard var content = opened else { return nil }
        guard !id.isEmpty else { return (header.contentType, content) }
        while content.last == 0 { content.removeLast() }
        guard let contentType = content.popLast() else { return nil }
        return (contentType, content)
    }

    /// Opens one whole record. Returns how many bytes were in it.
    private func unprotect(
        _ record: UnsafeRawBufferPointer,
        _ header: RecordHeader,
        by side: DtlsRole,
        _ connectionID: [UInt8],
        into buffer: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let form = RecordForm(connectionID, padding: 1, algorithm)
        let innerCount = header.length - algorithm.overhead
        guard innerCount >= 0, innerCount <= buffer.count else { return nil }
        let inner = form.innerStart..<(form.innerStart + innerCount)
        let isAuthentic = form.withAdditionalData(of: record, innerCount: innerCount) { additionalData in
            withNonce(of: side, record, form) { key, nonce in
                keys.cipher.open(
                    UnsafeRawBufferPointer(rebasing: record[inner]),
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<innerCount]),
                    key: key,
                    nonce: nonce,
                    additionalData: additionalData,
                    tag: UnsafeRawBufferPointer(rebasing: record[inner.upperBound...])
                )
            }
        }
        return isAuthentic ? innerCount : nil
    }

    /// Calls `body` with the key of a side and the nonce of one of its records.
    private func withNonce(
        of side: DtlsRole,
        _ record: UnsafeRawBufferPointer,
        _ form: RecordForm,
        _ body: (_ key: RecordCipher.Key, _ nonce: UnsafeRawBufferPointer) -> Bool
    ) -> Bool {
        keys.withCipherKey(of: side) { key, fixed in
            withUnsafeTemporaryAllocation(byteCount: RecordCipher.nonceLength, alignment: 8) { nonce in
                nonce.copyMemory(from: fixed)
                if algorithm.explicitNonceLength > 0 {
                    let explicit = form.explicitNonce(of: record)
                    UnsafeMutableRawBufferPointer(rebasing: nonce[fixed.count...]).copyMemory(from: explicit)
                } else {
                    // RFC 7905 §2: epoch and number, from the left filled up with zeros, over the whole nonce.
                    for index in 0..<8 { nonce[4 + index] ^= record[RecordForm.numberStart + index] }
                }
                return body(key, UnsafeRawBufferPointer(nonce))
            }
        }
    }
}

extension DtlsRole {
    var other: DtlsRole { self == .client ? .server : .client }
}
