import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// A server that chooses its certificate for each client.
final class CertificateChoiceTests: XCTestCase {
    private static func identity(_ name: String, _ key: DtlsKeyKind = .p256) throws -> DtlsIdentity {
        try CertificateMint(commonName: name, names: [name], key: key, usage: .server).signed(by: TestIdentity.root)
    }

    private static func client(_ change: (inout DtlsConfiguration) -> Void = { _ in }) throws -> DtlsClientContext {
        var configuration = try DtlsConfiguration.trustingTestRoot()
        change(&configuration)
        return try DtlsClientContext(configuration)
    }

    /// Which certificate a client gets that asks for `name`.
    private static func presented(
        _ server: DtlsServer,
        _ name: String,
        _ context: DtlsClientContext
    ) async throws -> DtlsCertificate? {
        let meeting = try await Meeting(at: server, context, name: name)
        try await meeting.exchange()
        await meeting.close()
        return meeting.near.negotiated.peerCertificates.first
    }

    func testByServerName() async throws {
        try await withDeadline {
            let alice = try Self.identity("alice.example")
            let bob = try Self.identity("bob.example")
            let context = try DtlsServerContext(identityFor: { offer in
                // Somewhere else, and back.
                await Task.yield()
                return ["alice.example": alice, "bob.example": bob][offer.serverName ?? ""]
            })
            let server = try await DtlsServer.onLoopback(context)
            for (name, identity) in [("alice.example", alice), ("bob.example", bob), ("ALICE.example", alice)] {
                let certificate = try await Self.presented(server, name, Self.client())
                XCTAssertEqual(certificate, identity.certificateChain[0], name)
            }
            await server.close()
        }
    }

    func testNilFallsBackToTheConfigurationsIdentity() async throws {
        try await withDeadline {
            let alice = try Self.identity("alice.example")
            let fallback = try TestIdentity.server
            let context = try DtlsServerContext(
                .trustingTestRoot(identity: fallback),
                identityFor: { $0.serverName == "alice.example" ? alice : nil }
            )
            let server = try await DtlsServer.onLoopback(context)
            for (name, identity) in [("alice.example", alice), ("localhost", fallback), ("alice.example", alice)] {
                let certificate = try await Self.presented(server, name, Self.client())
                XCTAssertEqual(certificate, identity.certificateChain[0], name)
            }
            await server.close()
        }
    }

    /// OpenSSL keeps a certificate of each kind of key; the chosen one must not stand beside the configuration's.
    func testTheChosenIdentityReplacesOneWithAnotherKindOfKey() async throws {
        try await withDeadline {
            let rsa = try TestIdentity.rsaServer
            let ecdsa = try TestIdentity.server
            for (configured, chosen) in [(rsa, ecdsa), (ecdsa, rsa)] {
                let context = try DtlsServerContext(
                    .trustingTestRoot(identity: configured),
                    identityFor: { _ in chosen }
                )
                let server = try await DtlsServer.onLoopback(context)
                let certificate = try await Self.presented(server, "localhost", Self.client())
                XCTAssertEqual(certificate, chosen.certificateChain[0], "\(chosen.privateKey) was chosen")
                await server.close()
            }
        }
    }

    func testTheChainIsThatOfTheChosenIdentity() async throws {
        try await withDeadline {
            let long = try TestIdentity.serverBehindIntermediate
            let short = try TestIdentity.server
            for (configured, chosen) in [(long, short), (short, long)] {
                let context = try DtlsServerContext(
                    .trustingTestRoot(identity: configured),
                    identityFor: { _ in chosen }
                )
                let server = try await DtlsServer.onLoopback(context)
                let meeting = try await Meeting(at: server, Self.client())
                XCTAssertEqual(meeting.near.negotiated.peerCertificates, chosen.certificateChain)
                await meeting.close()
                await server.close()
            }
        }
    }

    func testNobodyForAClientWithoutFallback() async throws {
        try await withDeadline {
            let alice = try Self.identity("alice.example")
            let context = try DtlsServerContext(identityFor: { $0.serverName == "alice.example" ? alice : nil })
            let server = try await DtlsServer.onLoopback(context)
            let error = await failure {
                try await Meeting(at: server, Self.client(), name: "mallory.example").close()
            }
            XCTAssertEqual(error?.code, .handshakeFailed)
            XCTAssertEqual(error?.alertReceived?.code, .handshakeFailure)
            let certificate = try await Self.presented(server, "alice.example", Self.client())
            XCTAssertEqual(certificate, alice.certificateChain[0], "the server lives on")
            await server.close()
        }
    }

