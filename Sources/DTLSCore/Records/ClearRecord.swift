/// Records of epoch 0 of our own making, which nothing seals (RFC 6347 §4.1 and §4.2.2).
enum ClearRecord {
    /// Appends a record.
    ///
    /// - Parameter version: The second byte of the version in its header.
    static func append(
        _ contentType: UInt8,
        _ content: some Collection<UInt8>,
        numbered number: UInt64 = 0,
        version: UInt8 = 0xFD,
        to bytes: inout [UInt8]
    ) {
        appendHeader(contentType, count: content.count, numbered: number, version: version, to: &bytes)
        bytes.append(contentsOf: content)
    }

    /// Appends a record with one fragment of a handshake message.
    ///
    /// - Parameters:
    ///   - part: Where in the message the fragment stands.
    ///   - body: Its bytes.
    static func appendFragment(
        _ type: UInt8,
        messageLength: Int,
        messageSequence: UInt16,
        at part: Int,
        _ body: some Collection<UInt8>,
        numbered number: UInt64 = 0,
        version: UInt8 = 0xFD,
        to bytes: inout [UInt8]
    ) {
        let count = HandshakeFragment.headerSize + body.count
        appendHeader(ContentType.handshake, count: count, numbered: number, version: version, to: &bytes)
        bytes.append(type)
        append(UInt64(messageLength), width: 3, to: &bytes)
        append(UInt64(messageSequence), width: 2, to: &bytes)
        append(UInt64(part), width: 3, to: &bytes)
        append(UInt64(body.count), width: 3, to: &bytes)
        bytes.append(contentsOf: body)
    }

    private static func appendHeader(
        _ contentType: UInt8,
        count: Int,
        numbered number: UInt64,
        version: UInt8,
        to bytes: inout [UInt8]
    ) {
        bytes += [contentType, 0xFE, version, 0, 0]
        append(number, width: 6, to: &bytes)
        append(UInt64(count), width: 2, to: &bytes)
    }

    private static func append(_ number: UInt64, width: Int, to bytes: inout [UInt8]) {
        for byte in (0..<width).reversed() { bytes.append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(byte)))) }
    }
}
