/// What a client offers in its ClientHello: the numbers as they stand on the wire, in the client's order.
///
/// Nothing in it is authenticated before the handshake is finished.
public struct DtlsClientOffer: Sendable, Hashable {
    // The record, which an association keeps anyway: what it says is read when it is asked for.
    private let record: [UInt8]

    init(hello record: [UInt8]) {
        self.record = record
    }

    /// The cipher suites (IANA registry "TLS Cipher Suites").
    public var cipherSuites: [UInt16] {
        guard let layout = ClientHelloLayout(whole: record) else { return [] }
        return record.withUnsafeBytes { Self.numbers(UnsafeRawBufferPointer(rebasing: $0[layout.cipherSuites])) }
    }

    /// The DNS name of the server that the client means (RFC 6066 §3), in lower case; `nil` when it sent none.
    public var serverName: String? { read(0) { Self.serverName(&$0) } ?? nil }

    /// The application protocols (RFC 7301), as bytes.
    public var applicationProtocols: [[UInt8]] { read(16) { Self.protocols($0.prefixed16()) } ?? [] }

    /// The groups for the key exchange (IANA registry "TLS Supported Groups").
    public var groups: [UInt16] { read(10) { Self.numbers($0.prefixed16()) } ?? [] }

    /// The signature algorithms (IANA registry "TLS SignatureScheme").
    public var signatureAlgorithms: [UInt16] { read(13) { Self.numbers($0.prefixed16()) } ?? [] }

    /// The SRTP profiles (IANA registry "DTLS-SRTP Protection Profiles").
    public var srtpProfiles: [UInt16] { read(14) { Self.numbers($0.prefixed16()) } ?? [] }

    /// Whether it knows the extended master secret (RFC 7627).
    public var knowsExtendedMasterSecret: Bool { read(23) { _ in true } ?? false }

    /// The session that the client would resume by its ID; empty when there is none.
    public var sessionID: [UInt8] {
        ClientHelloLayout(whole: record).map { Array(record[$0.start.sessionID]) } ?? []
    }

    /// Whether it has the number of `suite` in its list.
    public func includes(_ suite: DtlsCipherSuite) -> Bool { cipherSuites.contains(suite.id) }

    /// Offers are equal when all that they say is; the client's random and cookie are no part of them.
    public static func == (left: DtlsClientOffer, right: DtlsClientOffer) -> Bool {
        left.record == right.record
            || left.sessionID == right.sessionID && left.cipherSuites == right.cipherSuites
                && left.extensions == right.extensions
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(cipherSuites)
        hasher.combine(extensions)
    }

    private var extensions: [UInt8] {
        ClientHelloLayout(whole: record).map { Array(record[$0.extensions]) } ?? []
    }

    /// Reads the last extension of a type; `nil` when there is none.
    private func read<Result>(_ wanted: UInt16, _ body: (inout ByteReader) -> Result) -> Result? {
        guard let layout = ClientHelloLayout(whole: record) else { return nil }
        return record.withUnsafeBytes { bytes in
            var result: Result?
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[layout.extensions]))
            while let type = reader.uint16(), let contents = reader.prefixed16() {
                guard type == wanted else { continue }
                var contents = ByteReader(contents)
                result = body(&contents)
            }
            return result
        }
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