    func testWhatTheClientOffers() async throws {
        try await withDeadline {
            let offers = Recorder<DtlsClientOffer>()
            let context = try DtlsServerContext(
                .make {
                    $0.identity = try? TestIdentity.server
                    $0.applicationProtocols = ["coap"]
                    $0.srtpProfiles = [.aeadAES128GCM]
                },
                identityFor: { offer in
                    offers.add(offer)
                    return nil
                }
            )
            let server = try await DtlsServer.onLoopback(context)
            let client = try Self.client {
                $0.cipherSuites = .suites([.ecdheECDSAWithAES256GCM, .ecdheECDSAWithAES128GCM])
                $0.groups = [.p384, .x25519, .p256]
                $0.signatureAlgorithms = [.ecdsaWithSHA256, .rsaPSSWithSHA256]
                $0.applicationProtocols = ["webrtc", "coap"]
                $0.srtpProfiles = [.aes128CMSHA1_80, .aeadAES128GCM]
            }
            let meeting = try await Meeting(at: server, client, name: "Host.EXAMPLE.org")
            let offer = try XCTUnwrap(offers.values.first)
            XCTAssertEqual(offers.values.count, 1, "asked once")
            // 0x00FF is the signal of secure renegotiation.
            XCTAssertEqual(offer.cipherSuites.filter { $0 != 0x00FF }, [0xC02C, 0xC02B])
            XCTAssertTrue(offer.includes(.ecdheECDSAWithAES128GCM))
            XCTAssertFalse(offer.includes(.pskWithAES128GCM))
            XCTAssertEqual(offer.groups, [24, 29, 23])
            XCTAssertEqual(offer.signatureAlgorithms, [0x0403, 0x0804])
            XCTAssertEqual(offer.applicationProtocols, [Array("webrtc".utf8), Array("coap".utf8)])
            XCTAssertEqual(offer.srtpProfiles, [1, 7])
            XCTAssertEqual(offer.serverName, "host.example.org")
            XCTAssertTrue(offer.knowsExtendedMasterSecret)
            XCTAssertEqual(offer.sessionID, [])
            XCTAssertEqual(meeting.far.negotiated.clientOffer, offer)
            XCTAssertNil(meeting.near.negotiated.clientOffer)
            await meeting.close()
            await server.close()
        }
    }

    func testAnIPAddressIsNoServerName() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(.presenting(TestIdentity.server))
            let meeting = try await Meeting(at: server, Self.client(), name: "127.0.0.1")
            XCTAssertNil(meeting.far.negotiated.clientOffer?.serverName)
            XCTAssertNil(meeting.far.negotiated.serverName)
            XCTAssertEqual(meeting.far.negotiated.clientOffer?.applicationProtocols, [])
            XCTAssertEqual(meeting.far.negotiated.clientOffer?.srtpProfiles, [])
            await meeting.close()
            await server.close()
        }
    }

    /// One client's choice that takes long does not keep another client waiting, and its handshake's time goes on.
    func testALateChoice() async throws {
        try await withDeadline {
            let gate = Gate()
            let context = try DtlsServerContext(
                .trustingTestRoot(identity: TestIdentity.server),
                identityFor: { offer in
                    if offer.serverName == "slow.example.org" { await gate.wait() }
                    return nil
                }
            )
            let server = try await DtlsServer.onLoopback(context)
            let slow = try await DtlsClient.onLoopback()
            let clientContext = try Self.client()
            let address = server.localAddress
            let waiting = Task {
                try await slow.connect(to: address, context: clientContext, serverName: "slow.example.org")
            }
            try await eventually("the application was asked") { gate.waiterCount == 1 }
            let quick = try await Meeting(at: server, clientContext)
            try await quick.exchange()
            await quick.close()
            let impatient = try await DtlsClient.onLoopback()
            let error = await failure {
                try await impatient.connect(
                    to: address,
                    context: clientContext,
                    serverName: "slow.example.org",
                    timeout: .milliseconds(200)
                )
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            // The impatient one's handshake is still there, too; both are answered now.
            gate.open()
            let near = try await waiting.value
            let far = try await server.accept()
            try await near.expectArrival(at: far)
            for client in [slow, impatient] { await client.close() }
            await server.close()
        }
    }
}
