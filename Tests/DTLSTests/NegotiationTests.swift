import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// What two sides agree on: application protocols, algorithms, presets.
final class NegotiationTests: XCTestCase {
    typealias Change = @Sendable (inout DtlsConfiguration) -> Void

    private static func contexts(
        _ client: Change,
        _ server: Change,
        identity: DtlsIdentity? = nil
    ) throws -> (client: DtlsClientContext, server: DtlsServerContext) {
        var clientConfiguration = try DtlsConfiguration.trustingTestRoot()
        var serverConfiguration = try DtlsConfiguration.trustingTestRoot(identity: identity ?? TestIdentity.server)
        client(&clientConfiguration)
        server(&serverConfiguration)
        return (try DtlsClientContext(clientConfiguration), try DtlsServerContext(serverConfiguration))
    }

    /// What both sides negotiate.
    private static func negotiate(
        _ client: Change = { _ in },
        _ server: Change = { _ in },
        identity: DtlsIdentity? = nil
    ) async throws -> (near: DtlsNegotiated, far: DtlsNegotiated) {
        let contexts = try contexts(client, server, identity: identity)
        let loopback = try await Loopback(contexts.client, contexts.server, serverName: "localhost")
        try await loopback.near.expectArrival(at: loopback.far)
        await loopback.close()
        return (loopback.near.negotiated, loopback.far.negotiated)
    }

    /// How the client, and an engine of the server, fail.
    private static func fail(_ client: Change, _ server: Change) throws -> (client: DtlsError?, server: DtlsError?) {
        let (client, server) = try contexts(client, server)
        let near = EnginePeer(try DtlsEngine(client: client.engineContext, serverName: "localhost"))
        let far = EnginePeer(try DtlsEngine(server: server.engineContext))
        near.start()
        far.start()
        for _ in 0..<10 {
            for datagram in near.takeOutbox() { far.receive(datagram) }
            for datagram in far.takeOutbox() { near.receive(datagram) }
        }
        // A client believes an alert that nothing vouches for only after a while.
        _ = near.passTime { !near.ends.isEmpty }
        XCTAssertNil(near.finished)
        XCTAssertNil(far.finished)
        return (near.failure, far.failure)
    }

    // MARK: Application protocols

    func testApplicationProtocols() async throws {
        try await withDeadline {
            let long = String(repeating: "x", count: 255)
            let cases: [(client: [String], server: [String], chosen: String?)] = [
                (["coap"], ["coap"], "coap"),
                (["a", "b", "c"], ["c", "b"], "c"),  // the server's order
                (["b", "a"], ["a", "b"], "a"),
                (["a"], [], nil),
                ([], ["a"], nil),
                ([], [], nil),
                (["coap2"], ["coap", "coap2"], "coap2"),  // no prefixes
                ([long], ["y", long], long),
                (["grüße"], ["grüße"], "grüße"),
            ]
            for (client, server, chosen) in cases {
                let (near, far) = try await Self.negotiate(
                    { $0.applicationProtocols = client },
                    { $0.applicationProtocols = server }
                )
                XCTAssertEqual(near.applicationProtocol, chosen, "\(client) \(server)")
                XCTAssertEqual(far.applicationProtocol, chosen, "\(client) \(server)")
            }
        }
    }

    func testNoApplicationProtocolInCommon() throws {
        let errors = try Self.fail(
            { $0.applicationProtocols = ["coap", "b"] },
            { $0.applicationProtocols = ["coa", "coapp"] }
        )
        XCTAssertEqual(errors.client?.code, .noApplicationProtocol)
        XCTAssertEqual(errors.client?.alertReceived?.code, .noApplicationProtocol)
        XCTAssertEqual(errors.server?.code, .noApplicationProtocol)
        XCTAssertEqual(errors.server?.alertSent?.code, .noApplicationProtocol)
    }

    func testApplicationProtocolsOfAWrongLengthAreRefused() async throws {
        for names in [[""], ["a", ""], [String(repeating: "x", count: 256)]] {
            let error = await failure { try Self.contexts({ $0.applicationProtocols = names }, { _ in }) }
            XCTAssertEqual(error?.code, .invalidConfiguration, "\(names)")
        }
    }

    /// The protocol belongs to the connection, not to the session.
    func testAResumedSessionNegotiatesItsApplicationProtocolAnew() async throws {
        try await withDeadline {
            let contexts = try Self.contexts(
                { $0.applicationProtocols = ["a"] },
                { $0.applicationProtocols = ["a", "b"] }
            )
            let other = try Self.contexts({ $0.applicationProtocols = ["b"] }, { _ in }).client
            let server = try await DtlsServer.onLoopback(contexts.server)
            let session = try await server.firstSession(contexts.client)
            let meeting = try await Meeting(at: server, other, session: session)
            XCTAssertTrue(try meeting.isResumed)
            XCTAssertEqual(meeting.near.negotiated.applicationProtocol, "b")
            XCTAssertEqual(meeting.far.negotiated.applicationProtocol, "b")
            await meeting.close()
            await server.close()
        }
    }

