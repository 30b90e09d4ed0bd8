import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Associations that leave OpenSSL when their handshake is finished.
final class GraduationTests: XCTestCase {
    static let suites = [
        "PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384", "PSK-AES128-CCM", "PSK-AES256-CCM", "PSK-AES128-CCM8",
        "PSK-AES256-CCM8", "PSK-CHACHA20-POLY1305",
    ]

    private func options(
        _ suite: String,
        client: DtlsRecordLayer = .detached,
        server: DtlsRecordLayer = .detached
    ) throws -> PairOptions {
        var options = try PairOptions.preSharedKey(suite)
        options.client.recordLayer = client
        options.server.recordLayer = server
        return options
    }

    func testEverySuiteWithAnAEADLeaves() throws {
        for suite in Self.suites {
            let pair = try EnginePair.connected(options(suite))
            XCTAssertTrue(pair.client.engine.isDetached, suite)
            XCTAssertTrue(try pair.serverPeer().engine.isDetached, suite)
            try pair.assertEchoes(suite)
        }
    }

    func testWhatStaysWithOpenSSL() throws {
        for options in [
            try options("PSK-AES128-CBC-SHA256:@SECLEVEL=0"),
            try options("PSK-AES128-GCM-SHA256", client: .openSSL, server: .openSSL),
        ] {
            let pair = try EnginePair.connected(options)
            XCTAssertFalse(pair.client.engine.isDetached)
            XCTAssertFalse(try pair.serverPeer().engine.isDetached)
            try pair.assertEchoes()
        }
    }

