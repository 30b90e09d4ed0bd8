import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Questions that the application answers late, or never.
final class PendingQuestionTests: XCTestCase {
    private static let short = Duration.milliseconds(300)

    /// A client whose handshake waits for a verdict that never comes.
    func testAClientsHandshakeTimeGoesOnWhileTheVerdictIsPending() async throws {
        try await withDeadline {
            let gate = Gate()
            let server = try await DtlsServer.onLoopback(.presenting(TestIdentity.server))
            let context = try DtlsClientContext(
                .trustingTestRoot(),
                acceptsCertificates: { _ in
                    await gate.wait()
                    return true
                }
            )
            let client = try await DtlsClient.onLoopback()
            let address = server.localAddress
            let error = await failure {
                try await client.connect(to: address, context: context, serverName: "localhost", timeout: Self.short)
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            XCTAssertEqual(gate.waiterCount, 1)
            gate.open()
            await client.close()
            await server.close()
        }
    }

    /// The client is open already; it must not be left alone with an association that the server has given up.
    func testAServersHandshakeTimeGoesOnWhileTheVerdictIsPending() async throws {
        try await withDeadline {
            let gate = Gate()
            var configuration = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.server)
            configuration.handshakeTimeout = Self.short
            let context = try DtlsServerContext(
                configuration,
                clientCertificates: .required,
                acceptsCertificates: { _ in
                    await gate.wait()
                    return true
                }
            )
            let logs = LogCollector()
            let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: context, logger: logs.logger)
            let client = try await DtlsClient.onLoopback()
            let clientContext = try DtlsClientContext(.trustingTestRoot(identity: TestIdentity.client))
            let address = server.localAddress
            let near = try await client.connect(to: address, context: clientContext, serverName: "localhost")
            try await eventually("the server gave up") {
                logs.messages.contains { $0.contains("not finished in time") }
            }
            // The answer that comes too late opens nothing.
            gate.open()
            let accepting = Task { try? await server.accept() }
            try await eventually(within: 3, "the client was told") { near.state == .closed }
            await client.close()
            await server.close()
            let connection = await accepting.value
            XCTAssertNil(connection)
        }
    }

    func testAServersHandshakeTimeGoesOnWhileAKeyIsLookedUp() async throws {
        try await withDeadline {
            let gate = Gate()
            let keys = DtlsPreSharedKeyStore { _ in
                await gate.wait()
                return DtlsSecretBytes(Credentials.key)
            }
            let context = try DtlsServerContext(.make { $0.handshakeTimeout = Self.short }, preSharedKeys: keys)
            let logs = LogCollector()
            let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: context, logger: logs.logger)
            let client = try await DtlsClient.onLoopback()
            let address = server.localAddress
            let connecting = Task { try await client.connect(to: address, context: .preSharedKey()) }
            try await eventually("the server gave up") {
                logs.messages.contains { $0.contains("not finished in time") }
            }
            gate.open()
            connecting.cancel()
            let connection = try? await connecting.value
            XCTAssertNil(connection, "the late key opened nothing")
            await client.close()
            await server.close()
        }
    }

    func testAClientsHandshakeTimeGoesOnWhileAKeyIsLookedUp() async throws {
        try await withDeadline {
            let gate = Gate()
            let context = try DtlsClientContext { _ in
                await gate.wait()
                return try? Credentials.preSharedKey()
            }
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let address = server.localAddress
            let error = await failure {
                try await client.connect(to: address, context: context, timeout: Self.short)
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            XCTAssertEqual(gate.waiterCount, 1)
            gate.open()
            await client.close()
            await server.close()
        }
    }

    /// Two hundred look-ups of which none ends before all have begun: a server that did one after the other would never
    /// finish.
    func testLookUpsOfManyHandshakesRunSideBySide() async throws {
        try await withDeadline(seconds: 150) {
            // Two hundred key exchanges take minutes under a sanitizer on a busy machine.
            let count = ProofSize.isSanitized ? 40 : 200
            let barrier = Gate()
            let keys = DtlsPreSharedKeyStore { _ in
                await barrier.wait()
                return DtlsSecretBytes(Credentials.key)
            }
            let configuration = DtlsConfiguration.make { $0.handshakeTimeout = .seconds(120) }
            let server = try await DtlsServer.onLoopback(DtlsServerContext(configuration, preSharedKeys: keys))
            let echo = server.echo()
            let context = try DtlsClientContext.preSharedKey(nil, configuration)
            let address = server.localAddress
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<count {
                    group.addTask {
                        let client = try await DtlsClient.onLoopback()
                        let connection = try await client.connect(to: address, context: context)
                        try await connection.expectEcho("client \(index)")
                        await client.close()
                    }
                }
                group.addTask {
                    try await eventually(within: 120, "all look-ups had begun") { barrier.waiterCount == count }
                    barrier.open()
                }
                try await group.waitForAll()
            }
            await server.close()
            let served = await echo.value
            XCTAssertEqual(served, count)
        }
    }
}