    // MARK: Algorithms

    func testSuitesAreThoseAskedForInTheServersOrder() async throws {
        try await withDeadline {
            let suites: [DtlsCipherSuite] = [
                .ecdheECDSAWithAES128GCM, .ecdheECDSAWithAES256GCM, .ecdheECDSAWithChaCha20Poly1305,
                .ecdheECDSAWithAES128CCM, .ecdheECDSAWithAES128CCM8,
            ]
            for suite in suites {
                let (near, far) = try await Self.negotiate({ $0.cipherSuites = .suites(suites) }) {
                    $0.cipherSuites = .suites([suite] + suites)
                }
                XCTAssertEqual(near.cipherSuite, suite)
                XCTAssertEqual(far.cipherSuite.name, suite.name)
                XCTAssertEqual(far.cipherSuite.openSSLName, suite.openSSLName)
            }
        }
    }

    func testNoSuiteInCommon() throws {
        let errors = try Self.fail(
            { $0.cipherSuites = .suites([.ecdheECDSAWithAES128GCM]) },
            { $0.cipherSuites = .suites([.ecdheECDSAWithAES256GCM]) }
        )
        XCTAssertEqual(errors.client?.code, .handshakeFailed)
        XCTAssertEqual(errors.server?.code, .handshakeFailed)
    }

    func testGroupsAreThoseAskedFor() async throws {
        try await withDeadline {
            let names: [(DtlsGroup, [String])] = [
                (.x25519, ["x25519"]), (.p256, ["secp256r1", "prime256v1", "p-256"]),
                (.p384, ["secp384r1", "p-384"]), (.p521, ["secp521r1", "p-521"]), (.x448, ["x448"]),
            ]
            for (group, spellings) in names {
                // The certificate's own curve must be among the client's, or OpenSSL does not use it.
                let (near, far) = try await Self.negotiate({ $0.groups = [group, .p256] }, { $0.groups = [group] })
                for negotiated in [near, far] {
                    let name = negotiated.group?.lowercased() ?? ""
                    XCTAssertTrue(spellings.contains(name), "\(group): \(name)")
                }
            }
        }
    }

    func testSignatureAlgorithmsAreThoseAskedFor() async throws {
        try await withDeadline {
            let rsa = try TestIdentity.rsaServer
            for (algorithm, number) in [
                (DtlsSignatureAlgorithm.rsaPSSWithSHA256, UInt16(0x0804)), (.rsaPSSWithSHA384, 0x0805),
                (.rsaPKCS1WithSHA256, 0x0401), (.rsaPKCS1WithSHA384, 0x0501),
            ] {
                // The certificate itself is signed with ECDSA and SHA-256.
                let (near, far) = try await Self.negotiate(
                    { $0.signatureAlgorithms = [algorithm, .ecdsaWithSHA256] },
                    identity: rsa
                )
                XCTAssertEqual(far.clientOffer?.signatureAlgorithms, [number, 0x0403])
                XCTAssertEqual(far.signatureAlgorithm, algorithm)
                XCTAssertEqual(near.peerSignatureAlgorithm, algorithm)
                // The client has signed nothing.
                XCTAssertNil(near.signatureAlgorithm)
                XCTAssertNil(far.peerSignatureAlgorithm)
            }
        }
    }

    /// Each side signs with what the other one prefers of what its key can do.
    func testWhatEachSideSignedWithIsReadable() async throws {
        try await withDeadline {
            var client = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.rsaClient)
            client.signatureAlgorithms = [.ecdsaWithSHA384, .rsaPSSWithSHA384, .ecdsaWithSHA256]
            var server = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.server)
            server.signatureAlgorithms = [.rsaPSSWithSHA384, .ecdsaWithSHA384, .ecdsaWithSHA256]
            let contexts = (
                try DtlsClientContext(client), try DtlsServerContext(server, clientCertificates: .required)
            )
            let running = try await DtlsServer.onLoopback(contexts.1)
            let first = try await Meeting(at: running, contexts.0)
            let near = first.near.negotiated
            let far = first.far.negotiated
            XCTAssertEqual(far.signatureAlgorithm, .ecdsaWithSHA384)
            XCTAssertEqual(near.peerSignatureAlgorithm, .ecdsaWithSHA384)
            XCTAssertEqual(near.signatureAlgorithm, .rsaPSSWithSHA384)
            XCTAssertEqual(far.peerSignatureAlgorithm, .rsaPSSWithSHA384)

            // What was offered, and what was chosen of it.
            let offer = try XCTUnwrap(far.clientOffer)
            XCTAssertEqual(offer.signatureAlgorithms, [0x0503, 0x0805, 0x0403])
            XCTAssertTrue(offer.includes(far.cipherSuite))
            XCTAssertEqual(near.cipherSuite, far.cipherSuite)
            XCTAssertFalse(offer.groups.isEmpty)
            XCTAssertNotNil(near.group)
            XCTAssertEqual(near.group, far.group)
            XCTAssertEqual(offer.serverName, "localhost")