    /// Beside OpenSSL's record layer, which opens what this one seals and the other way round, whatever the size.
    func testEqualityWithOpenSSL() throws {
        for suite in Self.suites {
            for detached in [DtlsRole.client, .server] {
                var options = try options(
                    suite,
                    client: detached == .client ? .detached : .openSSL,
                    server: detached == .server ? .detached : .openSSL
                )
                options.mtu = 20_000
                let pair = try EnginePair.connected(options)
                let server = try pair.serverPeer()
                XCTAssertEqual(pair.client.engine.isDetached, detached == .client)
                XCTAssertEqual(server.engine.isDetached, detached == .server)
                XCTAssertEqual(pair.client.engine.maximumPayloadSize, server.engine.maximumPayloadSize)
                var random = SeededGenerator(seed: 5)
                for (from, to) in [(pair.client, server), (server, pair.client)] {
                    let sizes = [1, 2, 15, 16, 17, 31, 32, 255, 256, 16_383, 16_384]
                    let payloads = (sizes + (0..<60).map { _ in Int.random(in: 1...2_000, using: &random) }).map {
                        count in (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
                    }
                    for payload in payloads { try from.send(payload) }
                    let numbers = from.sent.suffix(payloads.count).compactMap {
                        RecordDump.parse($0)?.first?.sequenceNumber
                    }
                    XCTAssertEqual(numbers, (1...payloads.count).map { UInt64($0) }, "after the Finished")
                    try pair.pump()
                    XCTAssertTrue(to.payloads == payloads, "\(suite), \(detached)")
                }
                try pair.assertEchoes()
                pair.client.close()
                try pair.pump()
                XCTAssertEqual(server.ends, [.closedByPeer], suite)
            }
        }
    }

    /// What is told of an association is the same in both lives.
    func testNothingThatACallerSeesDiffers() throws {
        for suite in Self.suites {
            let detached = try EnginePair.connected(options(suite))
            let attached = try EnginePair.connected(options(suite, client: .openSSL, server: .openSSL))
            for (one, other) in [
                (detached.client, attached.client), (try detached.serverPeer(), try attached.serverPeer()),
            ] {
                XCTAssertEqual(one.eventNames, other.eventNames)
                XCTAssertEqual(one.engine.maximumPayloadSize, other.engine.maximumPayloadSize)
                XCTAssertEqual(one.engine.mtu, other.engine.mtu)
                let (negotiated, otherNegotiated) = (try XCTUnwrap(one.finished), try XCTUnwrap(other.finished))
                XCTAssertEqual(negotiated.cipherSuite, otherNegotiated.cipherSuite)
                XCTAssertEqual(negotiated.preSharedKeyIdentity, otherNegotiated.preSharedKeyIdentity)
                one.engine.lowerMTU(to: 400)
                other.engine.lowerMTU(to: 400)
                XCTAssertEqual(one.engine.maximumPayloadSize, other.engine.maximumPayloadSize)
                let errors = [one, other].map { side in assertThrows(.unsupported) { try side.send([]) } }
                XCTAssertEqual(errors[0], errors[1])
                var (left, right) = (one.engine.statistics, other.engine.statistics)
                (left.roundTrip, right.roundTrip) = (nil, nil)
                XCTAssertEqual(left, right, suite)
            }
        }
    }

    /// Exported secrets are those that OpenSSL would export.
    func testExportersAreThoseOfOpenSSL() throws {
        for suite in ["PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384"] {
            let pair = try EnginePair.connected(options(suite, server: .openSSL))
            let server = try pair.serverPeer().engine
            let contexts: [[UInt8]?] = [nil, [], [1, 2, 3], Array(repeating: 9, count: 944)]
            for context in contexts {
                for count in [1, 32, 200, 16_384] {
                    XCTAssertEqual(
                        try pair.client.engine.exportKeyingMaterial(
                            label: "EXPERIMENTAL x",
                            context: context,
                            count: count
                        ),
                        try server.exportKeyingMaterial(label: "EXPERIMENTAL x", context: context, count: count)
                    )
                }
            }
            for engine in [pair.client.engine, server] {
                assertThrows(.invalidConfiguration, "more than OpenSSL derives from") {
                    try engine.exportKeyingMaterial(
                        label: "EXPERIMENTAL x",
                        context: [UInt8](repeating: 9, count: 945),
                        count: 8
                    )
                }
            }
            for label in [
                "key expansion", "client finished", "server finished", "master secret", "extended master secret",
            ] {
                let errors = [pair.client.engine, server].map { engine in
                    assertThrows(.invalidConfiguration, label) {
                        try engine.exportKeyingMaterial(label: label, count: 8)
                    }
                }
                XCTAssertEqual(errors[0]?.hint, errors[1]?.hint)
            }
            for count in [0, 16_385] {
                assertThrows(.invalidConfiguration) {
                    try pair.client.engine.exportKeyingMaterial(label: "EXPERIMENTAL x", count: count)
                }
            }
        }
    }

    // MARK: The last flight

    /// The last flight is lost: whoever waits for it sends its own again and gets it, OpenSSL as well as this library,
    /// whatever has been sent meanwhile.
    func testALostLastFlightIsSentAgain() throws {
        for peer in [DtlsRecordLayer.openSSL, .detached] {
            for payloads in [0, 1, 100] {
                for suite in Self.suites {
                    var options = try options(suite, client: peer)
                    options.retransmission = .quick
                    let pair = try EnginePair(options)
                    let server = try lose(pair, after: payloads)
                    XCTAssertTrue(try pair.run { pair.client.engine.isOpen }, "\(suite): \(pair.story)")
                    XCTAssertGreaterThan(server.engine.statistics.retransmissions, 0)
                    try pair.assertEchoes("\(suite), \(payloads)")
                    let numbers = server.sent.compactMap { RecordDump.parse($0) }.joined().filter { $0.epoch == 1 }
                        .map(\.sequenceNumber)
                    XCTAssertEqual(Set(numbers).count, numbers.count, "a number was used twice")
                }
            }
        }
    }

    /// Carries a handshake up to the server's last flight, loses that, and has the server send `count` payloads that
    /// are lost as well.
    private func lose(_ pair: EnginePair, after count: Int) throws -> EnginePeer {
        pair.start()
        while pair.server?.engine.isOpen != true { XCTAssertTrue(try pair.step(), pair.story) }
        let server = try pair.serverPeer()
        _ = server.takeOutbox()
        for number in 0..<count {
            try server.send([UInt8(truncatingIfNeeded: number)])
            _ = server.takeOutbox()
        }
        return server
    }

    /// Its repetition is for who has not got it. A copy of the Finished that came is nobody's business, nor is one that
    /// comes after a flight could last.
    func testTheLastFlightIsForgotten() throws {
        var options = try options("PSK-AES128-GCM-SHA256", client: .openSSL)
        options.retransmission = .quick
        let pair = try EnginePair(options)
        var finished: [[UInt8]] = []
        pair.rewriteToServer = { datagram in
            if RecordDump.parse(datagram)?.contains(where: { $0.epoch == 1 && $0.contentType == 22 }) == true {
                finished.append(datagram)
            }
            return datagram
        }
        try pair.connect()
        let server = try pair.serverPeer()
        XCTAssertNotNil(server.engine.detached)
        let before = server.sent.count
        for datagram in finished { XCTAssertEqual(server.engine.receive(datagram.span.bytes), .unknown) }
        server.settle()
        XCTAssertEqual(server.sent.count, before, "a copy was answered")
        let sealer = try RecordSealer(server.engine.handshakeSecrets(), sealsAsClient: true)
        server.receive(try sealer.seal([20, 0, 0, 12], contentType: 22, sequenceNumber: 5))
        XCTAssertGreaterThan(server.sent.count, before, "the peer asks and gets no answer")
        let again = server.sent.count
        let late = ContinuousClock.now + FinalFlight.lifetime
        server.receive(try sealer.seal([20, 0, 0, 12], contentType: 22, sequenceNumber: 7), now: late)
        XCTAssertEqual(server.sent.count, again)
        XCTAssertTrue(server.engine.isOpen)
    }

    /// With a resumed session the client's flight is the last.
    func testALostLastFlightOfAClient() throws {
        var contexts: [DtlsEngineContext] = []
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        settings.resumption = .tickets(try DtlsTicketKeys())
        for layer in [DtlsRecordLayer.detached, .openSSL] {
            var configuration = DtlsConfiguration()
            configuration.recordLayer = layer
            configuration.connectionIDs = .off
            configuration.retransmission = .quick
            contexts.append(try DtlsEngineContext(client: configuration, usesPreSharedKeys: true))
            contexts.append(try DtlsEngineContext(server: configuration, settings: settings))
        }
        let first = try ResumingPair(contexts[0], contexts[1])
        try first.run { first.isOpen }
        let session = try XCTUnwrap(first.client.engine.session, "a detached client has no session")
        for server in [contexts[1], contexts[3]] {
            let pair = try ResumingPair(contexts[0], server, session)
            var lost = false
            pair.passesToServer = { datagram in
                guard !lost, RecordDump.parse(datagram)?.contains(where: { $0.epoch == 1 }) == true else { return true }
                lost = true
                return false
            }
            try pair.run { pair.isOpen }
            XCTAssertTrue(lost)
            XCTAssertEqual(pair.client.finished?.isResumed, true)
            XCTAssertEqual(pair.server.finished?.isResumed, true)
            try pair.client.send([1, 2, 3])
            try pair.run { pair.server.payloads == [[1, 2, 3]] }
            try pair.server.send([4])
            try pair.run { pair.client.payloads == [[4]] }
            XCTAssertEqual(
                try pair.client.engine.exportKeyingMaterial(label: "EXPERIMENTAL", count: 20),
                try pair.server.engine.exportKeyingMaterial(label: "EXPERIMENTAL", count: 20)
            )
        }
    }

    // MARK: Ends

    func testKeysThatAreUsedUpEndTheAssociation() throws {
        for suite in ["PSK-AES128-GCM-SHA256", "PSK-CHACHA20-POLY1305"] {
            let pair = try EnginePair.connected(options(suite))
            let server = try pair.serverPeer()
            try XCTUnwrap(pair.client.engine.detached).records.skip(to: 1 << 48 - 18)
            try pair.client.send([1])
            try pair.client.send([2])
            let error = assertThrows(.keysUsedUp) { try pair.client.send([3]) }
            try pair.pump()
            XCTAssertEqual(pair.client.failure, error)
            XCTAssertEqual(server.payloads, [[1], [2]])
            XCTAssertEqual(server.ends, [.closedByPeer])
            XCTAssertEqual(
                assertThrows(.keysUsedUp) { try pair.client.send([4]) },
                error,
                "who sends afterwards learns why"
            )
        }
    }

    func testTooManyForgeriesEndTheAssociation() throws {
        let pair = try EnginePair.connected(options("PSK-AES128-CCM8"))
        let server = try pair.serverPeer()
        try XCTUnwrap(server.engine.detached).records.countAsForged(12_148_001_990)
        let forged = RecordDump(contentType: 23, epoch: 1, sequenceNumber: 9, body: [UInt8](repeating: 0, count: 40))
            .bytes
        server.receive(forged)
        XCTAssertTrue(server.engine.isOpen)
        for _ in 0..<2 { server.receive(forged) }
        XCTAssertEqual(server.failure?.code, .keysUsedUp)
        try pair.pump()
        XCTAssertEqual(pair.client.ends, [.closedByPeer])
    }

    /// OpenSSL counts the nonces of GCM from a random number. Where that could meet the numbers of this library, it
    /// stays.
    func testANonceThatCouldComeAgainIsNoticed() throws {
        for (nonce, isForeign) in [
            ([0, 1, 0, 0, 0, 0, 0, 7] as [UInt8], true), ([0, 1, 0, 0, 0, 0, 0, 3], false),
            ([0, 2, 0, 0, 0, 0, 0, 7], false), ([1, 1, 0, 0, 0, 0, 0, 3], false),
        ] {
            let bio = DatagramBIO(mtu: 1_200, isIPv6: false)
            let record = RecordDump(
                contentType: 22,
                epoch: 1,
                sequenceNumber: 3,
                body: nonce + [UInt8](repeating: 9, count: 40)
            )
            OpenSSLTweaks.write(record.bytes, toAndFree: try bio.makeBIO())
            XCTAssertEqual(bio.hasWrittenForeignNonce, isForeign)
            XCTAssertEqual(bio.nextSealedNumber, 4)
        }
    }
}

/// A client and a server without a gate, with a session to resume, in real time.
private final class ResumingPair {
    let client: EnginePeer
    let server: EnginePeer
    var passesToServer: ([UInt8]) -> Bool = { _ in true }

