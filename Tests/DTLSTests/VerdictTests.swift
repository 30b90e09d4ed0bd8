import DTLSCore
import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLS

/// The application's say over the peer's certificates.
final class VerdictTests: XCTestCase {
    typealias Judge = @Sendable (DtlsPresentedCertificates) async -> Bool

    private static func server(
        _ policy: DtlsClientCertificatePolicy = .required,
        overrules: Bool = false,
        timeout: Duration? = nil,
        _ judge: @escaping Judge
    ) throws -> DtlsServerContext {
        var configuration = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.server)
        if let timeout { configuration.handshakeTimeout = timeout }
        return try DtlsServerContext(
            configuration,
            clientCertificates: policy,
            acceptsCertificates: judge,
            applicationOverrules: overrules
        )
    }

    private static func client(
        _ identity: DtlsIdentity? = nil,
        trust: DtlsTrust? = nil,
        verification: DtlsServerVerification = .chainAndName,
        _ judge: Judge? = nil
    ) throws -> DtlsClientContext {
        var configuration = try DtlsConfiguration.trustingTestRoot(identity: identity)
        if let trust { configuration.trust = trust }
        return try DtlsClientContext(configuration, verification: verification, acceptsCertificates: judge)
    }

    // MARK: Clients

    func testAClientsApplicationAcceptsOrRefuses() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(.presenting(TestIdentity.server))
            for verification in [DtlsServerVerification.chainAndName, .byApplication] {
                for accepts in [true, false] {
                    let seen = Recorder<DtlsPresentedCertificates>()
                    let context = try Self.client(verification: verification) { presented in
                        seen.add(presented)
                        await Task.yield()
                        return accepts
                    }
                    let what = "\(verification), \(accepts)"
                    if accepts {
                        let meeting = try await Meeting(at: server, context)
                        try await meeting.exchange()
                        await meeting.close()
                    } else {
                        let client = try await DtlsClient.onLoopback()
                        let error = await failure {
                            try await client.connect(
                                to: server.localAddress,
                                context: context,
                                serverName: "localhost"
                            )
                        }
                        XCTAssertEqual(error?.code, .certificateRejected, what)
                        // By which the server knows what it was about.
                        XCTAssertEqual(error?.alertSent, DtlsAlert(level: .fatal, code: .badCertificate), what)
                        await client.close()
                    }
                    XCTAssertEqual(seen.values.count, 1, what)
                    let presented = try XCTUnwrap(seen.values.first, what)
                    XCTAssertEqual(presented.certificates, try TestIdentity.server.certificateChain, what)
                    XCTAssertEqual(presented.serverName, "localhost", what)
                    XCTAssertNil(presented.verdict, what)
                    let key = try TestIdentity.server.privateKey.publicKeyFingerprint
                    XCTAssertEqual(presented.publicKeyFingerprint, key, what)
                }
            }
            await server.close()
        }
    }

    func testAClientsApplicationIsNotAskedAboutAChainThatFails() async throws {
        try await withDeadline {
            let asked = Recorder<Int>()
            let context = try Self.client { _ in
                asked.add(1)
                return true
            }
            let identities = [try TestIdentity.stranger, try TestIdentity.wrongName, try TestIdentity.expired]
            for identity in identities {
                let server = try await DtlsServer.onLoopback(.presenting(identity))
                let error = await failure { try await Meeting(at: server, context).close() }
                XCTAssertEqual(error?.code, .certificateRejected)
                await server.close()
            }
            XCTAssertEqual(asked.values, [])
        }
    }

    func testTheApplicationAloneDecidesAndSeesOpenSSLsVerdict() async throws {
        try await withDeadline {
            let stranger = try TestIdentity.stranger
            let server = try await DtlsServer.onLoopback(.presenting(stranger))
            let seen = Recorder<DtlsPresentedCertificates>()
            let context = try Self.client(verification: .byApplication) { presented in
                seen.add(presented)
                return true
            }
            let meeting = try await Meeting(at: server, context)
            try await meeting.exchange()
            await meeting.close()
            await server.close()
            XCTAssertEqual(seen.values.first?.certificates.first, stranger.certificateChain[0])
            XCTAssertNotNil(seen.values.first?.verdict)
            XCTAssertEqual(seen.values.count, 1)
        }
    }

    func testWithoutAWayToAskIsRefused() async throws {
        let client = await failure { try DtlsClientContext(verification: .byApplication) }
        XCTAssertEqual(client?.code, .invalidConfiguration)
        let configuration = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.server)
        let server = await failure { try DtlsServerContext(configuration, applicationOverrules: true) }
        XCTAssertEqual(server?.code, .invalidConfiguration)
    }

    // MARK: Servers

    func testAServersApplicationIsNotAskedAboutAChainThatFails() async throws {
        try await withDeadline {
            let asked = Recorder<Int>()
            let context = try Self.server { _ in
                asked.add(1)
                return true
            }
            let server = try await DtlsServer.onLoopback(context)
            for identity in [try Credentials.localhost(), nil] {
                let error = await failure { try await Meeting(at: server, Self.client(identity)).close() }
                XCTAssertNotNil(error)
            }
            XCTAssertEqual(asked.values, [])
            let meeting = try await Meeting(at: server, Self.client(TestIdentity.client))
            try await meeting.exchange()
            XCTAssertEqual(asked.values, [1])
            await meeting.close()
            await server.close()
        }
    }

    func testAServersApplicationMayAloneDecide() async throws {
        try await withDeadline {
            let stranger = try Credentials.localhost()
            let seen = Recorder<DtlsPresentedCertificates>()
            let context = try Self.server(overrules: true) { presented in
                seen.add(presented)
                return presented.certificates == stranger.certificateChain
            }
            let server = try await DtlsServer.onLoopback(context)
            let meeting = try await Meeting(at: server, Self.client(stranger))
            XCTAssertEqual(meeting.far.negotiated.peerCertificates, stranger.certificateChain)
            XCTAssertNotNil(seen.values.first?.verdict)
            await meeting.close()
            await server.close()
        }
    }

    func testNothingIsExposedBeforeTheServersVerdict() async throws {
        try await withDeadline {
            for accepts in [true, false] {
                let gate = Gate()
                let context = try Self.server { _ in
                    await gate.wait()
                    return accepts
                }
                let server = try await DtlsServer.onLoopback(context)
                let accepted = Lock(false)
                let accepting = Task {
                    let connection = try await server.accept()
                    accepted.withLock { $0 = true }
                    return connection
                }
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(
                    to: server.localAddress,
                    context: Self.client(TestIdentity.client),
                    serverName: "localhost"
                )
                try await near.send("early")
                try await eventually("the application was asked") { gate.waiterCount == 1 }
                try await near.send("still early")
                // Another client's whole handshake passes, as far as it can without a verdict.
                let other = try await DtlsClient.onLoopback()
                let second = try await other.connect(
                    to: server.localAddress,
                    context: Self.client(TestIdentity.client),
                    serverName: "localhost"
                )
                try await eventually("it was asked about the other one") { gate.waiterCount == 2 }
                XCTAssertFalse(accepted.withLock { $0 }, "exposed before the verdict")
                gate.open()
                if accepts {
                    let connection = try await accepting.value
                    XCTAssertEqual(connection.state, .open)
                } else {
                    for connection in [near, second] {
                        let reason = await connection.waitUntilClosed()
                        XCTAssertEqual(reason, .closedByPeer)
                    }
                    XCTAssertFalse(accepted.withLock { $0 }, "exposed after the refusal")
                }
                for client in [client, other] { await client.close() }
                await server.close()
                _ = try? await accepting.value
            }
        }
    }

    func testEarlyDataIsThereAfterTheVerdict() async throws {
        try await withDeadline {
            let gate = Gate()
            let context = try Self.server { _ in
                await gate.wait()
                return true
            }
            let server = try await DtlsServer.onLoopback(context)
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(
                to: server.localAddress,
                context: Self.client(TestIdentity.client),
                serverName: "localhost"
            )
            let texts = (0..<5).map { "early \($0)" }
            for text in texts { try await near.send(text) }
            try await eventually("the application was asked") { gate.waiterCount == 1 }
            gate.open()
            let far = try await server.accept()
            for text in texts {
                let arrived = try await far.receiveText()
                XCTAssertEqual(arrived, text)
            }
            try await far.expectArrival(at: near)
            await client.close()
            await server.close()
        }
    }
}
