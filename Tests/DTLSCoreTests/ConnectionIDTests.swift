import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Connection IDs (RFC 9146), engine against engine.
final class ConnectionIDTests: XCTestCase {
    private func options(
        _ suite: String? = nil,
        client: DtlsConnectionIDs = .automatic,
        server: DtlsConnectionIDs = .automatic
    ) throws -> PairOptions {
        var options = try PairOptions.preSharedKey(suite)
        options.client.connectionIDs = client
        options.server.connectionIDs = server
        return options
    }

    /// Both sides' IDs, as each of them tells.
    private func negotiated(_ pair: EnginePair) throws -> [DtlsNegotiatedConnectionIDs?] {
        [try XCTUnwrap(pair.client.finished).connectionIDs, try XCTUnwrap(pair.serverPeer().finished).connectionIDs]
    }

    /// Checks that sealed records carry the IDs, and nothing sealed goes without.
    private func assertCarries(_ pair: EnginePair, _ message: String) throws {
        let ids = try negotiated(pair)
        for (side, id) in [(pair.client, ids[0]?.peer ?? []), (try pair.serverPeer(), ids[1]?.peer ?? [])] {
            var sealed = 0
            for datagram in side.sent {
                try datagram.withUnsafeBytes { bytes in
                    var offset = 0
                    while offset < bytes.count {
                        let header = try XCTUnwrap(
                            RecordHeader(bytes, at: offset, expectedIDLength: id.count),
                            message
                        )
                        if header.epoch > 0 {
                            sealed += 1
                            XCTAssertEqual(header.contentType == 25, !id.isEmpty, message)
                            XCTAssertEqual(Array(bytes[header.connectionID(at: offset)]), id, message)
                        } else {
                            XCTAssertNotEqual(header.contentType, 25, message)
                        }
                        offset += header.size + header.length
                    }
                }
            }
            XCTAssertGreaterThan(sealed, 0, message)
        }
    }

    func testWhoGetsWhat() throws {
        let kinds: [(String, DtlsConnectionIDs, Int?)] = [
            ("off", .off, nil), ("accepted", .accepted, 0), ("4", .random(length: 4), 4),
            ("32", .random(length: 32), 32),
            ("made", .generated(length: 3) { [7, 8, 9] }, 3),
        ]
        for (clientName, client, clientLength) in kinds {
            for (serverName, server, serverLength) in kinds {
                let name = "\(clientName) and \(serverName)"
                let pair = try EnginePair.connected(options(client: client, server: server))
                let ids = try negotiated(pair)
                XCTAssertEqual(ids[0]?.own, ids[1]?.peer, name)
                XCTAssertEqual(ids[0]?.peer, ids[1]?.own, name)
                if let clientLength, let serverLength, clientLength + serverLength > 0 {
                    XCTAssertEqual(ids[0]?.own.count, clientLength, name)
                    XCTAssertEqual(ids[0]?.peer.count, serverLength, name)
                } else {
                    XCTAssertNil(ids[0], name)
                }
                try assertCarries(pair, name)
                try pair.assertEchoes(name)
            }
        }
    }

    /// By default a server has an ID of eight bytes for each association, and a client writes it.
    func testTheDefaults() throws {
        var seen: Set<[UInt8]> = []
        for _ in 0..<3 {
            let pair = try EnginePair.connected(options())
            let ids = try XCTUnwrap(negotiated(pair)[0])
            XCTAssertEqual(ids.own, [])
            XCTAssertEqual(ids.peer.count, 8)
            seen.insert(ids.peer)
        }
        XCTAssertEqual(seen.count, 3)
    }

