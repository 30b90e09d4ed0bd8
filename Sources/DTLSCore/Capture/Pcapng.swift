/// Blocks of a pcapng file (draft-ietf-opsawg-pcapng): section header, one interface of raw IP, packets, decryption
/// secrets.
enum Pcapng {
    /// Raw IPv4 or IPv6, no link layer.
    private static let linkTypeRaw: UInt16 = 101
    /// "TLSK": secrets in NSS's key log format.
    private static let tlsKeyLog: UInt32 = 0x544C_534B

    /// Section header and interface description.
    static func header() -> [UInt8] {
        var section: [UInt8] = []
        section += little(UInt32(0x1A2B_3C4D))
        section += little(UInt16(1)) + little(UInt16(0))
        // The section's length is not known.
        section += [UInt8](repeating: 0xFF, count: 8)
        let interface = little(linkTypeRaw) + little(UInt16(0)) + little(UInt32(0))
        return block(0x0A0D_0D0A, section) + block(1, interface)
    }

    /// A decryption secrets block, which must stand before the packets that it decrypts.
    static func secrets(_ lines: [UInt8]) -> [UInt8] {
        block(10, little(tlsKeyLog) + little(UInt32(lines.count)) + padded(lines))
    }

    /// An enhanced packet block with IP and UDP headers made up around the payload.
    static func packet(
        _ payload: UnsafeRawBufferPointer,
        from source: DtlsEndpointName,
        to destination: DtlsEndpointName,
        microseconds: UInt64
    ) -> [UInt8] {
        let packet = ip(udp(payload, source.port, destination.port), source.address, destination.address)
        var body = little(UInt32(0))
        body +=
            little(UInt32(truncatingIfNeeded: microseconds >> 32)) + little(UInt32(truncatingIfNeeded: microseconds))
        body += little(UInt32(packet.count)) + little(UInt32(packet.count))
        return block(6, body + padded(packet))
    }

    /// Without a checksum, which IPv4 allows and readers do not miss.
    private static func udp(_ payload: UnsafeRawBufferPointer, _ source: UInt16, _ destination: UInt16) -> [UInt8] {
        let length = UInt16(truncatingIfNeeded: 8 + payload.count)
        return big(source) + big(destination) + big(length) + [0, 0] + Array(payload)
    }

    private static func ip(_ content: [UInt8], _ source: [UInt8], _ destination: [UInt8]) -> [UInt8] {
        if source.count == 4, destination.count == 4 {
            var header: [UInt8] = [0x45, 0] + big(UInt16(truncatingIfNeeded: 20 + content.count))
            header += [0, 0, 0x40, 0, 64, 17, 0, 0] + source + destination
            let sum = checksum(header)
            header[10] = UInt8(truncatingIfNeeded: sum >> 8)
            header[11] = UInt8(truncatingIfNeeded: sum)
            return header + content
        }
        return [0x60, 0, 0, 0] + big(UInt16(truncatingIfNeeded: content.count)) + [17, 64]
            + mapped(source) + mapped(destination) + content
    }

    /// An IPv4 address among IPv6 ones (RFC 4291 §2.5.5.2).
    private static func mapped(_ address: [UInt8]) -> [UInt8] {
        address.count == 16 ? address : [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + address
    }

    private static func checksum(_ header: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: header.count, by: 2) {
            sum += UInt32(header[index]) << 8 | UInt32(header[index + 1])
        }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
        return ~UInt16(truncatingIfNeeded: sum)
    }

    private static func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
        let length = UInt32(12 + body.count)
        return little(type) + little(length) + body + little(length)
    }

    private static func padded(_ bytes: [UInt8]) -> [UInt8] {
        bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
    }

    private static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }

    private static func big(_ number: UInt16) -> [UInt8] {
        [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
    }
}
