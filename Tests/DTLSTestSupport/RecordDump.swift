/// A record of DTLS 1.2 as it stands in a datagram, read without any code of the library.
package struct RecordDump: Equatable, Sendable {
    package var contentType: UInt8
    package var version: UInt16 = 0xFEFD
    package var epoch: UInt16
    package var sequenceNumber: UInt64
    package var body: [UInt8]

    package init(
        contentType: UInt8,
        version: UInt16 = 0xFEFD,
        epoch: UInt16 = 0,
        sequenceNumber: UInt64 = 0,
        body: [UInt8]
    ) {
        self.contentType = contentType
        self.version = version
        self.epoch = epoch
        self.sequenceNumber = sequenceNumber
        self.body = body
    }

    /// The records of a datagram; `nil` unless it is made of whole ones.
    package static func parse(_ datagram: [UInt8]) -> [RecordDump]? {
        var records: [RecordDump] = []
        var rest = datagram[...]
        while !rest.isEmpty {
            guard rest.count >= 13 else { return nil }
            let header = Array(rest.prefix(13))
            let length = Int(header[11]) << 8 | Int(header[12])
            guard rest.count >= 13 + length else { return nil }
            records.append(
                RecordDump(
                    contentType: header[0],
                    version: UInt16(header[1]) << 8 | UInt16(header[2]),
                    epoch: UInt16(header[3]) << 8 | UInt16(header[4]),
                    sequenceNumber: header[5..<11].reduce(0) { $0 << 8 | UInt64($1) },
                    body: Array(rest.dropFirst(13).prefix(length))
                )
            )
            rest = rest.dropFirst(13 + length)
        }
        return records
    }

    /// The record as it travels.
    package var bytes: [UInt8] {
        var bytes = [contentType, UInt8(version >> 8), UInt8(truncatingIfNeeded: version)]
        bytes += [UInt8(epoch >> 8), UInt8(truncatingIfNeeded: epoch)]
        bytes += (0..<6).map { UInt8(truncatingIfNeeded: sequenceNumber >> (40 - 8 * UInt64($0))) }
        bytes += [UInt8(truncatingIfNeeded: body.count >> 8), UInt8(truncatingIfNeeded: body.count)]
        return bytes + body
    }

    /// The type of the handshake message in a record in clear.
    package var handshakeType: UInt8? {
        contentType == 22 && epoch == 0 ? body.first : nil
    }

    /// A record in clear with one alert.
    package static func alert(level: UInt8, code: UInt8, sequenceNumber: UInt64 = 1_000) -> RecordDump {
        RecordDump(contentType: 21, sequenceNumber: sequenceNumber, body: [level, code])
    }

    /// A record in clear with one fragment of a handshake message, the whole message unless told otherwise.
    package static func handshake(
        type: UInt8,
        messageLength: Int? = nil,
        messageSequence: UInt16 = 0,
        fragmentOffset: Int = 0,
        _ fragment: [UInt8],
        sequenceNumber: UInt64 = 0
    ) -> RecordDump {
        func uint24(_ value: Int) -> [UInt8] {
            [
                UInt8(truncatingIfNeeded: value >> 16), UInt8(truncatingIfNeeded: value >> 8),
                UInt8(truncatingIfNeeded: value),
            ]
        }
        var body = [type] + uint24(messageLength ?? fragment.count)
        body += [UInt8(messageSequence >> 8), UInt8(truncatingIfNeeded: messageSequence)]
        body += uint24(fragmentOffset) + uint24(fragment.count) + fragment
        return RecordDump(contentType: 22, sequenceNumber: sequenceNumber, body: body)
    }
}
