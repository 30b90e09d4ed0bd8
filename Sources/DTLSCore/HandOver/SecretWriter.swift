import COpenSSL

/// Bytes that grow, of which no copy is left behind unwiped.
package final class SecretWriter {
    private var bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 16)
    package private(set) var count = 0

    package init() {}

    deinit {
        OPENSSL_cleanse(bytes.baseAddress, bytes.count)
        bytes.deallocate()
    }

    package func append(_ more: UnsafeRawBufferPointer) {
        if count + more.count > bytes.count {
            let larger = UnsafeMutableRawBufferPointer.allocate(
                byteCount: Swift.max(2 * bytes.count, count + more.count),
                alignment: 16
            )
            larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
            OPENSSL_cleanse(bytes.baseAddress, bytes.count)
            bytes.deallocate()
            bytes = larger
        }
        UnsafeMutableRawBufferPointer(rebasing: bytes[count..<(count + more.count)]).copyMemory(from: more)
        count += more.count
    }

    package func append(_ more: [UInt8]) { more.withUnsafeBytes { append($0) } }
    package func append(_ more: DtlsSecretBytes) { more.withUnsafeBytes { append($0) } }

    /// In network order.
    package func append(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.bigEndian) { append($0) }
    }

    /// A length of one, two or four bytes, and as many bytes.
    package func appendPrefixed<Length: FixedWidthInteger>(_ more: [UInt8], _ length: Length.Type) {
        append(Length(truncatingIfNeeded: more.count))
        append(more)
    }

    /// What was written so far.
    package var secret: DtlsSecretBytes {
        DtlsSecretBytes(count: count) {
            $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: self.bytes[..<self.count]))
        }
    }
}

/// Reads what ``SecretWriter`` has written. Nothing is believed: what is cut short or too much is `nil`.
package struct SecretReader {
    private var reader: ByteReader

    package init(_ bytes: UnsafeRawBufferPointer) { reader = ByteReader(bytes) }

    package mutating func take(_ count: Int) -> UnsafeRawBufferPointer? { count < 0 ? nil : reader.take(count) }

    package mutating func number<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) -> Number? {
        reader.take(MemoryLayout<Number>.size).map { bytes in bytes.reduce(Number(0)) { $0 << 8 | Number($1) } }
    }

    package mutating func prefixed<Length: FixedWidthInteger>(_ length: Length.Type) -> UnsafeRawBufferPointer? {
        guard let count = number(length).flatMap({ Int(exactly: $0) }) else { return nil }
        return take(count)
    }

    package mutating func text<Length: FixedWidthInteger>(_ length: Length.Type) -> String? {
        prefixed(length).map { String(decoding: $0, as: UTF8.self) }
    }

    package var isAtEnd: Bool { reader.isAtEnd }
}
