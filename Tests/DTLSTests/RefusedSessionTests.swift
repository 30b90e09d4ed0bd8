import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// A client whose certificate the server's application refuses has finished its handshake, and has a session. It must
/// be good for nothing.
final class RefusedSessionTests: XCTestCase {
    /// Serves clients with the resumption given and refuses every certificate; then offers the session of the refused
    /// one.
    private func assertStaysOutside(
        _ resumption: DtlsServerResumption,
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        try await withDeadline {
            let asked = Recorder<Int>()
            var configuration = DtlsConfiguration()
            configuration.identity = try TestIdentity.server
            configuration.trust = try TestIdentity.trust
            let context = try DtlsServerContext(
                configuration,
                clientCertificates: .required,
                acceptsCertificates: { certificates in
                    asked.add(certificates.certificates.count)
                    return false
                },
                resumption: resumption
            )
            let server = try await DtlsServer.onLoopback(context)
            configuration.identity = try TestIdentity.client
            let clientContext = try DtlsClientContext(configuration)
            let client = try await DtlsClient.onLoopback()
            // Its session is there for as long as the refusal is on its way; a client that is no friend keeps it in any
            // case.
            let relay = try Relay(to: server.localAddress)
            // Alerts of the server do not arrive.
            relay.rule { $0.direction == .toClient && $0.bytes.first == 21 ? [] : [$0.bytes] }
            let near = try await client.connect(to: relay.address, context: clientContext, serverName: "localhost")
            let session = near.session
            try await eventually("the application was asked") { asked.values.count == 1 }
            near.close()

            let second = try await DtlsClient.onLoopback()
            let (outcomes, report) = AsyncStream<String>.makeStream()
            let accepting = Task {
                guard let connection = try? await server.accept() else { return }
                report.yield("let in, resumed: \(connection.negotiated.isResumed)")
                _ = await connection.waitUntilClosed()
            }
            let connecting = Task {
                let again = try? await second.connect(
                    to: server.localAddress,
                    context: clientContext,
                    serverName: "localhost",
                    session: session
                )
                if let again { _ = await again.waitUntilClosed() }
                report.yield("refused")
            }
            var outcome = outcomes.makeAsyncIterator()
            let first = await outcome.next()
            XCTAssertEqual(first, "refused", file: file, line: line)
            await client.close()
            await second.close()
            await server.close()
            await accepting.value
            await connecting.value
        }
    }

    func testItsTicketDoesNotLetItIn() async throws {
        try await assertStaysOutside(.automatic)
    }

    /// Neither in a store nor in tickets under the application's keys is a session kept where the application has the
    /// last word.
    func testSessionsAndVerdictsDoNotGoTogether() throws {
        let keys = try DtlsTicketKeys()
        for resumption in [DtlsServerResumption.store(DtlsInMemorySessionStore()), .tickets(keys)] {
            XCTAssertThrowsError(
                try DtlsServerContext(
                    .make { $0.identity = try? Credentials.localhost() },
                    clientCertificates: .required,
                    acceptsCertificates: { _ in true },
                    resumption: resumption
                )
            ) { XCTAssertEqual(($0 as? DtlsError)?.code, .invalidConfiguration) }
        }
    }
}
