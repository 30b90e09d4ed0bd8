import COpenSSL

/// The SHA-256 hash of a certificate (RFC 8122 §5) or of a public key (RFC 7469 §2.4).
public struct DtlsFingerprint: Sendable, Hashable, CustomStringConvertible {
    /// The 32 bytes.
    public let bytes: [UInt8]

    /// `nil` unless there are 32 bytes.
    init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        self.bytes = bytes
    }

    init(sha256Of data: [UInt8]) {
        var digest = [UInt8](repeating: 0, count: 32)
        var count: UInt32 = 0
        if EVP_Digest(data, data.count, &digest, &count, EVP_sha256(), nil) != 1 {
            // For want of memory. It must not be equal to any other one.
            var generator = SystemRandomNumberGenerator()
            for index in digest.indices { digest[index] = generator.next() }
            OpenSSLErrorQueue.clear()
        }
        bytes = digest
    }

    /// Reads the notation of ``description``; case and colons do not matter.
    ///
    /// `nil` unless it has 64 hexadecimal digits, and nothing else but colons: the `sha-256` that stands before them in
    /// SDP is for the caller to take off.
    public init?(_ text: String) {
        let digits = text.utf8.filter { $0 != UInt8(ascii: ":") }
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = Self.value(of: digits[index]), let low = Self.value(of: digits[index + 1]) else {
                return nil
            }
            bytes.append(high << 4 | low)
        }
        self.bytes = bytes
    }

    /// Pairs of upper-case hexadecimal digits with colons between them, as SDP has them (`a=fingerprint:sha-256 …`).
    public var description: String {
        let digits = Array("0123456789ABCDEF".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(3 * bytes.count)
        for byte in bytes {
            if !text.isEmpty { text.append(UInt8(ascii: ":")) }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
