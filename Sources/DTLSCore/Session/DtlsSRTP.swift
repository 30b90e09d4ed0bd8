/// A protection profile of SRTP that DTLS negotiates (RFC 5764 §4.1.2, RFC 7714 §14.2).
public struct DtlsSRTPProfile: Sendable, Hashable, CustomStringConvertible {
    /// The number in the IANA registry "DTLS-SRTP Protection Profiles".
    public let id: UInt16

    /// The name in that registry, such as `SRTP_AEAD_AES_128_GCM`.
    public let name: String

    /// The length of a master key in bytes.
    public let keyLength: Int

    /// The length of a master salt in bytes.
    public let saltLength: Int

    /// AES-128 in counter mode, HMAC-SHA1 with a tag of 80 bits (RFC 5764 §4.1.2).
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let aes128CMSHA1_80 = DtlsSRTPProfile(
        id: 1,
        name: "SRTP_AES128_CM_SHA1_80",
        keyLength: 16,
        saltLength: 14
    )

    /// AES-128 in counter mode, HMAC-SHA1 with a tag of 32 bits (RFC 5764 §4.1.2).
    // swift-format-ignore: AlwaysUseLowerCamelCase
    public static let aes128CMSHA1_32 = DtlsSRTPProfile(
        id: 2,
        name: "SRTP_AES128_CM_SHA1_32",
        keyLength: 16,
        saltLength: 14
    )

    /// AES-128-GCM (RFC 7714 §14.2).
    public static let aeadAES128GCM = DtlsSRTPProfile(
        id: 7,
        name: "SRTP_AEAD_AES_128_GCM",
        keyLength: 16,
        saltLength: 12
    )

    /// AES-256-GCM (RFC 7714 §14.2).
    public static let aeadAES256GCM = DtlsSRTPProfile(
        id: 8,
        name: "SRTP_AEAD_AES_256_GCM",
        keyLength: 32,
        saltLength: 12
    )

    /// All profiles that have constants here, AES-GCM first.
    public static let all: [DtlsSRTPProfile] = [.aeadAES128GCM, .aeadAES256GCM, .aes128CMSHA1_80, .aes128CMSHA1_32]

    /// The registry's name.
    public var description: String { name }
}

/// The keys of SRTP, split by direction (RFC 5764 §4.2).
public struct DtlsSRTPKeys: Sendable {
    /// The profile that was negotiated.
    public let profile: DtlsSRTPProfile

    /// The master key for what this side sends: ``DtlsSRTPProfile/keyLength`` bytes.
    public let sendingKey: DtlsSecretBytes

    /// The master salt for what this side sends: ``DtlsSRTPProfile/saltLength`` bytes.
    public let sendingSalt: DtlsSecretBytes

    /// The master key for what this side receives.
    public let receivingKey: DtlsSecretBytes

    /// The master salt for what this side receives.
    public let receivingSalt: DtlsSecretBytes

    /// Splits the exported block: client key, server key, client salt, server salt.
    init(_ block: DtlsSecretBytes, profile: DtlsSRTPProfile, role: DtlsRole) {
        func part(_ start: Int, _ count: Int) -> DtlsSecretBytes {
            block.withUnsafeBytes { DtlsSecretBytes($0[start..<(start + count)]) }
        }
        let keys = profile.keyLength
        let salts = profile.saltLength
        let client = (part(0, keys), part(2 * keys, salts))
        let server = (part(keys, keys), part(2 * keys + salts, salts))
        self.profile = profile
        (sendingKey, sendingSalt) = role == .client ? client : server
        (receivingKey, receivingSalt) = role == .client ? server : client
    }
}
