import DTLSCore

@testable import DTLS

/// What stands in a pcapng file, as a reader that knows just what captures may hold.
struct CaptureFile {
    struct Packet {
        let source: DtlsEndpointName
        let destination: DtlsEndpointName
        let payload: [UInt8]

        /// The epoch of the last record in it: 0 is in clear.
        var lastEpoch: UInt16 {
            var epoch: UInt16 = 0
            var rest = payload[...]
            while rest.count >= 13 {
                let start = rest.startIndex
                epoch = UInt16(rest[start + 3]) << 8 | UInt16(rest[start + 4])
                rest = rest.dropFirst(13 + (Int(rest[start + 11]) << 8 | Int(rest[start + 12])))
            }
            return epoch
        }
    }

    enum Block {
        case packet(Packet)
        /// Lines in NSS's format.
        case secrets(String)
    }

    private(set) var blocks: [Block] = []

    var packets: [Packet] {
        blocks.compactMap { if case .packet(let packet) = $0 { packet } else { nil } }
    }

    var secrets: [String] {
        blocks.compactMap { if case .secrets(let lines) = $0 { lines } else { nil } }
    }

    /// Whether the secrets stand before every packet that holds something sealed.
    var secretsComeFirst: Bool {
        for block in blocks {
            switch block {
            case .secrets: return true
            case .packet(let packet): if packet.lastEpoch > 0 { return false }
            }
        }
        return false
    }

    init(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        var types: [UInt32] = []
        while !rest.isEmpty {
            let start = rest.startIndex
            guard rest.count >= 12 else { throw TestFailure(description: "a block is cut at byte \(start)") }
            let type = Self.little32(rest, start)
            let length = Int(Self.little32(rest, start + 4))
            guard length % 4 == 0, length >= 12, length <= rest.count,
                Self.little32(rest, start + length - 4) == UInt32(length)
            else { throw TestFailure(description: "the lengths of the block at byte \(start) are wrong") }
            types.append(type)
            try add(type, Array(rest[(start + 8)..<(start + length - 4)]))
            rest = rest.dropFirst(length)
        }
        // One section header, one interface, then the rest.
        guard types.prefix(2) == [0x0A0D_0D0A, 1], !types.dropFirst(2).contains(where: { ![6, 10].contains($0) })
        else { throw TestFailure(description: "the blocks are \(types)") }
    }

    private mutating func add(_ type: UInt32, _ body: [UInt8]) throws {
        switch type {
        case 0x0A0D_0D0A:
            guard Self.little32(body[...], 0) == 0x1A2B_3C4D, body[4...7] == [1, 0, 0, 0] else {
                throw TestFailure(description: "the section header is wrong")
            }
        case 1:
            // LINKTYPE_RAW, and no limit.
            guard body == [101, 0, 0, 0, 0, 0, 0, 0] else { throw TestFailure(description: "the interface is wrong") }
        case 6:
            let captured = Int(Self.little32(body[...], 12))
            guard Self.little32(body[...], 0) == 0, captured == Int(Self.little32(body[...], 16)),
                body.count == 20 + (captured + 3) / 4 * 4
            else { throw TestFailure(description: "the lengths of a packet are wrong") }
            blocks.append(.packet(try Self.packet(Array(body[20..<(20 + captured)]))))
        case 10:
            let count = Int(Self.little32(body[...], 4))
            guard Self.little32(body[...], 0) == 0x544C_534B, body.count == 8 + (count + 3) / 4 * 4 else {
                throw TestFailure(description: "a block of secrets is wrong")
            }
            blocks.append(.secrets(String(decoding: body[8..<(8 + count)], as: UTF8.self)))
        default:
            break
        }
    }

    private static func packet(_ ip: [UInt8]) throws -> Packet {
        let udp: [UInt8]
        let addresses: ([UInt8], [UInt8])
        switch ip.first.map({ $0 >> 4 }) {
        case 4? where ip.count > 28:
            var sum: UInt32 = 0
            for index in stride(from: 0, to: 20, by: 2) { sum += UInt32(big16(ip, index)) }
            while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
            guard ip[0] == 0x45, big16(ip, 2) == ip.count, ip[9] == 17, sum == 0xFFFF else {
                throw TestFailure(description: "an IPv4 header is wrong")
            }
            addresses = (Array(ip[12..<16]), Array(ip[16..<20]))
            udp = Array(ip[20...])
        case 6? where ip.count > 48:
            guard big16(ip, 4) == ip.count - 40, ip[6] == 17 else {
                throw TestFailure(description: "an IPv6 header is wrong")
            }
            addresses = (Array(ip[8..<24]), Array(ip[24..<40]))
            udp = Array(ip[40...])
        default:
            throw TestFailure(description: "no IP packet")
        }
        guard big16(udp, 4) == udp.count else { throw TestFailure(description: "a UDP length is wrong") }
        return Packet(
            source: DtlsEndpointName(address: addresses.0, port: UInt16(big16(udp, 0))),
            destination: DtlsEndpointName(address: addresses.1, port: UInt16(big16(udp, 2))),
            payload: Array(udp[8...])
        )
    }

    private static func little32(_ bytes: ArraySlice<UInt8>, _ index: Int) -> UInt32 {
        (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[index + $1]) << (8 * UInt32($1)) }
    }

    private static func big16(_ bytes: [UInt8], _ index: Int) -> Int {
        Int(bytes[index]) << 8 | Int(bytes[index + 1])
    }
}