    func testEverySuiteAndHandshake() throws {
        for suite in GraduationTests.suites {
            let pair = try EnginePair.connected(options(suite, client: .random(length: 5), server: .random(length: 6)))
            try assertCarries(pair, suite)
            try pair.assertEchoes(suite)
            pair.client.close()
            try pair.pump()
            XCTAssertEqual(try pair.serverPeer().ends, [.closedByPeer], suite)
        }
        for mtu in [256, 300, 548, 1_200] {
            for identity in [try TestIdentity.server, try TestIdentity.large] {
                var options = try PairOptions.certificates(identity)
                options.client.identity = try TestIdentity.client
                options.server.trust = try TestIdentity.trust
                options.clientCertificates = .required
                options.client.connectionIDs = .random(length: 32)
                options.server.connectionIDs = .random(length: 32)
                options.mtu = mtu
                let pair = try EnginePair.connected(options)
                try assertCarries(pair, "an MTU of \(mtu)")
                for side in [pair.client, try pair.serverPeer()] {
                    try side.send([UInt8](repeating: 1, count: side.engine.maximumPayloadSize))
                    XCTAssertLessThanOrEqual(side.sent.map(\.count).max() ?? 0, mtu)
                    XCTAssertEqual(side.sent.last?.count, mtu, "the largest payload fills it")
                }
                try pair.pump()
                try pair.assertEchoes()
            }
        }
    }

    func testPadding() throws {
        for padding in [1, 16, 128] {
            var ids = DtlsConnectionIDs.random(length: 4)
            ids.padding = padding
            let pair = try EnginePair.connected(options("PSK-AES128-GCM-SHA256", client: ids, server: ids))
            let client = pair.client
            for count in [1, 14, 15, 16, 100, client.engine.maximumPayloadSize] {
                try client.send([UInt8](repeating: 0, count: count))
                let inner = try XCTUnwrap(client.sent.last).count - 13 - 4 - 24
                XCTAssertEqual(inner % padding, 0)
                XCTAssertLessThan(inner, count + 1 + padding)
                try pair.pump()
                XCTAssertEqual(
                    try pair.serverPeer().payloads.last?.count,
                    count,
                    "padding is not stripped, or too much"
                )
            }
            XCTAssertGreaterThan(client.engine.maximumPayloadSize, 1_200 - 13 - 4 - 24 - 1 - padding)
        }
        for padding in [0, 129] {
            assertThrows(.invalidConfiguration) {
                var ids = DtlsConnectionIDs.automatic
                ids.padding = padding
                _ = try EnginePair(options(client: ids))
            }
        }
    }

    func testLengthsThatAreNotPossible() throws {
        for length in [-1, 0, 33, 256] {
            assertThrows(.invalidConfiguration, "\(length)") {
                try EnginePair(options(client: .random(length: length)))
            }
        }
        assertThrows(.invalidConfiguration) { try EnginePair(options(client: .generated(length: 4) { [1, 2, 3] })) }
    }

    // MARK: Who cannot

    /// A suite whose records OpenSSL alone can seal, and OpenSSL's record layer, go without.
    func testWithoutAnAEADThereAreNone() throws {
        let mixed = "PSK-AES128-CBC-SHA256:PSK-AES128-GCM-SHA256:@SECLEVEL=0"
        var server = try options(mixed)
        server.client.cipherSuites = .openSSL("PSK-AES128-GCM-SHA256")
        let pair = try EnginePair.connected(server)
        XCTAssertNotNil(try negotiated(pair)[0], "the server chose a suite that allows them")
        for options in [
            try options("PSK-AES128-CBC-SHA256:@SECLEVEL=0"), try options(mixed), try openSSL(.client),
            try openSSL(.server),
        ] {
            let pair = try EnginePair.connected(options)
            XCTAssertNil(try negotiated(pair)[0])
            XCTAssertNil(try negotiated(pair)[1])
            try pair.assertEchoes()
        }
    }

    private func openSSL(_ role: DtlsRole) throws -> PairOptions {
        var options = try options()
        if role == .client { options.client.recordLayer = .openSSL } else { options.server.recordLayer = .openSSL }
        return options
    }

    // MARK: On a bad path

    /// Whatever is lost, repeated or comes late, the handshake under IDs ends well, resumed or not.
    func testBadLinks() throws {
        for seed in UInt64(1)...12 {
            for isMutual in [false, true] {
                var options = try isMutual ? PairOptions.certificates() : PairOptions.preSharedKey()
                options.connectionIDs = .random(length: 7)
                if isMutual {
                    options.client.identity = try TestIdentity.client
                    options.server.trust = try TestIdentity.trust
                    options.clientCertificates = .required
                    options.mtu = 400
                }
                options.retransmission = .quick
                options.link = LinkConditions(loss: 0.2, duplication: 0.2, reordering: 0.2)
                options.seed = seed
                let pair = try EnginePair(options)
                pair.start()
                XCTAssertTrue(try pair.run { pair.isOpen }, "seed \(seed): \(pair.story)")
                try assertCarries(pair, "seed \(seed)")
                pair.toServer = LossyLink(LinkConditions(), seed: 1)
                pair.toClient = LossyLink(LinkConditions(), seed: 1)
                try pair.assertEchoes("seed \(seed)")
            }
        }
    }

