import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Revocation lists, and stapled OCSP responses.
final class RevocationTests: XCTestCase {
    // X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CERT_REVOKED
    private static let noList = 3
    private static let isRevoked = 23

    /// How a client with `change` fails at a server with `identity`, if it does.
    private static func attempt(
        at identity: DtlsIdentity,
        _ change: (inout DtlsConfiguration) -> Void
    ) async throws -> DtlsError? {
        var configuration = DtlsConfiguration()
        change(&configuration)
        let server = try await DtlsServer.onLoopback(.presenting(identity))
        defer { Task { await server.close() } }
        do {
            let meeting = try await Meeting(at: server, DtlsClientContext(configuration))
            try await meeting.exchange()
            await meeting.close()
            return nil
        } catch let error as DtlsError {
            return error
        }
    }

    // MARK: Lists

    func testAClientRefusesARevokedServer() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            let lists = try authority.revocationLists()
            XCTAssertEqual(lists.count, 1)
            let good = try await Self.attempt(at: authority.good) { $0.trust = authority.trust(lists) }
            XCTAssertNil(good)
            let revoked = try await Self.attempt(at: authority.revoked) { $0.trust = authority.trust(lists) }
            XCTAssertEqual(revoked?.code, .certificateRejected)
            XCTAssertEqual(revoked?.certificateVerdict?.code, Self.isRevoked)
            let unlisted = try await Self.attempt(at: authority.revoked) { $0.trust = authority.trust() }
            XCTAssertNil(unlisted, "without a list nobody is revoked")
        }
    }

    func testAServerRefusesARevokedClient() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            var configuration = DtlsConfiguration()
            configuration.identity = try TestIdentity.server
            configuration.trust = authority.trust(try authority.revocationLists())
            let context = try DtlsServerContext(configuration, clientCertificates: .required)
            let server = try await DtlsServer.onLoopback(context)
            let friend = try DtlsClientContext(.trustingTestRoot(identity: authority.good))
            let meeting = try await Meeting(at: server, friend)
            try await meeting.exchange()
            await meeting.close()
            let outlaw = try DtlsClientContext(.trustingTestRoot(identity: authority.revoked))
            let error = await failure { try await Meeting(at: server, outlaw).close() }
            XCTAssertEqual(error?.code, .certificateRejected)
            XCTAssertEqual(error?.alertReceived?.code, .certificateRevoked)
            await server.close()
        }
    }

    func testAMissingListIsNoExcuse() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            // A list, but of another issuer.
            let lists = try TestAuthority("Another Root").revocationLists()
            let error = try await Self.attempt(at: authority.good) { $0.trust = authority.trust(lists) }
            XCTAssertEqual(error?.code, .certificateRejected)
            XCTAssertEqual(error?.certificateVerdict?.code, Self.noList)
        }
    }

    /// What OpenSSL has against a certificate must not be passed over by a session that was made before the list was
    /// there.
    func testASessionDoesNotGoRoundARevocationList() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            let lists = try authority.revocationLists()
            let server = try await DtlsServer.onLoopback(.presenting(authority.revoked))
            let trusting = try DtlsClientContext(.make { $0.trust = authority.trust() })
            let session = try await server.firstSession(trusting)
            let strict = try DtlsClientContext(.make { $0.trust = authority.trust(lists) })
            let error = await failure { try await Meeting(at: server, strict, session: session).close() }
            XCTAssertEqual(error?.code, .certificateRejected)
            await server.close()
        }
    }

    /// The same on the side of a server that gets a list and keeps its ticket keys.
    func testATicketDoesNotGoRoundAServersRevocationList() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            let lists = try authority.revocationLists()
            func context(_ lists: [DtlsRevocationList]) throws -> DtlsServerContext {
                var configuration = DtlsConfiguration()
                configuration.identity = try TestIdentity.server
                configuration.trust = authority.trust(lists)
                let keys = try DtlsTicketKeys.seeded(5)
                return try DtlsServerContext(configuration, clientCertificates: .required, resumption: .tickets(keys))
            }
            let server = try await DtlsServer.onLoopback(context([]))
            let outlaw = try DtlsClientContext(.trustingTestRoot(identity: authority.revoked))
            let session = try await server.firstSession(outlaw)
            server.replaceContext(try context(lists))
            let error = await failure { try await Meeting(at: server, outlaw, session: session).close() }
            XCTAssertEqual(error?.code, .certificateRejected)
            await server.close()
        }
    }

    func testTextsThatAreNoListsAreRefused() async throws {
        for text in ["", "nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
            let error = await failure { try DtlsRevocationList.lists(pem: text) }
            XCTAssertEqual(error?.code, .invalidCertificate)
        }
        let missing = await failure { try DtlsRevocationList.lists(pemFile: "/nonexistent") }
        XCTAssertEqual(missing?.code, .fileUnreadable)
        XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
    }

    /// What comes behind a list that is broken must not be missing in silence.
    func testABrokenListAmongOthersIsRefused() async throws {
        let authority = try TestAuthority()
        let list = try authority.revocationListText()
        XCTAssertEqual(try DtlsRevocationList.lists(pem: "# one\n\(list)# two\n\(list)").count, 2)
        let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
        let error = await failure { try DtlsRevocationList.lists(pem: list + broken + list) }
        XCTAssertEqual(error?.code, .invalidCertificate)
        XCTAssertTrue("\(error?.description ?? "")".contains("revocation list 2"), "\(String(describing: error))")
        XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
    }

    // MARK: Stapled responses

    func testStapledResponses() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            let good = try authority.ocspResponse("good")
            let revoked = try authority.ocspResponse("revoked")
            // From 3.6 on OpenSSL sends nothing that is not about the certificate; then it is as if there were none.
            let foreign: Set<DtlsStapledStatusPolicy> =
                DtlsEngineContext.linkedVersion >= (3, 6) ? [.ignored, .checked] : [.ignored]
            // Whose certificate, what it staples, whom the policies let in.
            let cases: [(String, DtlsIdentity, [UInt8]?, Set<DtlsStapledStatusPolicy>)] = [
                ("good", authority.good, good, [.ignored, .checked, .required]),
                ("missing", authority.good, nil, [.ignored, .checked]),
                ("empty", authority.good, [], [.ignored, .checked]),
                ("revoked", authority.revoked, revoked, [.ignored]),
                ("of another certificate", authority.revoked, good, foreign),
                ("garbage", authority.good, [1, 2, 3], foreign),
                // The last bytes are those of the signature.
                ("tampered", authority.good, good.dropLast(8) + [UInt8](repeating: 0, count: 8), [.ignored]),
            ]
            for (name, identity, response, accepted) in cases {
                var identity = identity
                identity.ocspResponse = response
                for policy in [DtlsStapledStatusPolicy.ignored, .checked, .required] {
                    let error = try await Self.attempt(at: identity) {
                        $0.trust = authority.trust()
                        $0.stapledStatus = policy
                    }
                    let what = "\(name), \(policy): \(String(describing: error))"
                    XCTAssertEqual(error == nil, accepted.contains(policy), what)
                    if let error {
                        XCTAssertEqual(error.code, .certificateRejected, what)
                        XCTAssertNotNil(error.certificateVerdict, what)
                    }
                }
            }
        }
    }

    /// Pins alone decide, and say nothing of an issuer; neither does a certificate that is trusted itself.
    func testAResponseThatNobodyCanJudgeIsAsIfThereWereNone() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            for name in ["good", "revoked"] {
                var identity = authority.good
                identity.ocspResponse = try authority.ocspResponse(name)
                let leaf = identity.certificateChain[0]
                for trust in [DtlsTrust.pins([.certificate(leaf.sha256Fingerprint)]), .certificates([leaf])] {
                    let checked = try await Self.attempt(at: identity) {
                        $0.trust = trust
                        $0.stapledStatus = .checked
                    }
                    XCTAssertNil(checked)
                }
                let required = try await Self.attempt(at: identity) {
                    $0.trust = .certificates([leaf])
                    $0.stapledStatus = .required
                }
                XCTAssertEqual(required?.code, .certificateRejected)
            }
            // A server sends its issuer along.
            var identity = authority.good
            identity.ocspResponse = try authority.ocspResponse("good")
            let (leaf, root) = (identity.certificateChain[0], authority.root.certificateChain[0])
            identity = try DtlsIdentity(certificateChain: [leaf, root], privateKey: identity.privateKey)
            identity.ocspResponse = try authority.ocspResponse("good")
            let withIssuer = try await Self.attempt(at: identity) {
                $0.trust = .certificates([leaf])
                $0.stapledStatus = .checked
            }
            XCTAssertNil(withIssuer)
            let contradiction = await failure {
                try DtlsClientContext(
                    .make {
                        $0.trust = .pins([.certificate(leaf.sha256Fingerprint)])
                        $0.stapledStatus = .required
                    }
                )
            }
            XCTAssertEqual(contradiction?.code, .invalidConfiguration)
        }
    }

    /// A response about a self-signed certificate, or about none at all, keeps no client waiting.
    func testAResponseThatCannotBeSentDelaysNobody() async throws {
        try await withDeadline {
            var identity = try Credentials.localhost()
            identity.ocspResponse = try TestAuthority().ocspResponse("good")
            let chain = identity.certificateChain
            let error = try await Self.attempt(at: identity) {
                $0.trust = .certificates(chain)
                $0.stapledStatus = .required
            }
            XCTAssertEqual(error?.code, .certificateRejected)
            let ignored = try await Self.attempt(at: identity) { $0.trust = .certificates(chain) }
            XCTAssertNil(ignored)
        }
    }

    /// The demand holds where no name is verified, too.
    func testAStapledStatusIsRequiredWhateverTheName() throws {
        var options = try PairOptions.certificates()
        options.client.stapledStatus = .required
        options.verification = .insecureIgnoreServerName
        options.serverName = nil
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertNil(pair.client.finished, "no response was asked for")
        XCTAssertEqual(pair.client.failure?.code, .certificateRejected)
    }

    func testAChosenIdentityStaplesItsOwnResponse() async throws {
        try await withDeadline {
            let authority = try TestAuthority()
            var chosen = authority.good
            chosen.ocspResponse = try authority.ocspResponse("good")
            let identity = chosen
            let context = try DtlsServerContext(identityFor: { _ in identity })
            let server = try await DtlsServer.onLoopback(context)
            let client = try DtlsClientContext(
                .make {
                    $0.trust = authority.trust()
                    $0.stapledStatus = .required
                }
            )
            let meeting = try await Meeting(at: server, client)
            try await meeting.exchange()
            await meeting.close()
            await server.close()
        }
    }
}
