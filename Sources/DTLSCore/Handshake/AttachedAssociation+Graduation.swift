import COpenSSL

// How an association leaves OpenSSL: its keys, the records that OpenSSL must not see, and those that it must see in
// another form.

/// What an association takes with it from its handshake.
final class Graduation {
    fileprivate var records: DetachedRecords?
    /// Sealed records that came before it, oldest first.
    var early: [[UInt8]] = []
    /// Payloads and alerts that were opened before it, oldest first.
    fileprivate(set) var opened: [(contentType: UInt8, content: [UInt8])] = []
    /// This side's last flight, if the peer may ask for it again, and the number of the next record in clear.
    private var flight: DatagramQueue?
    let nextClearNumber: UInt64
    let outbound: DatagramQueue
    let session: DtlsSession?
    /// More than that the peer takes in no record (RFC 6066 §4).
    let maximumContent: Int

    fileprivate init(
        _ records: consuming DetachedRecords,
        flight: DatagramQueue?,
        nextClearNumber: UInt64,
        outbound: DatagramQueue,
        session: DtlsSession?,
        maximumContent: Int
    ) {
        self.records = consume records
        self.flight = flight
        self.nextClearNumber = nextClearNumber
        self.outbound = outbound
        self.session = session
        self.maximumContent = maximumContent
    }

    /// Hands over the last flight, once.
    func takeFlight() -> DatagramQueue? { flight.take() }

    /// Hands over the keys, once.
    func takeRecords() -> DetachedRecords? { records.take() }
}

extension AttachedAssociation {
    /// Makes ready to leave OpenSSL, when the handshake is finished and if all that it takes is there.
    ///
    /// One condition is that the peer's Finished, which OpenSSL has accepted, opens with the keys that were derived
    /// here: an association never goes on with keys that have not been seen to work, nor with a window that would let
    /// the Finished pass a second time.
    func prepareGraduation(_ negotiated: DtlsNegotiated) {
        guard context.detaches, negotiated.version == .v1_2 else { return }
        let ids = callbacks.negotiatedConnectionIDs
        guard var records = takeDetachedRecords() else { return }
        for copy in early.handshake { _ = records.tryOpen(copy) }
        // Without IDs, what OpenSSL has sealed has left as it was.
        let mayRepeatNonce = ids == nil && records.hasExplicitNonce && bio.hasWrittenForeignNonce
        guard records.window.next > 0, !mayRepeatNonce else { return }
        records.skip(to: bio.nextSealedNumber)
        let sentLastFlight = (context.role == .server) != negotiated.isResumed
        var (flight, outbound) = bio.takeQueues()
        if !sentLastFlight {
            flight.removeAll()
            context.queues.strip(&flight)
        }
        graduation = Graduation(
            records,
            flight: flight.isEmpty ? nil : flight,
            nextClearNumber: (bio.highestSequenceNumber ?? 0) + 1,
            outbound: outbound,
            session: session,
            maximumContent: maximumFragment
        )
        graduation?.opened = openedEarly
        openedEarly = []
    }

    /// Hands over what ``prepareGraduation(_:)`` has made, once; `nil` while the association is to stay.
    func takeGraduation() -> Graduation? {
        guard let graduation, lifecycle.isOpen else { return nil }
        self.graduation = nil
        graduation.early += early.takeAll()
        return graduation
    }

    private func takeDetachedRecords() -> DetachedRecords? {
        if detachedRecords == nil { detachedRecords = makeDetachedRecords() }
        return detachedRecords.take()
    }

    /// Derives the keys. Only once OpenSSL has derived its own: before, the session may be one that the peer does not
    /// resume.
    private func makeDetachedRecords() -> DetachedRecords? {
        guard let keys = RecordKeys(of: records.pointer, suite: records.cipher) else { return nil }
        let ids = callbacks.negotiatedConnectionIDs
        return DetachedRecords(
            keys: keys,
            role: context.role,
            connectionIDs: ConnectionIDPair(
                own: ids?.own ?? [],
                peer: ids?.peer ?? [],
                padding: context.configuration.connectionIDs.padding,
                checksPaths: ids != nil && callbacks.agreesOnPathChecks
            ),
            window: ReplayWindow(size: context.configuration.replayWindow)
        )
    }

    /// What a client said with RFC 6066 §4, or all that a record holds.
    var maximumFragment: Int {
        guard let session = SSL_get_session(records.pointer) else { return DetachedRecords.maximumContent }
        // 1 to 4, for 512 to 4,096 bytes.
        let code = SSL_SESSION_get_max_fragment_length(session)
        return (1...4).contains(code) ? 256 << Int(code) : DetachedRecords.maximumContent
    }

