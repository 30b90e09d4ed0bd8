import DTLSCore
import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Resumption by ID, with sessions in a store.
final class SessionStoreTests: XCTestCase {
    /// A store that does what a test says.
    private final class ScriptedStore: DtlsSessionStore {
        let kept = DtlsInMemorySessionStore()
        let stored = Recorder<(session: DtlsStoredSession, lifetime: Duration)>()
        let asked = Recorder<[UInt8]>()
        /// What is answered, given the ID and what is kept under it.
        let answer: @Sendable ([UInt8], DtlsStoredSession?) async -> DtlsStoredSession?

        init(_ answer: @escaping @Sendable ([UInt8], DtlsStoredSession?) async -> DtlsStoredSession? = { $1 }) {
            self.answer = answer
        }

        func session(for id: [UInt8]) async -> DtlsStoredSession? {
            asked.add(id)
            return await answer(id, await kept.session(for: id))
        }

        func store(_ session: DtlsStoredSession, lifetime: Duration) async {
            await kept.store(session, lifetime: lifetime)
            stored.add((session, lifetime))
        }
    }

    private static func server(
        _ store: any DtlsSessionStore,
        lifetime: Duration = .seconds(60)
    ) throws -> DtlsServerContext {
        let keys = DtlsPreSharedKeyStore([try Credentials.preSharedKey()])
        return try DtlsServerContext(preSharedKeys: keys, resumption: .store(store, lifetime: lifetime))
    }

    func testASessionIsResumedByItsID() async throws {
        try await withDeadline {
            let store = ScriptedStore()
            let server = try await DtlsServer.onLoopback(Self.server(store))
            let session = try await server.firstSession(.preSharedKey())
            try await eventually("the session was stored") { store.stored.values.count == 1 }
            XCTAssertEqual(store.asked.values, [], "a client without a session asks for none")
            let stored = store.stored.values[0]
            XCTAssertEqual(stored.lifetime, .seconds(60))
            XCTAssertTrue((1...32).contains(stored.session.id.count))

            let meeting = try await Meeting(at: server, .preSharedKey(), session: session)
            XCTAssertTrue(try meeting.isResumed)
            XCTAssertEqual(meeting.far.negotiated.preSharedKeyIdentity, Array("client".utf8))
            try await meeting.exchange()
            await meeting.close()
            XCTAssertEqual(store.asked.values, [stored.session.id])
            await server.close()
        }
    }

    func testServersThatShareAStoreResumeEachOthersClients() async throws {
        try await withDeadline {
            let store = DtlsInMemorySessionStore()
            let one = try await DtlsServer.onLoopback(Self.server(store))
            let other = try await DtlsServer.onLoopback(Self.server(store))
            let session = try await one.firstSession(.preSharedKey())
            try await eventually("the session was stored") { store.count == 1 }
            let isResumed = try await other.resumes(session, .preSharedKey())
            XCTAssertTrue(isResumed)
            for server in [one, other] { await server.close() }
        }
    }

