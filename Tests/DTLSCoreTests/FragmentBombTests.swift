import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Fragments of handshake messages that anyone can send from the peer's address, neither authentic nor whole.
final class FragmentBombTests: XCTestCase {
    /// The kinds of handshake that are attacked, without a gate: a forged first hello takes the place of the genuine
    /// one there.
    private func kinds() throws -> [(String, PairOptions)] {
        var mutual = try PairOptions.certificates(TestIdentity.large)
        mutual.client.identity = try TestIdentity.client
        mutual.server.trust = try TestIdentity.trust
        mutual.clientCertificates = .required
        var kinds = [("pre-shared key", try PairOptions.preSharedKey()), ("certificates", mutual)]
        for index in kinds.indices {
            kinds[index].1.usesGate = false
            kinds[index].1.retransmission = .patient
        }
        return kinds
    }

    private static let typesFromClient: [UInt8] = [1, 11, 15, 16]
    private static let typesFromServer: [UInt8] = [2, 4, 11, 12, 13, 14, 22]

    /// The first that comes of a message decides nothing: neither its length nor its type.
    func testFragmentsOfAnotherLengthInEveryState() throws {
        for (name, options) in try kinds() {
            let pair = try EnginePair(options)
            pair.start()
            let server = try pair.serverPeer()
            var sent = 0
            var state = 0
            repeat {
                state += 1
                for sequence in UInt16(0)..<7 {
                    for (side, types) in [(pair.client, Self.typesFromServer), (server, Self.typesFromClient)] {
                        // Few enough to be kept beside the genuine ones.
                        let type = types[(state + Int(sequence)) % types.count]
                        let bomb = RecordDump.handshake(
                            type: type,
                            messageLength: 2_001 + state,
                            messageSequence: sequence,
                            [UInt8(state)],
                            sequenceNumber: UInt64(state * 100)
                        )
                        side.receive(bomb.bytes)
                        sent += 1
                    }
                }
            } while try pair.step()
            XCTAssertGreaterThan(sent, 40)
            XCTAssertTrue(try pair.run { pair.isOpen }, "\(name): \(pair.story)")
            try pair.assertEchoes(name)
            for side in [pair.client, server] {
                XCTAssertGreaterThan(side.engine.statistics.drops.records, 0, "\(name): not counted")
                XCTAssertNil(side.engine.attached?.reassembly, "what is left of them is kept")
            }
        }
    }

    /// One byte that is wrong, under the right type and length, costs a repetition of the flight at the most.
    func testAFragmentThatContradictsAnotherIsOvercomeByRepetition() throws {
        for isEarly in [true, false] {
            for (name, var options) in try kinds() {
                options.mtu = 300
                let pair = try EnginePair(options)
                var forgeries = Set<String>()
                pair.rewriteToServer = { [unowned pair] datagram in
                    guard let forged = self.contradiction(to: datagram, "client", &forgeries) else { return datagram }
                    guard isEarly else { return datagram + forged }
                    pair.server?.receive(forged)
                    return datagram
                }
                pair.rewriteToClient = { [unowned pair] datagram in
                    guard let forged = self.contradiction(to: datagram, "server", &forgeries) else { return datagram }
                    guard isEarly else { return datagram + forged }
                    pair.client.receive(forged)
                    return datagram
                }
                pair.start()
                XCTAssertTrue(try pair.run { pair.isOpen }, "\(name), early: \(isEarly): \(pair.story)")
                try pair.assertEchoes(name)
                if name == "certificates" { XCTAssertGreaterThan(forgeries.count, 1) }
            }
        }
    }

    /// A fragment with a wrong first byte for a message of which a datagram has the first part; once for each message.
    private func contradiction(to datagram: [UInt8], _ sender: String, _ forgeries: inout Set<String>) -> [UInt8]? {
        for record in RecordDump.parse(datagram) ?? [] {
            guard record.contentType == 22, record.epoch == 0, record.body.count > 12,
                record.body[6...8].elementsEqual([0, 0, 0]), !record.body[1...3].elementsEqual(record.body[9...11]),
                forgeries.insert("\(sender) \(record.body[0])").inserted
            else { continue }
            var forged = record
            forged.sequenceNumber += 100
            forged.body = Array(record.body.prefix(9)) + [0, 0, 1, ~record.body[12]]
            return forged.bytes
        }
        return nil
    }