    // MARK: Connection IDs during the handshake (RFC 9146)

    /// What a record that OpenSSL has sealed is to leave as: the same content under the same number, behind the peer's
    /// Connection ID.
    ///
    /// OpenSSL's own ciphertext never leaves then, so its number is used once.
    func readdress(_ record: UnsafeRawBufferPointer) -> [UInt8]? {
        guard callbacks.negotiatedConnectionIDs != nil else { return Array(record) }
        // Whoever has the keys now counts on.
        guard graduation == nil else { return nil }
        if detachedRecords == nil { detachedRecords = makeDetachedRecords() }
        guard let header = RecordHeader(record, at: 0),
            let own = detachedRecords?.openOwn(record, hasConnectionID: false)
        else { return nil }
        return own.content.withUnsafeBytes {
            detachedRecords?.seal(own.contentType, $0, numbered: header.sequenceNumber)
        }
    }

    /// Keeps what the filter has found to be kept.
    func keepEarly(_ findings: RecordFilter.Findings, of datagram: UnsafeRawBufferPointer) {
        for range in findings.kept where !early.keep(UnsafeRawBufferPointer(rebasing: datagram[range])) {
            statistics.drops[.earlyRecordLimit] += 1
        }
        for range in findings.sealedHandshake where context.detaches {
            early.copyHandshake(UnsafeRawBufferPointer(rebasing: datagram[range]))
        }
    }

    /// Gives OpenSSL the messages of the handshake among the kept records, as soon as there are keys for them: opened
    /// and sealed again where they carry a Connection ID.
    func deliverFinished() {
        guard lifecycle.isHandshaking, question == nil, !early.records.isEmpty, records.hasKeysOfPeer else { return }
        filter.hasKeysOfPeer = true
        let usesConnectionID = callbacks.negotiatedConnectionIDs.map { !$0.own.isEmpty } ?? false
        if usesConnectionID, detachedRecords == nil { detachedRecords = makeDetachedRecords() }
        for record in early.takeAll() {
            guard graduation == nil, lifecycle.isHandshaking, question == nil else {
                // The one before was the Finished.
                keepForLater(record)
                continue
            }
            if usesConnectionID {
                deliverReaddressed(record)
            } else if record.first == ContentType.handshake {
                guard isLongEnough(record) else { continue }
                filter.countSealed()
                record.withUnsafeBytes { bytes in
                    early.copyHandshake(bytes)
                    _ = deliver(bytes, [0..<bytes.count], hasSealed: true, original: nil)
                }
            } else {
                keepForLater(record)
            }
        }
    }

    /// Whether a kept record has the bytes that the suite adds to each. When it came that may not have been known yet,
    /// and OpenSSL dies of a shorter one (CVE-2026-75806).
    private func isLongEnough(_ record: [UInt8]) -> Bool {
        let overhead = callbacks.sealedOverhead(of: records.cipher) ?? 0
        guard record.count - RecordHeader.size >= overhead else {
            statistics.drops[.undersizedRecord] += 1
            return false
        }
        return true
    }

    private func keepForLater(_ record: [UInt8]) {
        if let graduation { return graduation.early.append(record) }
        record.withUnsafeBytes { _ = early.keep($0) }
    }

    private func deliverReaddressed(_ record: [UInt8]) {
        guard let (contentType, content, number) = detachedRecords?.tryOpen(record) ?? nil else {
            unopenedEarly += 1
            if context.role == .server, callbacks.preSharedKeyWasUsed { unusableSealedRecords += 1 }
            return
        }
        guard contentType == ContentType.handshake else {
            let bytes = openedEarly.reduce(content.count) { $0 + $1.content.count }
            guard openedEarly.count < EarlyRecords.maximumCount, bytes <= EarlyRecords.maximumBytes else {
                statistics.drops[.earlyRecordLimit] += 1
                return
            }
            openedEarly.append((contentType, content))
            return
        }
        let plain = content.withUnsafeBytes { detachedRecords?.sealForOpenSSL(contentType, $0, number) }
        plain?.withUnsafeBytes { _ = deliver($0, [0..<$0.count], hasSealed: false, original: nil) }
    }

    /// Gives OpenSSL what was kept from it, because the association stays there.
    func deliverEarly() {
        for record in early.takeAll() {
            guard record.first != ContentType.connectionID else {
                statistics.drops[.improperSealedRecord] += 1
                continue
            }
            guard isLongEnough(record) else { continue }
            record.withUnsafeBytes { bytes in
                filter.countSealed()
                _ = deliver(bytes, [0..<bytes.count], hasSealed: false, original: nil)
            }
        }
    }
}
