import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Associations that go on in another engine.
final class EngineHandOverTests: XCTestCase {
    private func context(_ role: DtlsRole) throws -> DtlsEngineContext {
        role == .client
            ? try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
            : try DtlsEngineContext(server: DtlsConfiguration(), usesPreSharedKeys: true)
    }

    /// Takes one side over. The pair's own peer of that side is dead then.
    private func takeOver(_ side: EnginePeer, _ role: DtlsRole) throws -> EnginePeer {
        let state = try side.engine.handOver()
        side.settle()
        XCTAssertEqual(side.ends, [.handedOver])
        return EnginePeer(try DtlsEngine(takingOver: state, context: context(role)))
    }

    /// The number of a client's first record is its own choice, up to the last of 48 bits.
    func testAnAssociationWithALargeClearNumberGoesOnElsewhere() throws {
        let pair = try EnginePair(try PairOptions.preSharedKey())
        pair.rewriteToServer = { datagram in
            var datagram = datagram
            var offset = 0
            while let header = datagram.withUnsafeBytes({ RecordHeader($0, at: offset) }) {
                if header.epoch == 0 { datagram.replaceSubrange(offset + 5..<offset + 9, with: [255, 255, 255, 255]) }
                offset += RecordHeader.size + header.length
            }
            return datagram
        }
        try pair.connect()
        XCTAssertTrue(pair.isOpen)
        let server = try takeOver(try pair.serverPeer(), .server)
        try pair.client.send([1, 2, 3])
        for datagram in pair.client.takeOutbox() { server.receive(datagram) }
        XCTAssertEqual(server.payloads, [[1, 2, 3]])
    }

    func testBothSidesGoOnElsewhere() throws {
        for suite in GraduationTests.suites {
            for (client, server) in [
                (DtlsConnectionIDs.off, DtlsConnectionIDs.off), (.random(length: 3), .random(length: 8)),
            ] {
                var options = try PairOptions.preSharedKey(suite)
                options.client.connectionIDs = client
                options.server.connectionIDs = server
                options.client.connectionIDs.padding = 16
                let pair = try EnginePair.connected(options)
                try pair.assertEchoes()
                var sides = [pair.client, try pair.serverPeer()]
                let before = sides.map { $0.engine.negotiated }
                for round in 0..<3 {
                    sides = [try takeOver(sides[0], .client), try takeOver(sides[1], .server)]
                    for (from, to) in [(sides[0], sides[1]), (sides[1], sides[0])] {
                        try from.send([UInt8(round), 7])
                        for datagram in from.takeOutbox() { to.receive(datagram) }
                        XCTAssertEqual(to.payloads.last, [UInt8(round), 7], suite)
                    }
                }
                for (side, before) in zip(sides, before) {
                    let after = try XCTUnwrap(side.engine.negotiated)
                    XCTAssertEqual(after.cipherSuite.name, before?.cipherSuite.name)
                    XCTAssertEqual(after.cipherSuite.openSSLName, before?.cipherSuite.openSSLName)
                    XCTAssertEqual(after.version, .v1_2)
                    XCTAssertEqual(after.preSharedKeyIdentity, before?.preSharedKeyIdentity)
                    XCTAssertEqual(after.connectionIDs, before?.connectionIDs)
                }
                XCTAssertEqual(
                    try sides[0].engine.exportKeyingMaterial(label: "EXPERIMENTAL", count: 40),
                    try sides[1].engine.exportKeyingMaterial(label: "EXPERIMENTAL", count: 40)
                )
                sides[0].close()
                for datagram in sides[0].takeOutbox() { sides[1].receive(datagram) }
                XCTAssertEqual(sides[1].ends, [.closedByPeer])
            }
        }
    }

    /// The exporter seals nothing any more, and no number comes twice.
    func testNoNumberComesTwice() throws {
        let pair = try EnginePair.connected(.preSharedKey("PSK-AES128-GCM-SHA256"))
        for byte in 0..<5 { try pair.client.send([UInt8(byte)]) }
        let former = pair.client
        let successor = try takeOver(former, .client)
        assertThrows(.connectionClosed) { try former.send([1]) }
        assertThrows(.connectionClosed) { try former.engine.handOver() }
        former.close()
        former.engine.lowerMTU(to: 300)
        former.receive(try XCTUnwrap(pair.serverPeer().sent.last))
        for byte in 0..<5 { try successor.send([UInt8(byte)]) }
        successor.close()
        let numbers = (former.sent + successor.sent).compactMap { RecordDump.parse($0) }.joined().filter {
            $0.epoch == 1
        }
        .map(\.sequenceNumber)
        XCTAssertEqual(numbers, Array(0...11))
    }

    /// What came before the hand-over is a replay after it.
    func testReplaysAreKnown() throws {
        for window in [64, 512] {
            var options = try PairOptions.preSharedKey()
            options.server.replayWindow = window
            let pair = try EnginePair.connected(options)
            var datagrams: [[UInt8]] = []
            for byte in 0..<100 {
                try pair.client.send([UInt8(byte)])
                datagrams += pair.client.takeOutbox()
            }
            let server = try pair.serverPeer()
            for index in [0, 3, 50, 60, 62] { server.receive(datagrams[index]) }
            let successor = try takeOver(server, .server)
            for index in [0, 3, 50, 60, 62] { successor.receive(datagrams[index]) }
            XCTAssertEqual(successor.payloads, [])
            XCTAssertEqual(successor.engine.statistics.drops[.unopenedRecord], 5)
            for index in [61, 4, 99] { successor.receive(datagrams[index]) }
            XCTAssertEqual(successor.payloads, [[61], [4], [99]])
            successor.receive(datagrams[20])
            XCTAssertEqual(successor.payloads.count, window == 64 ? 3 : 4)
        }
    }