            // Nobody signs when a session is resumed.
            let session = try XCTUnwrap(first.near.session)
            await first.close()
            let second = try await Meeting(at: running, contexts.0, session: session)
            XCTAssertTrue(try second.isResumed)
            for negotiated in [second.near.negotiated, second.far.negotiated] {
                XCTAssertNil(negotiated.signatureAlgorithm)
                XCTAssertNil(negotiated.peerSignatureAlgorithm)
            }
            await second.close()
            await running.close()
        }
    }

    func testNobodySignsWithAPreSharedKey() async throws {
        try await withDeadline {
            let loopback = try await Loopback(.preSharedKey(), .preSharedKey())
            for negotiated in [loopback.near.negotiated, loopback.far.negotiated] {
                XCTAssertNil(negotiated.signatureAlgorithm)
                XCTAssertNil(negotiated.peerSignatureAlgorithm)
            }
            await loopback.close()
        }
    }

    func testNoSignatureAlgorithmInCommon() throws {
        let errors = try Self.fail(
            { $0.signatureAlgorithms = [.ecdsaWithSHA384] },
            { $0.signatureAlgorithms = [.ecdsaWithSHA512] }
        )
        XCTAssertEqual(errors.client?.code, .handshakeFailed)
        XCTAssertEqual(errors.server?.code, .handshakeFailed)
    }

    func testUnknownNamesAreRefused() async throws {
        let changes: [Change] = [
            { $0.groups = [DtlsGroup(openSSLName: "P-255")] },
            { $0.groups = [.x25519, DtlsGroup(openSSLName: "nonsense")] },
            { $0.groups = [] },
            { $0.groups = [DtlsGroup(openSSLName: "X25519\0")] },
            { $0.signatureAlgorithms = [DtlsSignatureAlgorithm(openSSLName: "nonsense")] },
            { $0.signatureAlgorithms = [] },
            { $0.signatureAlgorithms = [DtlsSignatureAlgorithm(openSSLName: "ECDSA+SHA256\0")] },
            { $0.cipherSuites = .suites([]) },
            { $0.cipherSuites = .openSSL("nonsense") },
        ]
        for (index, change) in changes.enumerated() {
            let client = await failure { try Self.contexts(change, { _ in }) }
            XCTAssertEqual(client?.code, .invalidConfiguration, "client, \(index)")
            let server = await failure { try Self.contexts({ _ in }, change) }
            XCTAssertEqual(server?.code, .invalidConfiguration, "server, \(index)")
            XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
        }
    }

    // MARK: Presets

    func testEveryPresetAgreesWithItself() async throws {
        try await withDeadline {
            let presets: [(String, DtlsConfiguration)] = [
                ("modern", .modern), ("webRTC", .webRTC), ("iotConstrained", .iotConstrained),
                ("compatible", .compatible),
            ]
            for (name, preset) in presets {
                for identity in [try TestIdentity.server, try TestIdentity.rsaServer] {
                    // Devices have ECDSA alone.
                    if name == "iotConstrained", identity.privateKey.description.contains("RSA") { continue }
                    var configuration = preset
                    configuration.trust = try TestIdentity.trust
                    let client = try DtlsClientContext(configuration)
                    configuration.identity = identity
                    let server = try DtlsServerContext(configuration)
                    let loopback = try await Loopback(client, server, serverName: "localhost")
                    try await loopback.near.expectArrival(at: loopback.far, name)
                    XCTAssertEqual(loopback.near.negotiated.version, .v1_2)
                    XCTAssertNotNil(loopback.near.negotiated.group, "no forward secrecy: \(name)")
                    XCTAssertEqual(loopback.near.negotiated.srtpProfile != nil, name == "webRTC")
                    await loopback.close()
                }
                if name == "webRTC" { continue }
                let loopback = try await Loopback(.preSharedKey(nil, preset), .preSharedKey(preset))
                try await loopback.near.expectArrival(at: loopback.far, name)
                await loopback.close()
            }
        }
    }

    func testPresetsReachPeersThatHaveCCM8Alone() async throws {
        try await withDeadline {
            for preset in [DtlsConfiguration.iotConstrained, .compatible] {
                XCTAssertNil(preset.securityLevel, "the level is the default, 2")
                let device = DtlsConfiguration.make {
                    $0.cipherSuites = .suites([.pskWithAES128CCM8])
                    $0.securityLevel = 2
                }
                for (client, server) in [(preset, device), (device, preset)] {
                    let loopback = try await Loopback(.preSharedKey(nil, client), .preSharedKey(server))
                    XCTAssertEqual(loopback.near.negotiated.cipherSuite, .pskWithAES128CCM8)
                    try await loopback.near.expectArrival(at: loopback.far)
                    await loopback.close()
                }
                let (near, _) = try await Self.negotiate(
                    { $0.cipherSuites = preset.cipherSuites },
                    { $0.cipherSuites = .suites([.ecdheECDSAWithAES128CCM8]) }
                )
                XCTAssertEqual(near.cipherSuite, .ecdheECDSAWithAES128CCM8)
            }
        }
    }
}