    func testAServerWithOtherDemandsDoesNotResumeFromTheSameStore() async throws {
        try await withDeadline {
            let store = DtlsInMemorySessionStore()
            let clientConfiguration = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.client)
            let client = try DtlsClientContext(clientConfiguration)
            var servers: [DtlsServer] = []
            for policy in [DtlsClientCertificatePolicy.none, .required] {
                let configuration = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.server)
                let context = try DtlsServerContext(
                    configuration,
                    clientCertificates: policy,
                    resumption: .store(store)
                )
                servers.append(try await .onLoopback(context))
            }
            let session = try await servers[0].firstSession(client)
            try await eventually("the session was stored") { store.count == 1 }
            let there = try await servers[1].resumes(session, client)
            XCTAssertFalse(there, "its client has shown no certificate")
            let here = try await servers[0].resumes(session, client)
            XCTAssertTrue(here)
            for server in servers { await server.close() }
        }
    }

    func testALateStoreDelaysOnlyTheClientThatAsks() async throws {
        try await withDeadline {
            let gate = Gate()
            let store = ScriptedStore { _, kept in
                await gate.wait()
                return kept
            }
            let server = try await DtlsServer.onLoopback(Self.server(store))
            let session = try await server.firstSession(.preSharedKey())
            try await eventually("the session was stored") { store.stored.values.count == 1 }

            let patient = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let address = server.localAddress
            let waiting = Task {
                try await patient.connect(to: address, context: context, serverName: "localhost", session: session)
            }
            try await eventually("the store was asked") { gate.waiterCount == 1 }
            let other = try await Meeting(at: server, context)
            try await other.exchange()
            XCTAssertEqual(gate.waiterCount, 1, "the other client came through while the store was silent")
            await other.close()

            gate.open()
            let near = try await waiting.value
            let far = try await server.accept()
            XCTAssertTrue(near.negotiated.isResumed)
            XCTAssertTrue(far.negotiated.isResumed)
            try await near.expectArrival(at: far)
            await patient.close()
            await server.close()
        }
    }

    func testAStoreThatNeverAnswersLosesOnlyItsClient() async throws {
        try await withDeadline {
            let gate = Gate()
            let store = ScriptedStore { _, kept in
                await gate.wait()
                return kept
            }
            let server = try await DtlsServer.onLoopback(Self.server(store))
            let session = try await server.firstSession(.preSharedKey())
            try await eventually("the session was stored") { store.stored.values.count == 1 }
            let client = try await DtlsClient.onLoopback()
            let error = await failure {
                try await client.connect(
                    to: server.localAddress,
                    context: .preSharedKey(),
                    serverName: "localhost",
                    timeout: .milliseconds(300),
                    session: session
                )
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            XCTAssertEqual(gate.waiterCount, 1)
            let other = try await Meeting(at: server, .preSharedKey())
            try await other.exchange()
            gate.open()
            await other.close()
            await client.close()
            await server.close()
        }
    }

    /// The handshake is a full one, whatever the store gives.
    private func assertHarmless(
        _ answer: @escaping @Sendable (DtlsSecretBytes) -> [UInt8]?,
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        try await withDeadline {
            let store = ScriptedStore { id, kept in
                guard let kept, let contents = answer(kept.contents) else { return nil }
                return DtlsStoredSession(id: id, contents: DtlsSecretBytes(contents))
            }
            let server = try await DtlsServer.onLoopback(Self.server(store))
            // Nobody needs the time; a handshake that dies is to be told soon.
            let client = try DtlsClientContext.preSharedKey(nil, .make { $0.handshakeTimeout = .seconds(5) })
            let session = try await server.firstSession(client)
            try await eventually("the session was stored") { store.stored.values.count == 1 }
            let isResumed = try await server.resumes(session, client)
            XCTAssertFalse(isResumed, file: file, line: line)
            XCTAssertEqual(store.asked.values.count, 1, file: file, line: line)
            await server.close()
        }
    }

    func testNothingFromAStoreIsHarmless() async throws {
        try await assertHarmless { _ in nil }
    }

    func testNoBytesFromAStoreAreHarmless() async throws {
        try await assertHarmless { _ in [] }
    }

    func testGarbageFromAStoreIsHarmless() async throws {
        var generator = SeededGenerator(seed: 8)
        let garbage = generator.bytes(300)
        try await assertHarmless { _ in garbage }
    }

    func testATruncatedSessionFromAStoreIsHarmless() async throws {
        try await assertHarmless { $0.copy.dropLast() }
    }

    func testAnotherSessionFromAStoreIsHarmless() async throws {
        try await withDeadline {
            let other = Lock<DtlsStoredSession?>(nil)
            let store = ScriptedStore { id, kept in
                // Under the right ID, but with another one's contents.
                other.withLock { $0 }.map { DtlsStoredSession(id: id, contents: $0.contents) } ?? kept
            }
            let server = try await DtlsServer.onLoopback(Self.server(store))
            let mine = try await server.firstSession(.preSharedKey())
            _ = try await server.firstSession(.preSharedKey())
            try await eventually("both were stored") { store.stored.values.count == 2 }
            let foreign = store.stored.values[1].session
            other.withLock { $0 = foreign }
            let isResumed = try await server.resumes(mine, .preSharedKey())
            XCTAssertFalse(isResumed)
            await server.close()
        }
    }

    // MARK: In memory

    private func stored(_ number: UInt8) -> DtlsStoredSession {
        DtlsStoredSession(id: [number], contents: DtlsSecretBytes([number, number]))
    }

    func testTheMemoryStoreKeepsTheMostRecentSessions() async throws {
        let store = DtlsInMemorySessionStore(capacity: 3)
        for number in UInt8(1)...200 {
            await store.store(stored(number), lifetime: .seconds(60))
            XCTAssertEqual(store.count, min(3, Int(number)))
        }
        for number in UInt8(198)...200 {
            let session = await store.session(for: [number])
            XCTAssertEqual(session?.id, [number])
            XCTAssertEqual(session?.contents, DtlsSecretBytes([number, number]))
        }
        let evicted = await store.session(for: [197])
        XCTAssertNil(evicted)
        let unknown = await store.session(for: [])
        XCTAssertNil(unknown)
    }

    func testTheMemoryStoreKeepsWhatIsStoredAgain() async throws {
        let store = DtlsInMemorySessionStore(capacity: 3)
        for number in UInt8(1)...3 { await store.store(stored(number), lifetime: .seconds(60)) }
        for _ in 0..<20 { await store.store(stored(1), lifetime: .seconds(60)) }
        // One came again and again; there is room for all three, and the last one stored is there in any case.
        let last = await store.session(for: [1])
        XCTAssertNotNil(last, "the session that was stored last is gone")
        XCTAssertLessThanOrEqual(store.count, 3)
    }

    /// A capacity that stands for no limit at all.
    func testTheMemoryStoreTakesTheLargestCapacity() async throws {
        let store = DtlsInMemorySessionStore(capacity: .max)
        for number in UInt8(1)...3 { await store.store(stored(number), lifetime: .seconds(60)) }
        XCTAssertEqual(store.count, 3)
    }

    func testTheMemoryStoreForgetsWhatHasExpired() async throws {
        let store = DtlsInMemorySessionStore()
        await store.store(stored(1), lifetime: .zero)
        await store.store(stored(2), lifetime: .seconds(60))
        let expired = await store.session(for: [1])
        XCTAssertNil(expired)
        let alive = await store.session(for: [2])
        XCTAssertNotNil(alive)
        XCTAssertEqual(store.count, 1)
    }
}