    /// A lost last flight comes again under the ID, with numbers of its own.
    func testALostLastFlight() throws {
        var options = try options(client: .random(length: 2), server: .random(length: 3))
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        while pair.server?.engine.isOpen != true { XCTAssertTrue(try pair.step(), pair.story) }
        let server = try pair.serverPeer()
        _ = server.takeOutbox()
        XCTAssertTrue(try pair.run { pair.isOpen }, pair.story)
        XCTAssertEqual(server.engine.statistics.retransmissions, 1)
        try pair.assertEchoes()
    }

    /// A wrong key is found out under IDs, too, though the Finished is hidden then.
    func testAWrongKeyIsFoundOut() throws {
        var options = try options(client: .random(length: 2), server: .random(length: 3))
        options.clientKey = try DtlsPreSharedKey(identity: "device-1", key: [UInt8](repeating: 9, count: 16))
        options.serverKeys = [Array("device-1".utf8): [UInt8](repeating: 8, count: 16)]
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        XCTAssertTrue(try pair.run { pair.server?.engine.closeReason != nil }, pair.story)
        XCTAssertEqual(pair.server?.failure?.code, .authenticationFailed, pair.story)
    }

    // MARK: Forgeries

    /// What carries another ID, or none, is nobody's.
    func testRecordsOfOthersAreDropped() throws {
        let pair = try EnginePair.connected(
            options("PSK-AES128-GCM-SHA256", client: .random(length: 4), server: .random(length: 4))
        )
        let server = try pair.serverPeer()
        let before = server.engine.statistics.recordsDropped
        let sealer = try RecordSealer(server.engine.handshakeSecrets(), sealsAsClient: true)
        server.receive(try sealer.seal([1], sequenceNumber: 9))
        XCTAssertEqual(server.engine.statistics.recordsDropped, before + 1, "sealed, but without the ID")
        try pair.client.send([5])
        let genuine = try XCTUnwrap(pair.client.takeOutbox().first)
        for index in 11..<15 {
            var other = genuine
            other[index] ^= 1
            server.receive(other)
        }
        XCTAssertEqual(server.engine.statistics.recordsDropped, before + 5)
        XCTAssertEqual(server.payloads, [])
        server.receive(genuine)
        XCTAssertEqual(server.payloads, [[5]])
        try pair.assertEchoes()
    }

    // MARK: What a datagram shows

    /// Only an authentic record that is newer than all before it may move the peer (RFC 9146 §6).
    func testReceipts() throws {
        let pair = try EnginePair.connected(options())
        let server = try pair.serverPeer()
        func sealed(_ byte: UInt8) throws -> [UInt8] {
            try pair.client.send([byte])
            return try XCTUnwrap(pair.client.takeOutbox().last)
        }
        let datagrams = try (0..<100).map { try sealed($0) }
        func receive(_ datagram: [UInt8]) -> DtlsReceipt { server.engine.receive(datagram.span.bytes) }
        XCTAssertEqual(receive(datagrams[0]), .newest)
        XCTAssertEqual(receive(datagrams[0]), .unknown, "a copy")
        XCTAssertEqual(receive(datagrams[2]), .newest)
        XCTAssertEqual(receive(datagrams[1]), .authentic, "late")
        var forged = datagrams[5]
        forged[forged.count - 1] ^= 1
        XCTAssertEqual(receive(forged), .unknown)
        XCTAssertEqual(receive(datagrams[1] + datagrams[6] + datagrams[4]), .newest, "several records")
        XCTAssertEqual(receive(datagrams[99]), .newest)
        XCTAssertEqual(receive(datagrams[30]), .unknown, "too old to know")
        XCTAssertEqual(receive([]), .unknown)
        XCTAssertEqual(receive([UInt8](repeating: 25, count: 100)), .unknown)
    }
}
