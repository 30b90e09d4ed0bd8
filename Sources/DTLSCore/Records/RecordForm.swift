/// How a sealed record of DTLS 1.2 is laid out:
///
///     type, version, epoch, number, length, [explicit nonce], ciphertext, tag                 (RFC 5246 §6.2.3.3, RFC
///     6347 §4.1) 25,   version, epoch, number, Connection ID, length, [explicit nonce], ciphertext, tag  (RFC 9146 §4)
///
/// In the second form the ciphertext is of the content, its type and zeros.
struct RecordForm {
    /// Where epoch and number stand, 8 bytes.
    static let numberStart = 3

    let connectionID: [UInt8]
    private let padding: Int
    private let algorithm: RecordCipher.Algorithm

    /// - Parameters:
    ///   - connectionID: Empty for the first form.
    ///   - padding: To a multiple of how many bytes content and type are filled up.
    init(_ connectionID: [UInt8], padding: Int, _ algorithm: RecordCipher.Algorithm) {
        self.connectionID = connectionID
        self.padding = Swift.max(1, padding)
        self.algorithm = algorithm
    }

    private var headerSize: Int { RecordHeader.size + connectionID.count }

    /// Where the ciphertext begins.
    var innerStart: Int { headerSize + algorithm.explicitNonceLength }

    /// How many bytes the ciphertext has.
    func innerCount(of contentCount: Int) -> Int {
        guard !connectionID.isEmpty else { return contentCount }
        let filled = (contentCount + 1 + padding - 1) / padding * padding
        // Not beyond what a record may hold.
        return Swift.max(contentCount + 1, Swift.min(filled, DetachedRecords.maximumContent + 1))
    }

    /// How many bytes a whole record has.
    func size(of contentCount: Int) -> Int { headerSize + algorithm.overhead + innerCount(of: contentCount) }

    /// Where the bytes of the nonce stand that the record carries.
    func explicitNonce(of record: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: record[headerSize..<innerStart])
    }

    /// Writes all that stands before the ciphertext.
    func writeHeader(
        _ contentType: UInt8,
        _ number: UInt64,
        innerCount: Int,
        into record: UnsafeMutableRawBufferPointer
    ) {
        record[0] = connectionID.isEmpty ? contentType : ContentType.connectionID
        record.storeUInt16(0xFEFD, at: 1)
        record.storeUInt16(Int(DetachedRecords.epoch), at: Self.numberStart)
        record.storeUInt48(number, at: Self.numberStart + 2)
        UnsafeMutableRawBufferPointer(rebasing: record[11..<(11 + connectionID.count)]).copyBytes(from: connectionID)
        record.storeUInt16(algorithm.overhead + innerCount, at: 11 + connectionID.count)
        guard algorithm.explicitNonceLength > 0 else { return }
        // Epoch and number, which never come twice with a key (RFC 6655 §3 has it so; RFC 5288 §3 allows it).
        record.copyNumber(of: UnsafeRawBufferPointer(record), to: headerSize)
    }

    /// Calls `body` with what is authenticated beside the ciphertext (RFC 5246 §6.2.3.3, RFC 9146 §5).
    func withAdditionalData<Result>(
        of record: UnsafeRawBufferPointer,
        innerCount: Int,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        // A size that is known when this is compiled, so that it is the stack's.
        withUnsafeTemporaryAllocation(byteCount: Self.maximumAdditionalData, alignment: 8) { data in
            let count: Int
            if connectionID.isEmpty {
                data.copyNumber(of: record, to: 0)
                for index in 0..<3 { data[8 + index] = record[index] }
                count = 13
            } else {
                for index in 0..<8 { data[index] = 0xFF }
                data[8] = ContentType.connectionID
                data[9] = UInt8(truncatingIfNeeded: connectionID.count)
                for index in 0..<3 { data[10 + index] = record[index] }
                data.copyNumber(of: record, to: 13)
                for index in 0..<connectionID.count { data[21 + index] = record[11 + index] }
                count = 23 + connectionID.count
            }
            data.storeUInt16(innerCount, at: count - 2)
            return body(UnsafeRawBufferPointer(rebasing: data[..<count]))
        }
    }

    // A Connection ID's length has one byte, in hellos and where associations are handed over.
    private static let maximumAdditionalData = 23 + Int(UInt8.max)
}

extension UnsafeMutableRawBufferPointer {
    /// Copies epoch and number of a record, 8 bytes.
    fileprivate func copyNumber(of record: UnsafeRawBufferPointer, to offset: Int) {
        let number = record.loadUnaligned(fromByteOffset: RecordForm.numberStart, as: UInt64.self)
        storeBytes(of: number, toByteOffset: offset, as: UInt64.self)
    }
}
