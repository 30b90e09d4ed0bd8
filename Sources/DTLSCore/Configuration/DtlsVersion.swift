/// A version of the DTLS protocol.
///
/// Versions compare in the order in which they were published.
public struct DtlsVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The two bytes that stand for this version in a record header (0xFEFD for DTLS 1.2).
    public let wireValue: UInt16

    /// DTLS 1.0 (RFC 4347). Obsolete (RFC 8996); OpenSSL uses it only at security level 0 with a CBC suite asked for by
    /// name.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let v1_0 = DtlsVersion(wireValue: 0xFEFF)

    /// DTLS 1.2 (RFC 6347), the default.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let v1_2 = DtlsVersion(wireValue: 0xFEFD)

    /// DTLS 1.3 (RFC 9147), which OpenSSL has since version 4.1. Experimental: asking for it with an older OpenSSL
    /// makes contexts throw ``DtlsError/Code-swift.struct/unsupported``, and servers behind a ``DtlsHelloGate``
    /// negotiate DTLS 1.2 all the same.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let v1_3 = DtlsVersion(wireValue: 0xFEFC)

    package init(wireValue: UInt16) {
        self.wireValue = wireValue
    }

    /// Whether `left` was published before `right`.
    public static func < (left: DtlsVersion, right: DtlsVersion) -> Bool {
        // DTLS counts its versions down from 0xFEFF.
        left.wireValue > right.wireValue
    }

    /// The name, such as `DTLSv1.2`.
    public var description: String {
        switch wireValue {
        case 0xFEFF: "DTLSv1.0"
        case 0xFEFD: "DTLSv1.2"
        case 0xFEFC: "DTLSv1.3"
        default: "DTLS(0x" + String(wireValue, radix: 16) + ")"
        }
    }
}
