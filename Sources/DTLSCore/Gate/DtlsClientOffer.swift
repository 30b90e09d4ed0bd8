/// What a client offers in its ClientHello: the numbers as they stand on the wire, in the client's order.
///
/// Nothing in it is authenticated before the handshake is finished. What the client did not send is empty.
public struct DtlsClientOffer: Sendable, Hashable {
    // Session ID, cipher suites and extensions as they stand in the hello: read when somebody asks, for there may be a
    // hundred thousand of these.
    private let packed: [UInt8]

    init(hello record: [UInt8], _ layout: ClientHelloLayout) {
        var packed: [UInt8] = []
        packed.reserveCapacity(3 + layout.start.sessionID.count + layout.cipherSuites.count + layout.extensions.count)
        packed.append(UInt8(truncatingIfNeeded: layout.start.sessionID.count))
        packed += record[layout.start.sessionID]
        packed.append(UInt8(truncatingIfNeeded: layout.cipherSuites.count >> 8))
        packed.append(UInt8(truncatingIfNeeded: layout.cipherSuites.count))
        packed += record[layout.cipherSuites]
        packed += record[layout.extensions]
        self.packed = packed
    }

    /// The cipher suites (IANA registry "TLS Cipher Suites").
    public var cipherSuites: [UInt16] { read { _, suites, _ in Self.numbers(suites) } ?? [] }

    /// The DNS name of the server that the client means (RFC 6066 §3), in lower case; `nil` when it sent none, or one
    /// that is not printable ASCII.
    public var serverName: String? { read(0) { Self.serverName(&$0) } ?? nil }

    /// The application protocols (RFC 7301), as bytes of any value.
    public var applicationProtocols: [[UInt8]] { read(16) { Self.protocols($0.prefixed16()) } ?? [] }

    /// The groups for the key exchange (IANA registry "TLS Supported Groups").
    public var groups: [UInt16] { read(10) { Self.numbers($0.prefixed16()) } ?? [] }

    /// The signature algorithms (IANA registry "TLS SignatureScheme").
    public var signatureAlgorithms: [UInt16] { read(13) { Self.numbers($0.prefixed16()) } ?? [] }

    /// The SRTP profiles (IANA registry "DTLS-SRTP Protection Profiles").
    public var srtpProfiles: [UInt16] { read(14) { Self.numbers($0.prefixed16()) } ?? [] }

    /// Whether it knows the extended master secret (RFC 7627).
    public var knowsExtendedMasterSecret: Bool { read(23) { _ in true } ?? false }

    /// The session that the client would resume by its ID, up to 32 bytes from an honest client; empty when there is
    /// none.
    public var sessionID: [UInt8] { read { sessionID, _, _ in Array(sessionID) } ?? [] }

    /// Whether ``cipherSuites`` has the number of `suite`.
    public func includes(_ suite: DtlsCipherSuite) -> Bool { cipherSuites.contains(suite.id) }

    private func read<Result>(
        _ body: (
            _ sessionID: UnsafeRawBufferPointer, _ suites: UnsafeRawBufferPointer, _ extensions: inout ByteReader
        ) -> Result
    ) -> Result? {
        packed.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            guard let sessionID = reader.prefixed8(), let suites = reader.prefixed16() else { return nil }
            return body(sessionID, suites, &reader)
        }
    }

    /// Reads the last extension of a type; `nil` when there is none.
    private func read<Result>(_ wanted: UInt16, _ body: (inout ByteReader) -> Result) -> Result? {
        read { _, _, extensions in
            var result: Result?
            while let type = extensions.uint16(), let contents = extensions.prefixed16() {
                guard type == wanted else { continue }
                var contents = ByteReader(contents)
                result = body(&contents)
            }
            return result
        } ?? nil
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