    /// Certificates, protocols and names go along.
    func testWhatTheHandshakeHasSettledGoesAlong() throws {
        var options = try PairOptions.certificates()
        options.client.identity = try TestIdentity.client
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = .required
        options.client.applicationProtocols = ["coap"]
        options.server.applicationProtocols = ["coap"]
        options.client.srtpProfiles = [.aes128CMSHA1_80]
        options.server.srtpProfiles = [.aes128CMSHA1_80]
        let pair = try EnginePair.connected(options)
        let before = try XCTUnwrap(pair.serverPeer().engine.negotiated)
        let keys = try pair.serverPeer().engine.srtpKeys()
        let after = try takeOver(pair.serverPeer(), .server)
        let negotiated = try XCTUnwrap(after.engine.negotiated)
        XCTAssertEqual(negotiated.peerCertificates, before.peerCertificates)
        XCTAssertEqual(negotiated.peerPublicKeyFingerprint, before.peerPublicKeyFingerprint)
        XCTAssertEqual(negotiated.applicationProtocol, "coap")
        XCTAssertEqual(negotiated.serverName, "localhost")
        XCTAssertEqual(negotiated.group, before.group)
        XCTAssertEqual(negotiated.signatureAlgorithm, before.signatureAlgorithm)
        XCTAssertEqual(negotiated.peerSignatureAlgorithm, before.peerSignatureAlgorithm)
        XCTAssertEqual(negotiated.srtpProfile, before.srtpProfile)
        XCTAssertEqual(try after.engine.srtpKeys().sendingKey, keys.sendingKey)
        XCTAssertNil(negotiated.clientOffer)
    }

    /// A last flight that nobody has got goes along, too.
    func testTheLastFlightGoesAlong() throws {
        var options = try PairOptions.preSharedKey()
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        while pair.server?.engine.isOpen != true { XCTAssertTrue(try pair.step(), pair.story) }
        _ = try pair.serverPeer().takeOutbox()
        let successor = try takeOver(pair.serverPeer(), .server)
        XCTAssertTrue(pair.client.passTime { pair.client.engine.statistics.retransmissions > 0 })
        for datagram in pair.client.takeOutbox() { successor.receive(datagram) }
        for datagram in successor.takeOutbox() { pair.client.receive(datagram) }
        XCTAssertTrue(pair.client.engine.isOpen, pair.story)
    }

    func testWhatCannotBeHandedOver() throws {
        let pair = try EnginePair(.preSharedKey())
        assertThrows(.connectionClosed) { try pair.client.engine.handOver() }
        var options = try PairOptions.preSharedKey()
        options.client.recordLayer = .openSSL
        let attached = try EnginePair.connected(options)
        assertThrows(.unsupported) { try attached.client.engine.handOver() }
        try attached.assertEchoes("it lives on")
    }

    /// Bytes that are cut, longer, changed or of the other role make no engine, and never a trap.
    func testBytesThatAreNoAssociation() throws {
        var options = try PairOptions.preSharedKey()
        options.connectionIDs = .random(length: 4)
        let pair = try EnginePair.connected(options)
        let state = try pair.client.engine.handOver()
        let bytes = state.withUnsafeBytes { Array($0) }
        let (client, server) = (try context(.client), try context(.server))
        func take(_ bytes: [UInt8], _ context: DtlsEngineContext) throws -> DtlsEngine {
            try DtlsEngine(takingOver: DtlsSecretBytes(bytes), context: context)
        }
        assertThrows(.handOverRefused, "the other role") { try take(bytes, server) }
        for count in 0..<bytes.count {
            assertThrows(.handOverRefused, "\(count)") { try take(Array(bytes.prefix(count)), client) }
        }
        assertThrows(.handOverRefused) { try take(bytes + [0], client) }
        var random = SeededGenerator(seed: 3)
        for _ in 0..<5_000 {
            var changed = bytes
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            // It may be one, of other keys.
            if let engine = try? take(changed, client) {
                try? engine.send([1, 2, 3].span.bytes)
                engine.receive(changed.span.bytes)
                engine.close()
            }
        }
        XCTAssertNoThrow(try take(bytes, client))
    }

    // MARK: The seal

    func testTheSeal() throws {
        let key = try DtlsHandOverKey.random()
        let secret = DtlsSecretBytes([1, 2, 3, 4])
        let sealed = try key.seal(secret, lifetime: .seconds(60), nonce: DtlsHandOverKey.makeNonce())
        assertThrows(.handOverRefused, "another key") { try DtlsHandOverKey.random().open(sealed) }
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            assertThrows(.handOverRefused, "byte \(index)") { try key.open(changed) }
            assertThrows(.handOverRefused) { try key.open(Array(sealed.prefix(index))) }
        }
        let again = try DtlsHandOverKey(key.bytes)
        XCTAssertEqual(try again.open(sealed), secret)
        let error = assertThrows(.handOverRefused, "a second time") { try key.open(sealed) }
        XCTAssertTrue(error?.message.contains("taken already") ?? false)
        XCTAssertNotEqual(
            try key.seal(secret, lifetime: .seconds(60), nonce: DtlsHandOverKey.makeNonce()),
            sealed,
            "the same nonce"
        )
        for lifetime in [Duration.zero, .seconds(86_401)] {
            assertThrows(.invalidConfiguration) {
                try key.seal(secret, lifetime: lifetime, nonce: DtlsHandOverKey.makeNonce())
            }
        }
        for count in [0, 31, 33] {
            assertThrows(.invalidConfiguration) {
                try DtlsHandOverKey(DtlsSecretBytes([UInt8](repeating: 1, count: count)))
            }
        }
    }
}
