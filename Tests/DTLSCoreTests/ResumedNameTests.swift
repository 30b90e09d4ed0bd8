import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// A session belongs to the server's name that it was made for (RFC 6066 §3).
final class ResumedNameTests: XCTestCase {
    func testASessionIsResumedForItsOwnNameAlone() throws {
        var settings = DtlsServerSettings()
        settings.choosesIdentity = true
        settings.resumption = .tickets(try DtlsTicketKeys())
        let context = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)
        let first = try meeting("localhost", context)
        XCTAssertEqual(first.server?.negotiated?.serverName, "localhost")
        let session = try XCTUnwrap(first.client.session)

        for name in ["localhost", "LOCALHOST"] {
            let same = try meeting(name, context, resuming: session)
            XCTAssertEqual(same.server?.negotiated?.isResumed, true, name)
            XCTAssertEqual(
                same.server?.negotiated?.serverName?.lowercased(),
                "localhost",
                "known to a server that resumes, too"
            )
        }
        for name in ["a.example.org", nil] {
            let other = try meeting(name, context, resuming: session)
            XCTAssertTrue(other.isOpen)
            XCTAssertEqual(other.server?.negotiated?.isResumed, false, name ?? "without a name")
            XCTAssertEqual(other.server?.negotiated?.serverName, name)
        }
    }

    /// Runs a handshake of a client that asks for `name`, and that does not mind whom a session was made with.
    private func meeting(
        _ name: String?,
        _ context: DtlsEngineContext,
        resuming session: DtlsSession? = nil
    ) throws -> DtlsEnginePair {
        let client = try DtlsEngineContext(
            client: DtlsConfiguration(),
            verification: .insecureAcceptAnyCertificate
        )
        let engine = try DtlsEngine(client: client, serverName: name)
        if let session {
            var bytes = session.bytes.withUnsafeBytes { Array($0) }
            let fingerprint = try XCTUnwrap(engine.attached).sessionFingerprint
            bytes.replaceSubrange(8..<(8 + fingerprint.count), with: fingerprint)
            XCTAssertTrue(try engine.resume(DtlsSession(bytes: DtlsSecretBytes(bytes))))
        }
        let pair = try DtlsEnginePair(client: engine, server: context, seed: 1)
        let identity = try TestIdentity.server
        pair.onEvent = { _, event, engine in
            if case .helloReceived = event { engine.answer(identity: identity) }
        }
        let now = ContinuousClock.now
        pair.start(now: now)
        for _ in 0..<10 { pair.advance(to: now) }
        return pair
    }
}
