// An open association as bytes, for another process to go on with.

extension DtlsEngine {
    /// Takes the association out of this engine, as bytes with which another engine goes on: in this process, in
    /// another one or on another host.
    ///
    /// The engine is dead from that moment, with ``DtlsCloseReason/handedOver``, and the peer is told nothing: two that
    /// went on with the same keys would use a nonce twice, which gives the keys' secrets away. For the same reason the
    /// bytes must be used once. What waits in ``drainOutbound(_:)`` and ``drainApplicationData(_:)`` is not in them:
    /// take it from this engine.
    ///
    /// - Returns: The association's keys, numbers, Connection IDs and all that the handshake has settled but for
    ///   ``DtlsNegotiated/clientOffer``. Keep it as you keep a key: ``DtlsHandOverKey`` seals it.
    /// - Throws: ``DtlsError/Code-swift.struct/connectionClosed``, or the error with which it has failed, unless the
    ///   association is open; ``DtlsError/Code-swift.struct/unsupported`` for one that lives in OpenSSL
    ///   (``DtlsRecordLayer``). All leave it as it is.
    public func handOver() throws(DtlsError) -> DtlsSecretBytes {
        guard isOpen else { throw life.notOpen }
        guard let detached else {
            throw DtlsError(
                .unsupported,
                phase: .established,
                "the association lives in OpenSSL, which cannot hand it over",
                hint: "use an AEAD suite of DTLS 1.2 and recordLayer detached"
            )
        }
        return detached.handOver()
    }

    /// Goes on with an association that ``handOver()`` has taken out of another engine. It is open at once: there is
    /// nothing to start, and no event says so.
    ///
    /// - Parameters:
    ///   - state: What that call has returned. It must be used once.
    ///   - context: A context of the same role. Its credentials and demands are not looked at again.
    /// - Throws: ``DtlsError/Code-swift.struct/handOverRefused`` when it is no such thing, is of a version that this
    ///   library does not know, has a cipher that the linked OpenSSL does not have, or was made by the other role.
    public convenience init(takingOver state: DtlsSecretBytes, context: DtlsEngineContext) throws(DtlsError) {
        let detached = state.withUnsafeBytes { DetachedAssociation(from: $0, context: context) }
        guard let detached else {
            throw DtlsError(
                .handOverRefused,
                phase: .configuration,
                "the bytes are no association of this library, or of the other role"
            )
        }
        self.init(context, detached)
    }
}

extension DetachedAssociation {
    private static let version: UInt8 = 1

    /// Writes everything and ends.
    fileprivate func handOver() -> DtlsSecretBytes {
        let writer = SecretWriter()
        writer.append(Self.version)
        records.write(to: writer)
        writer.append(UInt32(truncatingIfNeeded: mtu))
        writer.append(UInt32(truncatingIfNeeded: maximumFragment))
        write(flight, to: writer)
        let session = session?.bytes
        writer.append(UInt32(truncatingIfNeeded: session?.count ?? 0))
        if let session { writer.append(session) }
        settled.write(to: writer)
        // Before anybody else can use a number.
        abandon(as: .handedOver)
        return writer.secret
    }

    fileprivate convenience init?(from bytes: UnsafeRawBufferPointer, context: DtlsEngineContext) {
        var reader = SecretReader(bytes)
        guard reader.number(UInt8.self) == Self.version, let records = DetachedRecords(from: &reader),
            records.role == context.role,
            let mtu = reader.number(UInt32.self), (256...65_507).contains(mtu),
            let fragment = reader.number(UInt32.self), (1...16_384).contains(fragment),
            let flight = FinalFlight.read(from: &reader)
        else { return nil }
        guard let session = reader.prefixed(UInt32.self), let settled = DtlsNegotiated(from: &reader), reader.isAtEnd
        else {
            return nil
        }
        self.init(
            context: context,
            records: records,
            settled: settled,
            mtu: Int(mtu),
            maximumFragment: Int(fragment),
            session: session.isEmpty ? nil : try? DtlsSession(bytes: DtlsSecretBytes(session)),
            flight: flight
        )
    }

    private func write(_ flight: FinalFlight?, to writer: SecretWriter) {
        let records = flight?.records ?? []
        writer.append(UInt16(truncatingIfNeeded: records.count))
        guard let flight, !records.isEmpty else { return }
        writer.append(flight.nextClearNumber)
        writer.append(UInt16(clamping: flight.attempts))
        for record in records {
            writer.append(record.contentType)
            writer.append(UInt8(record.isSealed ? 1 : 0))
            writer.appendPrefixed(record.content, UInt16.self)
        }
    }
}

