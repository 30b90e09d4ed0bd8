import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Resumption by tickets: what a resumed association carries, whose tickets open, and sessions as bytes.
final class ResumptionTests: XCTestCase {
    private static func server(_ keys: DtlsTicketKeys) throws -> DtlsServerContext {
        let configuration = DtlsConfiguration.make { $0.identity = try? Credentials.localhost() }
        return try DtlsServerContext(configuration, resumption: .tickets(keys))
    }

    private static func client() throws -> DtlsClientContext {
        try .trusting(Credentials.localhost())
    }

    // MARK: What is carried over

    func testATicketIsResumedByDefaultAndCarriesThePeersCertificates() async throws {
        try await withDeadline {
            let identity = try TestIdentity.server
            let context = try DtlsServerContext(
                .make {
                    $0.identity = identity
                    $0.trust = try? TestIdentity.trust
                },
                clientCertificates: .required
            )
            let server = try await DtlsServer.onLoopback(context)
            let me = try TestIdentity.client
            let client = try DtlsClientContext(
                .make {
                    $0.identity = me
                    $0.trust = try? TestIdentity.trust
                }
            )
            let session = try await server.firstSession(client)
            let meeting = try await Meeting(at: server, client, session: session)
            XCTAssertTrue(meeting.near.negotiated.isResumed, "the client")
            XCTAssertTrue(meeting.far.negotiated.isResumed, "the server")
            XCTAssertEqual(meeting.near.negotiated.peerCertificates.first, identity.certificateChain[0])
            XCTAssertEqual(meeting.far.negotiated.peerCertificates.first, me.certificateChain[0])
            XCTAssertEqual(
                meeting.far.negotiated.peerPublicKeyFingerprint,
                me.certificateChain[0].publicKeyFingerprint
            )
            try await meeting.exchange()
            await meeting.close()
            await server.close()
        }
    }

