/// Sealed records that came before the handshake was finished, and that nobody can open yet, or only this library
/// (those with a Connection ID). Datagrams overtake each other, and a peer may send as soon as its own side is
/// finished.
struct EarlyRecords {
    /// How many are kept, and how many bytes of them. For messages of the handshake there are a few places more, so
    /// that nothing else stands in the Finished's way.
    static let maximumCount = RecordFilter.maximumEarlyRecords
    static let handshakeCount = maximumCount + 4
    static let maximumBytes = 32_768
    private static let maximumCopies = 8

    private(set) var records: [[UInt8]] = []
    private var byteCount = 0

    /// Copies of the sealed messages that OpenSSL was given, the newest last: one of them is the peer's Finished.
    private(set) var handshake: [[UInt8]] = []

    /// Keeps a record. Returns whether there was room.
    mutating func keep(_ record: UnsafeRawBufferPointer) -> Bool {
        let isHandshake = record.first == ContentType.handshake && record.count <= 512
        guard records.count < (isHandshake ? Self.handshakeCount : Self.maximumCount),
            isHandshake || byteCount + record.count <= Self.maximumBytes
        else { return false }
        records.append(Array(record))
        byteCount += record.count
        return true
    }

    /// Keeps a copy of what OpenSSL is given.
    mutating func copyHandshake(_ record: UnsafeRawBufferPointer) {
        // A Finished is small.
        guard record.count <= 512 else { return }
        if handshake.count >= Self.maximumCopies { handshake.removeFirst() }
        handshake.append(Array(record))
    }

    mutating func takeAll() -> [[UInt8]] {
        defer {
            records = []
            byteCount = 0
        }
        return records
    }
}
