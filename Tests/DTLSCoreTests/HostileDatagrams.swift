import DTLSTestSupport

@testable import DTLSCore

/// Datagrams that no honest peer sends.
enum HostileDatagrams {
    /// What must be dropped unread, whatever the state: each with what it is.
    static let droppedInEveryState: [(String, [UInt8])] = {
        func record(
            _ type: UInt8,
            _ body: [UInt8],
            epoch: UInt16 = 0,
            version: UInt16 = 0xFEFD
        ) -> [UInt8] {
            RecordDump(contentType: type, version: version, epoch: epoch, sequenceNumber: 500, body: body).bytes
        }
        var datagrams: [(String, [UInt8])] = [
            ("data in clear", record(23, Array("hello".utf8))),
            ("empty data in clear", record(23, [])),
            ("change of cipher of two bytes", record(20, [1, 1])),
            ("change of cipher of another kind", record(20, [2])),
            ("empty change of cipher", record(20, [])),
            ("alert of one byte", record(21, [2])),
            ("alert of three bytes", record(21, [2, 40, 0])),
            ("empty alert", record(21, [])),
            ("empty handshake record", record(22, [])),
            ("fragment without bytes", record(22, [14, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 0])),
            ("fragment that claims more than there is", record(22, [14, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 9])),
            ("fragment beyond its message", record(22, [14, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0])),
            ("message with a tail", record(22, [14, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xFF])),
            ("TLS 1.2 record", record(22, [14, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0], version: 0x0303)),
            ("header that claims more than there is", Array(record(22, [14, 0, 0, 0, 0, 9]).dropLast())),
        ]
        for type in [0, 1, 19, 24, 25, 26, 63, 64, 128, 255] as [UInt8] {
            datagrams.append(("record of type \(type) in clear", record(type, [1, 0])))
            datagrams.append(
                ("sealed record of type \(type)", record(type, [UInt8](repeating: 1, count: 40), epoch: 1))
            )
        }
        for count in 0..<12 {
            datagrams.append(("handshake record of \(count) bytes", record(22, [UInt8](repeating: 1, count: count))))
        }
        for count in 0..<16 {
            datagrams.append(
                ("sealed record of \(count) bytes", record(23, [UInt8](repeating: 1, count: count), epoch: 1))
            )
        }
        for epoch in [2, 3, 0xFFFF] as [UInt16] {
            datagrams.append(("record of epoch \(epoch)", record(23, [UInt8](repeating: 1, count: 40), epoch: epoch)))
        }
        return datagrams
    }()

    /// Everything of fewer than 15 bytes that looks like the start of something, and random ones.
    static func short(seed: UInt64) -> [[UInt8]] {
        var generator = SeededGenerator(seed: seed)
        let starts: [[UInt8]] = [
            RecordDump.handshake(type: 1, [1, 2, 3]).bytes,
            RecordDump(contentType: 23, epoch: 1, body: [UInt8](repeating: 0, count: 40)).bytes,
            RecordDump.alert(level: 2, code: 40).bytes,
            [0x16, 0xFE, 0xFD],
            [0x2C, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
        ]
        return (0..<15).flatMap { count in
            starts.map { Array($0.prefix(count)) } + (0..<4).map { _ in generator.bytes(count) }
        }
    }

    /// A datagram made of `samples` by flipping, cutting, growing and joining, or of nothing but chance.
    static func mutation(of samples: [[UInt8]], _ generator: inout SeededGenerator) -> [UInt8] {
        guard var datagram = samples.randomElement(using: &generator), !datagram.isEmpty else { return [] }
        switch Int.random(in: 0..<6, using: &generator) {
        case 0:
            datagram = generator.bytes(Int.random(in: 0...300, using: &generator))
        case 1:
            datagram.removeLast(Int.random(in: 1...datagram.count, using: &generator))
        case 2:
            datagram += generator.bytes(Int.random(in: 1...40, using: &generator))
        case 3:
            // Any byte of the header of the first record.
            datagram[Int.random(in: 0..<Swift.min(13, datagram.count), using: &generator)] =
                UInt8.random(in: 0...255, using: &generator)
        default:
            break
        }
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !datagram.isEmpty {
            datagram[Int.random(in: datagram.indices, using: &generator)] ^= UInt8.random(
                in: 1...255,
                using: &generator
            )
        }
        return datagram
    }
}
