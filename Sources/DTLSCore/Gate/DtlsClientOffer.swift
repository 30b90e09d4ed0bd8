/// What a client offers in its ClientHello: the numbers as they stand on the wire, in the client's order.
///
/// Nothing in it is authenticated before the handshake is finished.
public struct DtlsClientOffer: Sendable, Hashable {
    /// The cipher suites (IANA registry "TLS Cipher Suites").
    public let cipherSuites: [UInt16]

    /// The DNS name of the server that the client means (RFC 6066 §3), in lower case; `nil` when it sent none.
    public let serverName: String?

    /// The application protocols (RFC 7301), as bytes.
    public let applicationProtocols: [[UInt8]]

    /// The groups for the key exchange (IANA registry "TLS Supported Groups").
    public let groups: [UInt16]

    /// The signature algorithms (IANA registry "TLS SignatureScheme").
    public let signatureAlgorithms: [UInt16]

    /// The SRTP profiles (IANA registry "DTLS-SRTP Protection Profiles").
    public let srtpProfiles: [UInt16]

    /// Whether it knows the extended master secret (RFC 7627).
    public let knowsExtendedMasterSecret: Bool

    /// The session that the client would resume by its ID; empty when there is none.
    public let sessionID: [UInt8]

    /// Whether it has the number of `suite` in its list.
    public func includes(_ suite: DtlsCipherSuite) -> Bool { cipherSuites.contains(suite.id) }

    init(cipherSuites: [UInt16], sessionID: [UInt8], extensions: UnsafeRawBufferPointer) {
        var serverName: String?
        var protocols: [[UInt8]] = []
        var groups: [UInt16] = []
        var signatures: [UInt16] = []
        var profiles: [UInt16] = []
        var knowsExtendedMasterSecret = false
        var reader = ByteReader(extensions)
        while let type = reader.uint16(), let body = reader.prefixed16() {
            var body = ByteReader(body)
            switch type {
            case 0: serverName = Self.serverName(&body)
            case 10: groups = Self.numbers(body.prefixed16())
            case 13: signatures = Self.numbers(body.prefixed16())
            case 14: profiles = Self.numbers(body.prefixed16())
            case 23: knowsExtendedMasterSecret = true
            case 16: protocols = Self.protocols(body.prefixed16())
            default: break
            }
        }
        self.cipherSuites = cipherSuites
        self.sessionID = sessionID
        self.serverName = serverName
        applicationProtocols = protocols
        self.groups = groups
        signatureAlgorithms = signatures
        srtpProfiles = profiles
        self.knowsExtendedMasterSecret = knowsExtendedMasterSecret
    }

    private static func serverName(_ body: inout ByteReader) -> String? {
        guard let list = body.prefixed16() else { return nil }
        var names = ByteReader(list)
        while let type = names.uint8(), let name = names.prefixed16() {
            // host_name, in ASCII: whatever else stands there is no name that a server could have.
            guard type == 0, name.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !name.isEmpty else { continue }
            return String(decoding: name, as: UTF8.self).lowercased()
        }
        return nil
    }

    private static func numbers(_ bytes: UnsafeRawBufferPointer?) -> [UInt16] {
        guard let bytes else { return [] }
        var reader = ByteReader(bytes)
        var numbers: [UInt16] = []
        while let number = reader.uint16() { numbers.append(number) }
        return numbers
    }

    private static func protocols(_ bytes: UnsafeRawBufferPointer?) -> [[UInt8]] {
        guard let bytes else { return [] }
        var reader = ByteReader(bytes)
        var names: [[UInt8]] = []
        while let name = reader.prefixed8() { names.append(Array(name)) }
        return names
    }
}

/// Reads numbers and length-prefixed vectors (RFC 5246 §4) and never beyond the end.
struct ByteReader {
    private var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func uint8() -> UInt8? {
        take(1)?[0]
    }

    mutating func uint16() -> UInt16? {
        take(2)?.uint16(at: 0)
    }

    mutating func prefixed8() -> UnsafeRawBufferPointer? {
        uint8().flatMap { take(Int($0)) }
    }

    mutating func prefixed16() -> UnsafeRawBufferPointer? {
        uint16().flatMap { take(Int($0)) }
    }

    mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count <= rest.count else { return nil }
        defer { rest = UnsafeRawBufferPointer(rebasing: rest[count...]) }
        return UnsafeRawBufferPointer(rebasing: rest[..<count])
    }
}