    /// The identity that a look-up is made for is the one that OpenSSL reads, whatever fragments have come before.
    func testFragmentsOfAClientKeyExchangeNameNobody() throws {
        var options = try PairOptions.preSharedKey()
        options.usesGate = false
        let pair = try EnginePair(options)
        pair.start()
        let server = try pair.serverPeer()
        while server.sent.isEmpty { XCTAssertTrue(try pair.step()) }
        let name = Array("somebody else".utf8)
        server.receive(
            RecordDump.handshake(
                type: 16,
                messageLength: 500,
                messageSequence: 1,
                [0, UInt8(name.count)] + name,
                sequenceNumber: 7
            ).bytes
        )
        try pair.pump()
        XCTAssertEqual(server.requests.count, 1)
        guard case .identity(let identity, _)? = server.requests.first else { return XCTFail("no identity") }
        XCTAssertNotEqual(identity, name)
        try pair.assertEchoes()
    }

    /// A peer that claims huge messages and floods the next epoch.
    func testFault05AFloodOfFragmentsTakesLittleMemory() throws {
        let count = 24
        for (name, var options) in try kinds() {
            options.retransmission = .init()
            var pairs: [EnginePair] = []
            for _ in 0..<count {
                let pair = try EnginePair(options)
                pair.start()
                XCTAssertTrue(try pair.step(), "the server has no hello")
                pairs.append(pair)
            }
            for victim in [DtlsRole.client, .server] {
                let before = residentMemory()
                var most = 0
                for pair in pairs {
                    let side = victim == .client ? pair.client : try pair.serverPeer()
                    flood(side, victim, takesCertificates: options.clientCertificates != .none)
                    most = Swift.max(most, side.engine.attached?.reassembly?.cost ?? 0)
                    XCTAssertGreaterThan(side.engine.statistics.drops[.earlyRecordLimit], 0)
                    XCTAssertGreaterThan(side.engine.statistics.drops[.reassemblyLimit], 0)
                }
                XCTAssertGreaterThan(most, 16_384, "\(name): nothing is kept; the test proves nothing")
                if let before, let after = residentMemory() {
                    let each = (after - before) / count
                    print("proof: \(name), \(victim): \(each >> 10) kB for each peer that floods")
                    XCTAssertLessThan(each, 200_000, "\(name), \(victim)")
                }
            }
        }
    }

    /// A thousand fragments of one byte, as many of a hundred, and more records of the next epoch than are kept.
    private func flood(_ side: EnginePeer, _ role: DtlsRole, takesCertificates: Bool) {
        // Few kinds, so that much is kept of each.
        let types: [UInt8] = role == .client ? [11, 12] : takesCertificates ? [1, 11] : [1, 16]
        for index in 0..<2_000 {
            let type = types[index % types.count]
            let isLarge = type == 11 || type == 1
            let length = role == .client ? (isLarge ? 102_400 : 65_536) : type == 1 ? 16_384 : isLarge ? 65_536 : 2_560
            let size = index % 3 == 0 ? 1 : 100
            side.receive(
                RecordDump.handshake(
                    type: type,
                    messageLength: length,
                    messageSequence: UInt16(1 + index % (role == .client ? 12 : 6)),
                    fragmentOffset: (index * 997) % (length - size),
                    [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: size),
                    sequenceNumber: UInt64(100 + index)
                ).bytes
            )
        }
        for index in 0..<100 {
            let body = [UInt8](repeating: UInt8(index), count: 43)
            side.receive(RecordDump(contentType: 22, epoch: 1, sequenceNumber: UInt64(index), body: body).bytes)
        }
    }
}
