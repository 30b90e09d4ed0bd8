import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Handshakes that succeed, and what both sides then know of each other.
final class EngineHandshakeTests: XCTestCase {
    func testPreSharedKeyHandshakeThroughAGate() throws {
        let pair = try EnginePair.connected(.preSharedKey("PSK-AES128-GCM-SHA256"))
        let server = try pair.serverPeer()
        XCTAssertEqual(pair.gateReplies.count, 1)
        XCTAssertEqual(pair.client.eventNames, ["finished"])
        XCTAssertEqual(server.eventNames, ["request", "finished"])
        XCTAssertEqual(server.requests, [.identity(Array(TestKey.identity.utf8), serverName: nil)])
        for side in [pair.client, server] {
            let negotiated = try XCTUnwrap(side.finished)
            XCTAssertEqual(negotiated.version, .v1_2)
            XCTAssertEqual(negotiated.cipherSuite.id, 0x00A8)
            XCTAssertEqual(negotiated.cipherSuite.name, "TLS_PSK_WITH_AES_128_GCM_SHA256")
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, "PSK-AES128-GCM-SHA256")
            XCTAssertNil(negotiated.group, "plain pre-shared keys exchange no key")
            XCTAssertEqual(negotiated.peerCertificates, [])
            XCTAssertEqual(negotiated.preSharedKeyIdentity, Array(TestKey.identity.utf8))
            XCTAssertFalse(negotiated.isResumed)
            XCTAssertEqual(side.engine.negotiated?.cipherSuite, negotiated.cipherSuite)
        }
        try pair.assertEchoes()
    }

    /// Without a gate the first ClientHello is answered at once: two datagrams each way, no HelloVerifyRequest.
    func testHandshakeWithoutAGate() throws {
        var options = try PairOptions.preSharedKey()
        options.usesGate = false
        let pair = try EnginePair.connected(options)
        let server = try pair.serverPeer()
        XCTAssertEqual(pair.client.sent.count, 2)
        XCTAssertEqual(server.sent.count, 2)
        let first = try XCTUnwrap(server.sent.first.flatMap { RecordDump.parse($0) })
        XCTAssertEqual(first.first?.handshakeType, 2, "a ServerHello comes first")
        try pair.assertEchoes()
    }

    func testCertificateHandshakeTellsEachSideWhatItShould() throws {
        for identity in [try TestIdentity.server, try TestIdentity.rsaServer] {
            let pair = try EnginePair.connected(.certificates(identity))
            let client = try XCTUnwrap(pair.client.finished)
            let leaf = try XCTUnwrap(identity.certificateChain.first)
            XCTAssertEqual(client.version, .v1_2)
            XCTAssertEqual(client.peerCertificates, identity.certificateChain)
            XCTAssertEqual(client.peerCertificates.first?.subject, "CN=localhost")
            XCTAssertEqual(client.peerCertificates.first?.dnsNames, ["localhost", "*.example.org"])
            XCTAssertEqual(client.peerCertificates.first?.ipAddresses, ["127.0.0.1", "::1"])
            XCTAssertEqual(client.peerCertificates.first?.sha256Fingerprint, leaf.sha256Fingerprint)
            XCTAssertNil(client.preSharedKeyIdentity)
            let server = try XCTUnwrap(try pair.serverPeer().finished)
            XCTAssertEqual(server.peerCertificates, [], "the client presented none")
            XCTAssertNil(server.preSharedKeyIdentity)
            XCTAssertEqual(client.group, "x25519")
            XCTAssertEqual(server.group, client.group)
            XCTAssertEqual(server.cipherSuite, client.cipherSuite)
            try pair.assertEchoes()
        }
    }

    func testAnIntermediateTravelsInTheChain() throws {
        let identity = try TestIdentity.serverBehindIntermediate
        let pair = try EnginePair.connected(.certificates(identity))
        let chain = try XCTUnwrap(pair.client.finished).peerCertificates
        XCTAssertEqual(chain.map(\.subject), ["CN=localhost", "CN=Test Intermediate"])
        XCTAssertEqual(chain, identity.certificateChain)
    }

    func testMutualCertificates() throws {
        for identity in [try TestIdentity.client, try TestIdentity.rsaClient] {
            var options = try PairOptions.certificates()
            options.client.identity = identity
            options.server.trust = try TestIdentity.trust
            options.clientCertificates = .required
            let pair = try EnginePair.connected(options)
            let server = try XCTUnwrap(try pair.serverPeer().finished)
            XCTAssertEqual(server.peerCertificates.first, identity.certificateChain.first)
            XCTAssertEqual(server.peerCertificates.first?.subject, "CN=client")
            try pair.assertEchoes()
        }
    }

    /// What was configured is sent: not the root as well, because it happens to be among the trusted ones.
    func testTheChainIsSentAsConfigured() throws {
        var options = try PairOptions.certificates()
        options.client.identity = try TestIdentity.client
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = .required
        let pair = try EnginePair.connected(options)
        let server = try XCTUnwrap(try pair.serverPeer().finished)
        XCTAssertEqual(server.peerCertificates, try TestIdentity.client.certificateChain)
        XCTAssertEqual(pair.client.finished?.peerCertificates, try TestIdentity.server.certificateChain)
    }

    func testAClientWithoutACertificateIsServedWhereOneIsOnlyRequested() throws {
        var options = try PairOptions.certificates()
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = .requested
        let pair = try EnginePair.connected(options)
        XCTAssertEqual(try XCTUnwrap(try pair.serverPeer().finished).peerCertificates, [])
        try pair.assertEchoes()
    }

    /// Who proves to have a pre-shared key needs no certificate, even where one is required.
    func testAPreSharedKeyTakesTheCertificatesPlace() throws {
        var options = try PairOptions.preSharedKey()
        options.server.identity = try TestIdentity.server
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = .required
        let pair = try EnginePair.connected(options)
        let server = try XCTUnwrap(try pair.serverPeer().finished)
        XCTAssertEqual(server.preSharedKeyIdentity, Array(TestKey.identity.utf8))
        XCTAssertEqual(server.peerCertificates, [])
    }

    /// A server with a certificate and keys serves clients of both kinds.
    func testOneServerServesBothKindsOfClients() throws {
        var withKey = try PairOptions.preSharedKey()
        withKey.server.identity = try TestIdentity.server
        XCTAssertNotNil(try XCTUnwrap(EnginePair.connected(withKey).client.finished).preSharedKeyIdentity)

        var withCertificate = try PairOptions.certificates()
        withCertificate.serverKeys = TestKey.table
        let pair = try EnginePair.connected(withCertificate)
        XCTAssertEqual(try XCTUnwrap(pair.client.finished).peerCertificates.count, 1)
        XCTAssertEqual(try pair.serverPeer().requests, [], "no key was in question")
    }

    /// A client with roots and a key offers both kinds of suites; the server's choice decides.
    func testAClientWithKeyAndTrustMeetsAServerWithACertificate() throws {
        var options = try PairOptions.certificates()
        options.clientUsesKeys = true
        options.clientKey = try TestKey.right
        let pair = try EnginePair.connected(options)
        let negotiated = try XCTUnwrap(pair.client.finished)
        XCTAssertNil(negotiated.preSharedKeyIdentity)
        XCTAssertEqual(negotiated.peerCertificates.count, 1)
    }

    func testStartTwiceSendsOneHello() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.start()
        pair.client.start()
        XCTAssertEqual(pair.client.sent.count, 1)
    }

    func testNothingIsAcceptedBeforeTheStart() throws {
        var options = try PairOptions.preSharedKey()
        options.usesGate = false
        let pair = try EnginePair(options)
        pair.client.start()
        let hello = try XCTUnwrap(pair.client.sent.first)
        let server = try pair.serverPeer()
        server.receive(hello)
        XCTAssertEqual(server.sent, [])
        server.start()
        server.receive(hello)
        XCTAssertEqual(server.sent.count, 1)
    }

    /// An entry that someone else left in the thread's error queue must not fail an innocent association (B12).
    func testFault19AForeignErrorInTheQueueHarmsNothing() throws {
        let pair = try EnginePair(.certificates())
        OpenSSLTweaks.leaveError()
        pair.start()
        var moved = true
        while moved {
            OpenSSLTweaks.leaveError()
            moved = try pair.step()
        }
        XCTAssertTrue(pair.isOpen, pair.story)
        OpenSSLTweaks.leaveError()
        try pair.assertEchoes()
    }

    /// A failed handshake leaves nothing behind that a neighbour on the same thread could stumble over (B12).
    func testAFailedNeighbourHarmsNothing() throws {
        let good = try EnginePair(.certificates())
        good.start()
        var moved = true
        while moved {
            let bad = try EnginePair(.certificates(TestIdentity.expired))
            try bad.connect()
            XCTAssertNotNil(bad.client.failure)
            XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
            moved = try good.step()
        }
        XCTAssertTrue(good.isOpen, good.story)
        try good.assertEchoes()
    }

    func testTheWrongRoleIsRefused() throws {
        var configuration = DtlsConfiguration()
        configuration.identity = try TestIdentity.server
        let server = try DtlsEngineContext(server: configuration)
        let client = try DtlsEngineContext(client: configuration)
        assertThrows(.invalidConfiguration) { try DtlsEngine(client: server, serverName: "localhost") }
        assertThrows(.invalidConfiguration) { try DtlsEngine(server: client) }
    }

    func testFault29TheLinkedVersionIsReadable() {
        XCTAssertTrue(DtlsEngineContext.openSSLVersion.hasPrefix("OpenSSL "), DtlsEngineContext.openSSLVersion)
    }
}
