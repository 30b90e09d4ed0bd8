import DTLSPrimitives

/// What has become of a datagram that was to be opened as application data.
package enum ApplicationDataOpening: Equatable {
    /// It is not one record of an open association that might be application data. Nothing was changed or counted: it
    /// is for ``DtlsEngine/receive(_:now:)``.
    case notTaken
    /// So many bytes of payload stand at the beginning of the buffer. There is no event, and nothing to drain.
    case payload(count: Int, DtlsReceipt)
    /// It was taken as ``DtlsEngine/receive(_:now:)`` takes it, and had no payload: drain what is to be drained after
    /// that.
    case taken(DtlsReceipt)
}

/// Application data without any queue between the caller's memory and the cipher.
extension DetachedAssociation {
    /// ``DtlsEngine/openApplicationData(_:into:now:)`` says what it does.
    func openApplicationData(
        _ datagram: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer,
        now: Moment
    ) -> ApplicationDataOpening {
        // What came before is handed out before.
        guard closeReason == nil, !hasEvents, inbound.isEmpty else { return .notTaken }
        // One access to the records: each is looked after at run time, which takes as long as a dozen instructions do.
        guard let opening = records.openApplicationData(datagram, into: buffer) else { return .notTaken }
        counted.datagramsReceived += 1
        counted.bytesReceived += datagram.count
        handleTimeout(now: now)
        defer { capture(received: datagram) }
        guard case .opened(let contentType, let count, let isNewest) = opening else {
            noteUnopened()
            return .taken(.unknown)
        }
        let receipt = isNewest ? DtlsReceipt.newest : .authentic
        if contentType == ContentType.applicationData, count > 0 {
            counted.payloadsReceived += 1
            return .payload(count: count, receipt)
        }
        takeOther(contentType, Array(buffer[..<count]))
        return .taken(receipt)
    }

    /// ``DtlsEngine/sealApplicationData(_:into:)`` says what it does.
    func sealApplicationData(
        _ payload: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer
    ) throws(DtlsError) -> Int? {
        // What was sealed before leaves before.
        guard outbound.isEmpty else { return nil }
        try requireSendable(payload)
        let size = records.size(of: payload.count)
        guard size <= buffer.count else { return nil }
        let record = UnsafeMutableRawBufferPointer(rebasing: buffer[..<size])
        try finishSending(records.seal(ContentType.applicationData, payload, into: record))
        counted.datagramsSent += 1
        counted.bytesSent += size
        capture(sent: UnsafeRawBufferPointer(record))
        return size
    }
}
