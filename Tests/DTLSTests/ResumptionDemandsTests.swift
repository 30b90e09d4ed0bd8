import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// A session is good only where the same is demanded as when it was made. Elsewhere the handshake is a full one, and
/// succeeds.
final class ResumptionDemandsTests: XCTestCase {
    private static let names = ["localhost", "other.example.org", "127.0.0.1"]

    private static func certificateServer(
        clientCertificates: DtlsClientCertificatePolicy = .none,
        _ change: (inout DtlsConfiguration) -> Void = { _ in }
    ) throws -> DtlsServerContext {
        var configuration = DtlsConfiguration()
        configuration.identity = try TestIdentity.server
        configuration.trust = try TestIdentity.trust
        change(&configuration)
        let keys = try DtlsTicketKeys.seeded(3)
        return try DtlsServerContext(
            configuration,
            clientCertificates: clientCertificates,
            resumption: .tickets(keys)
        )
    }

    private static func client(_ change: (inout DtlsConfiguration) -> Void = { _ in }) throws -> DtlsClientContext {
        var configuration = DtlsConfiguration()
        configuration.trust = try TestIdentity.trust
        change(&configuration)
        return try DtlsClientContext(configuration)
    }

    /// Makes a session with one context and offers it with another.
    private func assertNotResumed(
        _ server: DtlsServerContext,
        _ first: DtlsClientContext,
        _ second: DtlsClientContext,
        names: (first: String, second: String) = ("localhost", "localhost"),
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(server)
            let session = try await server.firstSession(first, name: names.first, file: file, line: line)
            let control = try await server.resumes(session, first, name: names.first, file: file, line: line)
            XCTAssertTrue(control, "under the same demands it is resumed", file: file, line: line)
            let other = try await server.resumes(session, second, name: names.second, file: file, line: line)
            XCTAssertFalse(other, "under other demands it is not", file: file, line: line)
            await server.close()
        }
    }

    // MARK: Clients

    func testForAnotherServerName() async throws {
        let context = try Self.client()
        try await assertNotResumed(
            Self.certificateServer(),
            context,
            context,
            names: ("localhost", "other.example.org")
        )
    }

    func testUnderAnotherTrust() async throws {
        try await assertNotResumed(
            Self.certificateServer(),
            Self.client(),
            Self.client { $0.trust = (try? TestIdentity.trust).map { .certificates($0.certificates, andSystem: true) } }
        )
    }

    func testUnderPins() async throws {
        let pin = DtlsPin.certificate(try TestIdentity.server.certificateChain[0].sha256Fingerprint)
        try await assertNotResumed(Self.certificateServer(), Self.client(), Self.client { $0.trust = .pins([pin]) })
    }

    func testUnderAnotherVerification() async throws {
        let loose = try DtlsClientContext(
            .make { $0.trust = try? TestIdentity.trust },
            verification: .insecureIgnoreServerName
        )
        try await assertNotResumed(Self.certificateServer(), loose, Self.client())
    }

    func testWithAnotherIdentity() async throws {
        let identity = try TestIdentity.client
        let other = try TestIdentity.rsaClient
        try await assertNotResumed(
            Self.certificateServer(clientCertificates: .required),
            Self.client { $0.identity = identity },
            Self.client { $0.identity = other }
        )
    }

    func testWithAnotherPreSharedKey() async throws {
        let keys = DtlsPreSharedKeyStore([
            try Credentials.preSharedKey(), try Credentials.preSharedKey("other", key: Array("another key".utf8)),
        ])
        try await assertNotResumed(
            DtlsServerContext(preSharedKeys: keys),
            .preSharedKey(),
            .preSharedKey(Credentials.preSharedKey("other", key: Array("another key".utf8)))
        )
    }

    func testWhereTheApplicationIsAsked() async throws {
        let asked = Recorder<Int>()
        let configuration = DtlsConfiguration.make { $0.trust = try? TestIdentity.trust }
        let asking = try DtlsClientContext(configuration) { certificates in
            asked.add(certificates.certificates.count)
            return true
        }
        try await assertNotResumed(Self.certificateServer(), Self.client(), asking)
        XCTAssertEqual(asked.values.count, 1, "a full handshake asks")
    }

    /// A session that was made without a look at the stapled OCSP response must not stand in for one.
    func testWhereAStapledStatusIsRequired() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(Self.certificateServer())
            let session = try await server.firstSession(Self.client())
            let strict = try Self.client { $0.stapledStatus = .required }
            let error = await failure { try await Meeting(at: server, strict, session: session).close() }
            XCTAssertEqual(error?.code, .certificateRejected, "the session went round the demand for an OCSP response")
            await server.close()
        }
    }

    // MARK: Servers

    func testAtAServerWithOtherDemandsAndTheSameTicketKeys() async throws {
        try await withDeadline {
            let identity = try TestIdentity.client
            let client = try Self.client { $0.identity = identity }
            let policies = [DtlsClientCertificatePolicy.none, .requested, .required]
            for first in policies {
                let from = try await DtlsServer.onLoopback(Self.certificateServer(clientCertificates: first))
                let session = try await from.firstSession(client)
                for second in policies {
                    let to = try await DtlsServer.onLoopback(Self.certificateServer(clientCertificates: second))
                    let meeting = try await Meeting(at: to, client, session: session)
                    XCTAssertEqual(try meeting.isResumed, first == second, "from \(first) to \(second)")
                    XCTAssertEqual(meeting.far.negotiated.peerCertificates.isEmpty, second == .none, "\(second)")
                    try await meeting.exchange()
                    await meeting.close()
                    await to.close()
                }
                await from.close()
            }
        }
    }

    func testAtAServerWithOtherTrustAndTheSameTicketKeys() async throws {
        try await withDeadline {
            let identity = try TestIdentity.client
            let client = try Self.client { $0.identity = identity }
            let from = try await DtlsServer.onLoopback(Self.certificateServer(clientCertificates: .required))
            let session = try await from.firstSession(client)
            let stranger = try Credentials.localhost()
            let to = try await DtlsServer.onLoopback(
                Self.certificateServer(clientCertificates: .required) {
                    $0.trust = .certificates(stranger.certificateChain)
                }
            )
            let error = await failure { try await Meeting(at: to, client, session: session).close() }
            XCTAssertEqual(error?.code, .certificateRejected)
            for server in [from, to] { await server.close() }
        }
    }
}