    func testATicketCarriesThePreSharedKeyIdentity() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let identity = Array("client".utf8)
            let asked = Recorder<[UInt8]?>()
            let contexts = [
                try DtlsClientContext.preSharedKey(),
                try DtlsClientContext { hint in
                    asked.add(hint)
                    return try? Credentials.preSharedKey()
                },
            ]
            for context in contexts {
                let session = try await server.firstSession(context)
                let meeting = try await Meeting(at: server, context, session: session)
                XCTAssertTrue(try meeting.isResumed)
                XCTAssertEqual(meeting.near.negotiated.preSharedKeyIdentity, identity, "the client")
                XCTAssertEqual(meeting.far.negotiated.preSharedKeyIdentity, identity, "the server")
                try await meeting.exchange()
                await meeting.close()
            }
            XCTAssertEqual(asked.values.count, 1, "a resumed session needs no key")
            await server.close()
        }
    }

    func testASessionIsResumedAgainAndAgain() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(.preSharedKey())
            let context = try DtlsClientContext.preSharedKey()
            var session = try await server.firstSession(context)
            for round in 0..<3 {
                let meeting = try await Meeting(at: server, context, session: session)
                XCTAssertTrue(try meeting.isResumed, "round \(round)")
                session = try XCTUnwrap(meeting.near.session)
                await meeting.close()
            }
            await server.close()
        }
    }

    func testNothingIsResumedWhereTheServerDoesNotWantIt() async throws {
        try await withDeadline {
            let keys = DtlsPreSharedKeyStore([try Credentials.preSharedKey()])
            let server = try await DtlsServer.onLoopback(DtlsServerContext(preSharedKeys: keys, resumption: .none))
            let meeting = try await Meeting(at: server, .preSharedKey())
            XCTAssertNil(meeting.near.session)
            XCTAssertNil(meeting.far.session, "a server has none to give")
            try await meeting.exchange()
            await meeting.close()
            await server.close()
        }
    }

    func testAClosedConnectionHasNoSession() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let meeting = try await Meeting(at: server, .preSharedKey())
            XCTAssertNotNil(meeting.near.session)
            await meeting.close()
            XCTAssertNil(meeting.near.session)
            await server.close()
        }
    }

    // MARK: Keys

    func testServersThatShareSecretsResumeEachOthersClients() async throws {
        try await withDeadline {
            // Separate objects: only the secrets are shared, as among hosts.
            let one = try await DtlsServer.onLoopback(Self.server(.seeded(1)))
            let other = try await DtlsServer.onLoopback(Self.server(.seeded(1)))
            let client = try Self.client()
            let there = try await one.firstSession(client)
            let resumedThere = try await other.resumes(there, client)
            XCTAssertTrue(resumedThere)
            let back = try await other.firstSession(client)
            let resumedBack = try await one.resumes(back, client)
            XCTAssertTrue(resumedBack)
            for server in [one, other] { await server.close() }
        }
    }

    func testServersThatShareNothingMakeFullHandshakes() async throws {
        try await withDeadline {
            let one = try await DtlsServer.onLoopback(Self.server(.seeded(1)))
            let foreign = try await DtlsServer.onLoopback(Self.server(.seeded(2)))
            let automatic = try await DtlsServer.onLoopback(.presenting(Credentials.localhost()))
            let client = try Self.client()
            let session = try await one.firstSession(client)
            for server in [foreign, automatic] {
                let isResumed = try await server.resumes(session, client)
                XCTAssertFalse(isResumed)
            }
            for server in [one, foreign, automatic] { await server.close() }
        }
    }

    func testAnOldTicketOpensForAsLongAsItsSecretIsThere() async throws {
        try await withDeadline {
            let keys = try DtlsTicketKeys.seeded(1)
            let server = try await DtlsServer.onLoopback(Self.server(keys))
            let client = try Self.client()
            let session = try await server.firstSession(client)

            try keys.replace(secrets: [DtlsTicketKeys.secret(2), DtlsTicketKeys.secret(1)])
            let meeting = try await Meeting(at: server, client, session: session)
            XCTAssertTrue(try meeting.isResumed, "the previous secret is there")
            let renewed = try XCTUnwrap(meeting.near.session)
            await meeting.close()

            try keys.replace(secrets: [DtlsTicketKeys.secret(2)])
            let old = try await server.resumes(session, client)
            XCTAssertFalse(old, "the old ticket's secret is gone")
            let new = try await server.resumes(renewed, client)
            XCTAssertTrue(new, "the ticket was renewed under the newest secret")
            await server.close()
        }
    }

    func testSecretsOfAWrongLengthAreRefused() async throws {
        let keys = try DtlsTicketKeys.seeded(1)
        for count in [0, 1, 48, 79, 81] {
            let secrets = [DtlsTicketKeys.secret(1), DtlsSecretBytes([UInt8](repeating: 7, count: count))]
            let made = await failure { try DtlsTicketKeys(secrets: secrets) }
            XCTAssertEqual(made?.code, .invalidConfiguration, "\(count) bytes")
            let replaced = await failure { try keys.replace(secrets: secrets) }
            XCTAssertEqual(replaced?.code, .invalidConfiguration, "\(count) bytes")
        }
        let none = await failure { try DtlsTicketKeys(secrets: []) }
        XCTAssertEqual(none?.code, .invalidConfiguration)
        for interval in [Duration.seconds(59), .seconds(604_801)] {
            let error = await failure { try DtlsTicketKeys(rotatingEvery: interval) }
            XCTAssertEqual(error?.code, .invalidConfiguration, "\(interval)")
        }
        XCTAssertNotEqual(try DtlsTicketKeys.randomSecret(), try DtlsTicketKeys.randomSecret())
    }

    func testLifetimesOutOfTheirRangeAreRefused() async throws {
        let keys = DtlsPreSharedKeyStore([try Credentials.preSharedKey()])
        let week = Duration.seconds(604_800)
        for lifetime in [Duration.zero, .milliseconds(999), week + .milliseconds(500), week + .seconds(1)] {
            for resumption in [
                DtlsServerResumption.tickets(try .seeded(1), lifetime: lifetime),
                .store(DtlsInMemorySessionStore(), lifetime: lifetime),
            ] {
                let error = await failure { try DtlsServerContext(preSharedKeys: keys, resumption: resumption) }
                XCTAssertEqual(error?.code, .invalidConfiguration, "\(lifetime)")
            }
        }
    }

    // MARK: Bytes

    func testASessionSurvivesAsBytes() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let session = try await server.firstSession(.preSharedKey())
            let copy = try DtlsSession(bytes: session.bytes)
            XCTAssertEqual(copy.bytes, session.bytes)
            XCTAssertEqual(copy.expiresAt, session.expiresAt)
            XCTAssertFalse(copy.isExpired)
            // Another context that demands the same, as after a restart.
            let isResumed = try await server.resumes(copy, .preSharedKey())
            XCTAssertTrue(isResumed)
            await server.close()
        }
    }

    func testBytesThatAreNoSessionAreRefused() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let bytes = try await server.firstSession(.preSharedKey()).bytes.copy
            await server.close()
            var generator = SeededGenerator(seed: 20)
            var cases = [[], Array("DTLSses1".utf8), [UInt8](repeating: 0, count: 300)]
            cases += (0..<bytes.count).map { Array(bytes[..<$0]) }
            cases += (0..<100).map { _ in
                // The magic and random bytes.
                Array(bytes[..<8]) + generator.bytes(200)
            }
            cases.append([UInt8(ascii: "X")] + bytes.dropFirst())
            for (index, bad) in cases.enumerated() {
                let error = await failure { try DtlsSession(bytes: DtlsSecretBytes(bad)) }
                XCTAssertEqual(error?.code, .invalidConfiguration, "case \(index), \(bad.count) bytes")
                guard error != nil else { break }
            }
            XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
        }
    }

    func testBytesBehindASessionAreRefused() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let bytes = try await server.firstSession(.preSharedKey()).bytes.copy
            await server.close()
            let error = await failure { try DtlsSession(bytes: DtlsSecretBytes(bytes + [0])) }
            XCTAssertEqual(error?.code, .invalidConfiguration)
        }
    }

    func testAnExpiredSessionIsNotOffered() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            var bytes = try await server.firstSession(.preSharedKey()).bytes.copy
            // The expiry is the eight bytes behind magic and fingerprint.
            bytes.replaceSubrange(40..<48, with: [0, 0, 0, 0, 0, 0, 0, 1])
            let expired = try DtlsSession(bytes: DtlsSecretBytes(bytes))
            XCTAssertTrue(expired.isExpired)
            let isResumed = try await server.resumes(expired, .preSharedKey())
            XCTAssertFalse(isResumed)
            await server.close()
        }
    }
}