    init(_ client: DtlsEngineContext, _ server: DtlsEngineContext, _ session: DtlsSession? = nil) throws {
        let engine = try DtlsEngine(client: client, serverName: nil, preSharedKey: TestKey.right)
        if let session { XCTAssertTrue(try engine.resume(session)) }
        self.client = EnginePeer(engine)
        self.server = EnginePeer(try DtlsEngine(server: server)) { request in
            guard case .identity(let identity, _) = request else { return .later }
            return .server(TestKey.table[identity].map { DtlsSecretBytes($0) })
        }
        self.server.start()
        self.client.start()
    }

    var isOpen: Bool { client.engine.isOpen && server.engine.isOpen }

    func run(until condition: () -> Bool) throws {
        let end = ContinuousClock.now + .seconds(20)
        while true {
            for datagram in client.takeOutbox() where passesToServer(datagram) { server.receive(datagram) }
            for datagram in server.takeOutbox() { client.receive(datagram) }
            if condition() { return }
            let now = ContinuousClock.now
            guard now < end else { return XCTFail("not in time: \(client.eventNames), \(server.eventNames)") }
            for side in [client, server] {
                if let deadline = side.engine.nextDeadline, deadline <= now { side.handleTimeout(now: now) }
            }
            if client.engine.nextDeadline != nil || server.engine.nextDeadline != nil { usleep(1_000) }
        }
    }
}
