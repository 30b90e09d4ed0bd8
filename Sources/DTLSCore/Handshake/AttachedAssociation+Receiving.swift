import DTLSPrimitives

// The way of a datagram from the filter to OpenSSL, and of its payloads to the application.

extension AttachedAssociation {
    /// Passes what the filter lets through to OpenSSL, and takes what comes of it. Returns whether the datagram as a
    /// whole waits for an answer of the application.
    func process(_ datagram: UnsafeRawBufferPointer, now: Moment) -> Bool {
        if let graduation {
            // No longer OpenSSL's.
            graduation.early.append(Array(datagram))
            return false
        }
        let heldAlert = filter.heldAlert
        slices.removeAll(keepingCapacity: true)
        var findings = RecordFilter.Findings()
        if context.configuration.maximumVersion >= .v1_3 {
            slices.append(0..<datagram.count)
        } else {
            if lifecycle.isHandshaking {
                // A suite's own overhead, as soon as it is chosen: what is shorter has killed associations
                // (CVE-2026-75806).
                if let overhead = callbacks.sealedOverhead(of: records.cipher) { filter.minimumSealedLength = overhead }
                filter.hasKeysOfPeer = records.hasKeysOfPeer
                filter.usesConnectionID = callbacks.negotiatedConnectionIDs.map { !$0.own.isEmpty } ?? false
            }
            findings = filter.sift(
                datagram,
                isOpen: lifecycle.isOpen,
                into: &slices,
                counting: &statistics.drops
            )
        }
        keepEarly(findings, of: datagram)
        if filter.heldAlert != nil, heldAlert == nil {
            alertDeadline = now + context.configuration.retransmission.initialTimeout
        }
        if findings.hasHandshake, heldAlert != nil {
            // Whoever goes on with the handshake has not ended it.
            filter.dismissHeldAlert()
            alertDeadline = nil
        }
        guard !slices.isEmpty else { return false }
        // Out of the property, which the end of the handshake empties.
        var bytes = arranged
        arranged = []
        guard reassembly?.arrange(datagram, &slices, into: &bytes, counting: &statistics.drops) == true else {
            return deliver(datagram, slices, hasSealed: findings.hasSealed, original: datagram)
        }
        // Small ones are used again.
        defer { if lifecycle.isHandshaking, bytes.capacity <= Self.maximumHeldBytes { arranged = bytes } }
        return bytes.withUnsafeBytes {
            deliver($0, slices, hasSealed: findings.hasSealed, original: datagram)
        }
    }

    /// Has OpenSSL read records. Returns whether they wait for an answer of the application instead.
    ///
    /// - Parameter original: The datagram of which they are, if it waits with them; its turn to be captured comes when
    ///   theirs does.
    func deliver(
        _ bytes: UnsafeRawBufferPointer,
        _ slices: RecordFilter.Slices,
        hasSealed: Bool,
        original: UnsafeRawBufferPointer?
    ) -> Bool {
        guard !slices.isEmpty else { return false }
        if lifecycle.isHandshaking, context.usesPreSharedKeys, asksForKey(bytes, slices) {
            // As large as what made the question; there is one such datagram at a time.
            heldDatagrams.append(
                HeldDatagram(
                    bytes: Array(bytes),
                    slices: slices,
                    hasSealed: hasSealed,
                    original: context.configuration.capture == nil ? nil : original.map { Array($0) }
                )
            )
            return true
        }
        bio.withInbound(bytes, slices) {
            advanceThroughAll()
            if lifecycle.isOpen, graduation == nil { readAll(largest: bytes.count) }
            if question != nil { bio.forEachUnread { holdRest($0) } }
        }
        if lifecycle.isOpen { countUnopenedRecords() }
        // Before the ChangeCipherSpec, which may have been lost, OpenSSL keeps them.
        if hasSealed, lifecycle.isHandshaking, context.role == .server, callbacks.preSharedKeyWasUsed,
            records.hasKeysOfPeer
        {
            unusableSealedRecords += 1
        }
        return false
    }

    /// Advances the handshake until OpenSSL has read everything, or waits for the application: after a record that it
    /// drops it asks to be called again, whether there is more or not.
    private func advanceThroughAll() {
        // Every pass reads something.
        var unread = Int.max
        while lifecycle.isHandshaking, question == nil, bio.unreadCount < unread {
            unread = bio.unreadCount
            advance()
            if bio.unreadCount == 0 { return }
        }
    }

    /// Takes note of the sealed records that OpenSSL has dropped without a word. All were its to open by now, the
    /// Finished among them.
    private func countUnopenedRecords() {
        let opened = 1 + statistics.payloadsReceived + emptyRecords
        statistics.drops[.unopenedRecord] = unopenedEarly + Swift.max(0, filter.sealedRecords - opened)
    }

    /// Reads until OpenSSL has no more: a datagram may hold several records, and each is a payload of its own.
    func readAll(largest: Int) {
        // Every pass consumes a record, of which a datagram holds a few thousand at the most.
        for _ in 0..<8_192 {
            var outcome = AttachedRecords.Outcome.waits
            let added = inbound.append(capacity: largest) { buffer in
                outcome = records.perform(.read(buffer))
                guard case .done(let count) = outcome else { return nil }
                return count
            }
            if added {
                statistics.payloadsReceived += 1
                if case .applicationData? = events.last {} else { events.append(.applicationData) }
                continue
            }
            switch outcome {
            case .emptyRecord, .done:
                emptyRecords += 1
                continue
            case .waits, .waitsForVerdict:
                return
            case .closedByPeer:
                _ = records.perform(.shutdown)
                return end(.closedByPeer)
            case .failed(let errors):
                return failEstablished(errors)
            }
        }
    }
}