extension FinalFlight {
    /// Reads one, if there is one. It may be asked for as long as at first.
    fileprivate static func read(from reader: inout SecretReader) -> FinalFlight?? {
        guard let count = reader.number(UInt16.self) else { return nil }
        guard count > 0 else { return .some(nil) }
        // The first of 48 bits is the peer's choice; of what goes beyond, records carry the lower ones.
        guard let number = reader.number(UInt64.self), number < 1 << 49, let attempts = reader.number(UInt16.self)
        else {
            return nil
        }
        var records: [Record] = []
        for _ in 0..<count {
            guard let contentType = reader.number(UInt8.self), let isSealed = reader.number(UInt8.self),
                let content = reader.prefixed(UInt16.self)
            else { return nil }
            records.append(Record(contentType: contentType, isSealed: isSealed == 1, content: Array(content)))
        }
        return FinalFlight(records: records, nextClearNumber: number, attempts: Int(attempts))
    }
}

extension DtlsNegotiated {
    fileprivate func write(to writer: SecretWriter) {
        func append(_ text: String?) {
            // One more, so that nothing and an empty text differ.
            guard let text else { return writer.append(UInt16(0)) }
            let bytes = Array(text.utf8.prefix(65_000))
            writer.append(UInt16(bytes.count + 1))
            writer.append(bytes)
        }
        writer.append(version.wireValue)
        writer.append(cipherSuite.id)
        for text in [
            cipherSuite.name, cipherSuite.openSSLName, group, signatureAlgorithm?.name, peerSignatureAlgorithm?.name,
        ] {
            append(text)
        }
        append(applicationProtocol)
        append(serverName)
        writer.append(srtpProfile?.id ?? 0)
        writer.append(UInt8(isResumed ? 1 : 0))
        writer.append(UInt16(preSharedKeyIdentity.map { $0.count + 1 } ?? 0))
        writer.append(preSharedKeyIdentity ?? [])
        writer.appendPrefixed(peerPublicKeyFingerprint?.bytes ?? [], UInt8.self)
        // No honest chain is longer; the peer's own certificate comes first.
        let certificates = peerCertificates.prefix(64)
        writer.append(UInt8(truncatingIfNeeded: certificates.count))
        for certificate in certificates { writer.appendPrefixed(certificate.der, UInt32.self) }
        writer.append(UInt8(connectionIDs == nil ? 0 : 1))
        writer.appendPrefixed(connectionIDs?.own ?? [], UInt8.self)
        writer.appendPrefixed(connectionIDs?.peer ?? [], UInt8.self)
    }

    fileprivate init?(from reader: inout SecretReader) {
        func optional(_ reader: inout SecretReader) -> UnsafeRawBufferPointer?? {
            guard let count = reader.number(UInt16.self) else { return nil }
            guard count > 0 else { return .some(nil) }
            return reader.take(Int(count) - 1).map { $0 }
        }
        func text(_ reader: inout SecretReader) -> String?? {
            optional(&reader).map { bytes in bytes.map { String(decoding: $0, as: UTF8.self) } }
        }
        guard let version = reader.number(UInt16.self), let suite = reader.number(UInt16.self),
            let name = text(&reader), let openSSLName = text(&reader), let group = text(&reader),
            let signature = text(&reader), let peerSignature = text(&reader), let alpn = text(&reader),
            let serverName = text(&reader), let srtp = reader.number(UInt16.self),
            let isResumed = reader.number(UInt8.self), let identity = optional(&reader),
            let fingerprint = reader.prefixed(UInt8.self), let certificateCount = reader.number(UInt8.self)
        else { return nil }
        var certificates: [DtlsCertificate] = []
        for _ in 0..<certificateCount {
            guard let der = reader.prefixed(UInt32.self), let certificate = try? DtlsCertificate(der: Array(der)) else {
                return nil
            }
            certificates.append(certificate)
        }
        guard let hasIDs = reader.number(UInt8.self), let own = reader.prefixed(UInt8.self),
            let peer = reader.prefixed(UInt8.self)
        else { return nil }
        let storage = Storage(
            version: DtlsVersion(wireValue: version),
            cipherSuite: DtlsCipherSuite.constants.first { $0.id == suite }
                ?? DtlsCipherSuite(suite, name ?? "unknown", openSSLName ?? "unknown"),
            group: group,
            signatureAlgorithm: signature.map { DtlsSignatureAlgorithm(openSSLName: $0) },
            peerSignatureAlgorithm: peerSignature.map { DtlsSignatureAlgorithm(openSSLName: $0) },
            peerCertificates: certificates,
            peerPublicKeyFingerprint: DtlsFingerprint(bytes: Array(fingerprint)),
            preSharedKeyIdentity: identity.map { Array($0) },
            applicationProtocol: alpn,
            srtpProfile: srtp,
            serverName: serverName,
            clientOffer: nil,
            connectionIDs: hasIDs == 1 ? DtlsNegotiatedConnectionIDs(own: Array(own), peer: Array(peer)) : nil,
            isResumed: isResumed == 1
        )
        self.init(storage)
    }
}
