/// A ClientHello whose cookie proves that its sender receives what is sent to its address (RFC 6347 §4.2.1).
///
/// ``DtlsHelloGate`` makes it; ``DtlsEngine/init(server:hello:usesIPv6:)`` takes it.
public struct DtlsClientHello: Sendable {
    private let contents: Contents

    // Behind a reference, because it is handed on a few times and would be a few hundred bytes.
    private final class Contents: Sendable {
        let record: [UInt8]
        let layout: ClientHelloLayout

        init(_ record: [UInt8], _ layout: ClientHelloLayout) {
            self.record = record
            self.layout = layout
        }
    }

    /// - Parameters:
    ///   - record: The record as it came.
    ///   - layout: What stands where in it.
    init(record: [UInt8], layout: ClientHelloLayout) {
        contents = Contents(record, layout)
    }

    /// The record as it came.
    var record: [UInt8] { contents.record }
    private var layout: ClientHelloLayout { contents.layout }

    /// The client's random, which tells a new handshake of the same peer from a repetition.
    var random: [UInt8] { Array(record[layout.start.random]) }

    /// Whether it starts the same handshake as `other`: the client has sent its hello again, because the answer was
    /// lost or is late.
    ///
    /// Give the datagram to the engine of that handshake, which sends its flight again, and make no other engine.
    public func isRepetition(of other: DtlsClientHello) -> Bool { random == other.random }

    /// What the client offers, read anew at each call.
    public var offer: DtlsClientOffer { DtlsClientOffer(hello: record, layout) }

    /// Whether it has an extension (IANA registry "TLS ExtensionType Values").
    func hasExtension(_ wanted: UInt16) -> Bool {
        record.withUnsafeBytes { bytes in
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[layout.extensions]))
            while let type = reader.uint16(), reader.prefixed16() != nil {
                if type == wanted { return true }
            }
            return false
        }
    }

    /// The record's sequence number, from which the server's go on.
    var recordSequenceNumber: UInt64 { layout.recordSequenceNumber }

    /// Its number among the client's messages.
    var messageSequence: UInt16 { layout.messageSequence }

    /// What a hello has in common with its repetitions, and with no other one, in this process: hashes under a key that
    /// nobody knows.
    package struct Identity: Sendable {
        /// Of the random, which is that of the handshake.
        private let random: Int
        /// Of all but the record's header, in which repetitions differ.
        package let digest: Int

        fileprivate init(_ hello: DtlsClientHello) {
            (random, digest) = hello.record.withUnsafeBytes { bytes in
                (
                    Self.hash(bytes[hello.layout.start.random]),
                    Self.hash(bytes.dropFirst(RecordHeader.size))
                )
            }
        }

        // All of it at once: a collection would be hashed byte by byte.
        private static func hash(_ bytes: Slice<UnsafeRawBufferPointer>) -> Int {
            var hasher = Hasher()
            hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: bytes))
            return hasher.finalize()
        }

        /// Whether `other` starts the same handshake.
        package func isRepetition(of other: Identity) -> Bool { random == other.random }
    }

    package var identity: Identity { Identity(self) }

    /// A record with an alert that answers it.
    package func record(of alert: DtlsAlert) -> [UInt8] {
        var record: [UInt8] = []
        ClearRecord.append(
            ContentType.alert,
            [alert.level.rawValue, alert.code.rawValue],
            numbered: recordSequenceNumber,
            to: &record
        )
        return record
    }
}
