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
        for index in 0..<8 { record[headerSize + index] = record[Self.numberStart + index] }
    }

    /// Calls `body` with what is authenticated beside the ciphertext (RFC 5246 §6.2.3.3, RFC 9146 §5).
    func withAdditionalData<Result>(
        of record: UnsafeRawBufferPointer,
        innerCount: Int,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        let count = connectionID.isEmpty ? 13 : 23 + connectionID.count
        return withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { data in
            func copy(_ range: Range<Int>, to offset: Int) {
                for index in range { data[offset + index - range.lowerBound] = record[index] }
            }
            if connectionID.isEmpty {
                copy(Self.numberStart..<11, to: 0)
                copy(0..<3, to: 8)
                data.storeUInt16(innerCount, at: 11)
            } else {
                for index in 0..<8 { data[index] = 0xFF }
                data[8] = ContentType.connectionID
                data[9] = UInt8(truncatingIfNeeded: connectionID.count)
                copy(0..<3, to: 10)
                copy(Self.numberStart..<(11 + connectionID.count), to: 13)
                data.storeUInt16(innerCount, at: 21 + connectionID.count)
            }
            return body(UnsafeRawBufferPointer(data))
        }
    }
}
