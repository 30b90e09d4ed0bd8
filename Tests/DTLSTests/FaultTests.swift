import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Faults of other libraries that nothing else here tests by its nature. CONTRIBUTING.md has the whole list, by number.
final class FaultTests: XCTestCase {
    /// What a loaded machine gets done in its time.
    private static let patient = DtlsConfiguration.make {
        $0.handshakeTimeout = .seconds(100)
        $0.cipherSuites = .suites([.pskWithAES128GCM])
    }

    /// Races between a hello and the table of connections: none is lost, none gets another's datagrams.
    func testFault12AThousandHellosAtOnceGiveAThousandConnections() async throws {
        try await withDeadline(seconds: 120) {
            let count = ProofSize.isSanitized ? 100 : 1_000
            let server = try await DtlsServer.onLoopback(.preSharedKey(Self.patient))
            let echo = server.echo()
            let context = try DtlsClientContext.preSharedKey(nil, Self.patient)
            var clients: [DtlsClient] = []
            for _ in 0..<count { clients.append(try await .onLoopback()) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, client) in clients.enumerated() {
                    group.addTask {
                        let connection = try await client.connect(to: server.localAddress, context: context)
                        // A datagram may be lost in a socket's buffer that a thousand peers fill: it is sent until an
                        // answer comes.
                        let answers = Task { try await connection.receiveText() }
                        try await eventually(within: 60, "an echo came back") {
                            try await connection.send("client \(index)")
                            try await Task.sleep(for: .milliseconds(100))
                            return connection.statistics.payloadsReceived > 0
                        }
                        let answer = try await answers.value
                        XCTAssertEqual(answer, "client \(index)")
                    }
                }
                try await group.waitForAll()
            }
            XCTAssertEqual(server.statistics.handshakesCompleted, count)
            XCTAssertEqual(server.statistics.handshakesFailed, [:])
            for client in clients { await client.close() }
            await server.close()
            let served = await echo.value
            XCTAssertEqual(served, count)
        }
    }

    /// Failures that leave something behind: after many, a server is as good as new.
    func testFault18AfterManyFailuresAGoodClientConnects() async throws {
        let count = ProofSize.of(2_000, otherwise: 200)
        try await withDeadline(seconds: ProofSize.deadline) {
            let server = try await DtlsServer.onLoopback(
                .preSharedKey(.make { $0.retransmission = .patient }, unknownIdentity: .alert)
            )
            let echo = server.echo()
            let stranger = try Credentials.preSharedKey("nobody")
            let context = try DtlsClientContext.preSharedKey(
                stranger,
                .make { $0.retransmission = .patient }
            )
            for batch in stride(from: 0, to: count, by: 50) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in batch..<Swift.min(batch + 50, count) {
                        group.addTask {
                            let client = try await DtlsClient.onLoopback()
                            let error = await failure {
                                try await client.connect(to: server.localAddress, context: context)
                            }
                            XCTAssertEqual(error?.code, .authenticationFailed)
                            await client.close()
                        }
                    }
                    try await group.waitForAll()
                }
            }
            try await eventually("nothing is under way") { server.statistics.connectionsHandshaking == 0 }
            XCTAssertEqual(server.statistics.handshakesFailed, [.authenticationFailed: count])
            let client = try await DtlsClient.onLoopback()
            let connection = try await client.connect(to: server.localAddress, context: .preSharedKey())
            try await connection.expectEcho("none the worse for it")
            XCTAssertEqual(server.statistics.connectionsOpen, 1)
            XCTAssertEqual(server.statistics.handshakesCompleted, 1)
            await client.close()
            await server.close()
            _ = await echo.value
        }
    }
}
