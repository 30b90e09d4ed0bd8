import COpenSSL

/// What an `X509` says, as Swift text.
enum X509Text {
    static func name(_ name: OpaquePointer?) -> String {
        guard let name, let bio = try? OwnedBIO.memory() else { return "" }
        // RFC 2253 without escaping of UTF-8, so that names in any script stay readable.
        let flags = COpenSSL_XN_FLAG_RFC2253 & ~UInt(ASN1_STRFLGS_ESC_MSB)
        guard X509_NAME_print_ex(bio.pointer, name, 0, flags) >= 0 else { return "" }
        return String(decoding: bio.contents, as: UTF8.self)
    }

    static func serialNumber(_ certificate: OpaquePointer) -> String {
        guard let text = COpenSSL_X509_serial_hex(certificate) else { return "" }
        defer { COpenSSL_OPENSSL_free(text) }
        return String(cString: text)
    }

    /// The SubjectPublicKeyInfo of a key in DER.
    static func publicKeyInfo(ofKey key: OpaquePointer) -> [UInt8] {
        encoded { i2d_PUBKEY(key, $0) }
    }

    /// The SubjectPublicKeyInfo of a certificate in DER.
    static func publicKeyInfo(_ certificate: OpaquePointer) -> [UInt8] {
        encoded { i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), $0) }
    }

    /// What one of OpenSSL's `i2d` functions writes into memory of its own; empty when it fails.
    static func encoded(_ encode: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>) -> Int32) -> [UInt8] {
        var memory: UnsafeMutablePointer<UInt8>?
        let count = encode(&memory)
        guard count > 0, let memory else { return [] }
        defer { COpenSSL_OPENSSL_free(memory) }
        return Array(UnsafeBufferPointer(start: memory, count: Int(count)))
    }

    /// The names of the subjectAltName extension, by kind.
    struct AlternativeNames {
        var dns: [String] = []
        var ip: [String] = []
        var uri: [String] = []

        init(of certificate: OpaquePointer) {
            withUnsafeMutablePointer(to: &self) { target in
                COpenSSL_X509_each_alternative_name(certificate, target) { context, kind, bytes, count in
                    guard let context, let bytes, count > 0 else { return }
                    context.assumingMemoryBound(to: AlternativeNames.self).pointee
                        .add(kind, UnsafeBufferPointer(start: bytes, count: Int(count)))
                }
            }
        }

        private mutating func add(_ kind: Int32, _ bytes: UnsafeBufferPointer<UInt8>) {
            switch kind {
            case GEN_DNS: dns.append(String(decoding: bytes, as: UTF8.self))
            case GEN_URI: uri.append(String(decoding: bytes, as: UTF8.self))
            case GEN_IPADD: if let text = Self.ipAddress(bytes) { ip.append(text) }
            default: break
            }
        }

        private static func ipAddress(_ bytes: UnsafeBufferPointer<UInt8>) -> String? {
            switch bytes.count {
            case 4:
                return bytes.map { String($0) }.joined(separator: ".")
            case 16:
                return IPv6Text.string(bytes.map { $0 })
            default:
                return nil
            }
        }
    }
}

/// IPv6 addresses as RFC 5952 writes them.
enum IPv6Text {
    static func string(_ bytes: [UInt8]) -> String {
        guard bytes.count == 16 else { return "" }
        let groups = stride(from: 0, to: 16, by: 2).map { UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]) }
        // The longest run of two or more zero groups, the first of several, becomes "::".
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > max(best.count, 1) { best = start..<end }
            start = max(end, start + 1)
        }
        func text(_ range: Range<Int>) -> String {
            groups[range].map { String($0, radix: 16) }.joined(separator: ":")
        }
        return best.isEmpty ? text(0..<8) : text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
    }
}
