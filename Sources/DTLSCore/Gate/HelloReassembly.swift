import DTLSPrimitives

/// ClientHellos that come in fragments, because the client's MTU is small or its key shares are large (post-quantum
/// ones).
///
/// An entry is made only for a first fragment whose cookie is valid, so a forged source never takes one; and there is a
/// limit to their number, size and time, so that real ones cannot take more than about two megabytes by default.
struct HelloReassembly {
    private let limits: DtlsHelloGate.Limits

    init(_ limits: DtlsHelloGate.Limits) {
        self.limits = limits
    }

    private struct Entry {
        let messageSequence: UInt16
        let recordSequenceNumber: UInt64
        let expiresAt: Moment
        var bytes: [UInt8]
        var isPresent: [Bool]
        var missing: Int
    }

    private var entries: [[UInt8]: Entry] = [:]

    var count: Int { entries.count }

    /// Makes an entry for a message of which `fragment` is the first part.
    mutating func begin(
        _ source: [UInt8],
        _ fragment: HandshakeFragment,
        recordSequenceNumber: UInt64,
        now: Moment
    ) {
        guard fragment.messageLength <= limits.messageLength else { return }
        if let entry = entries[source], entry.messageSequence == fragment.messageSequence,
            entry.bytes.count == fragment.messageLength, entry.expiresAt > now
        {
            return
        }
        entries = entries.filter { $0.value.expiresAt > now }
        if entries.count >= limits.messages, entries[source] == nil,
            let oldest = entries.min(by: { $0.value.expiresAt < $1.value.expiresAt })?.key
        {
            entries[oldest] = nil
        }
        entries[source] = Entry(
            messageSequence: fragment.messageSequence,
            recordSequenceNumber: recordSequenceNumber,
            expiresAt: now + limits.lifetime,
            bytes: [UInt8](repeating: 0, count: fragment.messageLength),
            isPresent: [Bool](repeating: false, count: fragment.messageLength),
            missing: fragment.messageLength
        )
    }

    /// Adds a fragment to the message that its source has under way. Returns the whole message, as one record, once it
    /// is complete.
    mutating func add(
        _ source: [UInt8],
        _ fragment: HandshakeFragment,
        in datagram: UnsafeRawBufferPointer,
        now: Moment
    ) -> [UInt8]? {
        guard var entry = entries.removeValue(forKey: source) else { return nil }
        guard entry.expiresAt > now else { return nil }
        guard entry.messageSequence == fragment.messageSequence, entry.bytes.count == fragment.messageLength else {
            entries[source] = entry
            return nil
        }
        for (index, position) in fragment.body.enumerated() where !entry.isPresent[fragment.fragmentOffset + index] {
            entry.bytes[fragment.fragmentOffset + index] = datagram[position]
            entry.isPresent[fragment.fragmentOffset + index] = true
            entry.missing -= 1
        }
        guard entry.missing == 0 else {
            entries[source] = entry
            return nil
        }
        return Self.record(entry)
    }

    /// The message in one record and one fragment; the handshake's hash does not depend on fragmentation (RFC 6347
    /// §4.2.6).
    private static func record(_ entry: Entry) -> [UInt8] {
        var record: [UInt8] = []
        ClearRecord.appendFragment(
            HandshakeType.clientHello,
            messageLength: entry.bytes.count,
            messageSequence: entry.messageSequence,
            at: 0,
            entry.bytes,
            numbered: entry.recordSequenceNumber,
            to: &record
        )
        return record
    }
}
