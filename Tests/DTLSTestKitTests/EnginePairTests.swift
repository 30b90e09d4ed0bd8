import DTLSCore
import DTLSTestKit
import DTLSTestSupport
import XCTest

/// Two engines over bad links, as a user would write it.
final class EnginePairTests: XCTestCase {
    private func pair(
        _ conditions: DtlsLinkConditions = DtlsLinkConditions(),
        seed: UInt64 = 1,
        usesGate: Bool = true
    ) throws -> DtlsEnginePair {
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        let pair = try DtlsEnginePair(
            client: DtlsEngine(
                client: DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true),
                serverName: nil,
                preSharedKey: TestKey.right
            ),
            server: DtlsEngineContext(server: DtlsConfiguration(), settings: settings),
            conditions: conditions,
            seed: seed,
            usesGate: usesGate
        )
        pair.onEvent = { role, event, engine in
            guard role == .server, case .preSharedKeyRequested(.identity(let identity, _)) = event else { return }
            engine.answer(TestKey.table[identity].map { .key(DtlsSecretBytes($0)) } ?? .unknown)
        }
        return pair
    }

    /// A pair that could never connect is none, with a gate either.
    func testAContextOfTheWrongRoleIsRefused() throws {
        for usesGate in [true, false] {
            let context = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
            XCTAssertThrowsError(
                try DtlsEnginePair(
                    client: DtlsEngine(client: context, serverName: nil, preSharedKey: TestKey.right),
                    server: context,
                    seed: 1,
                    usesGate: usesGate
                )
            ) { XCTAssertEqual(($0 as? DtlsError)?.code, .invalidConfiguration) }
        }
    }

    /// With a made-up clock: half a minute of delay in no time.
    func testAMadeUpClockCarriesDatagramsAndDeadlines() throws {
        for usesGate in [true, false] {
            let pair = try pair(usesGate: usesGate)
            var now = ContinuousClock.now
            pair.start(now: now)
            pair.advance(to: now)
            XCTAssertTrue(pair.isOpen)
            pair.toServer.conditions.delay = .seconds(30) ... .seconds(30)
            try pair.send([1, 2, 3], from: .client, now: now)
            pair.advance(to: now + .seconds(29))
            XCTAssertEqual(pair.serverPayloads, [])
            now = try XCTUnwrap(pair.nextDeadline)
            pair.advance(to: now)
            XCTAssertEqual(pair.serverPayloads, [[1, 2, 3]])
            try pair.send([4], from: .server, now: now)
            pair.advance(to: now)
            XCTAssertEqual(pair.clientPayloads, [[4]])
            pair.close(.server, now: now)
            pair.advance(to: now)
            XCTAssertEqual(pair.client.closeReason, .closedByPeer)
            XCTAssertEqual(pair.server?.closeReason, .closedLocally)
        }
        let silent = try pair()
        silent.toServer.conditions.loss = 1
        let now = ContinuousClock.now
        silent.start(now: now)
        silent.advance(to: now + .seconds(30))
        guard case .failed(let error)? = silent.client.closeReason else { return XCTFail("not failed") }
        XCTAssertEqual(error.code, .handshakeTimedOut)
        XCTAssertThrowsError(try silent.send([1], from: .server, now: now))
    }

    /// A bad link in every way at once, in real time; then data, of which the link takes its share and no more.
    func testAnAssociationThroughABadLink() async throws {
        let conditions = DtlsLinkConditions(
            loss: 0.2,
            duplication: 0.1,
            reordering: 0.2,
            corruption: 0.05,
            truncation: 0.05,
            delay: .milliseconds(1) ... .milliseconds(8),
            mtu: 1_200
        )
        for seed: UInt64 in 1...4 {
            let pair = try pair(conditions, seed: seed)
            pair.start(now: .now)
            let isOpen = await pair.run(within: .seconds(30)) { $0.isOpen }
            XCTAssertTrue(isOpen, "seed \(seed)")
            let payloads = (0..<200).map { index in [UInt8](repeating: UInt8(index), count: 100) }
            // Not more at once than the window for replays has places.
            for start in stride(from: 0, to: payloads.count, by: 20) {
                for payload in payloads[start..<start + 20] { try pair.send(payload, from: .client, now: .now) }
                _ = await pair.run(within: .seconds(5)) { $0.toServer.isEmpty && $0.toClient.isEmpty }
            }
            XCTAssertEqual(Set(pair.serverPayloads).count, pair.serverPayloads.count, "one came twice, seed \(seed)")
            XCTAssertTrue(Set(pair.serverPayloads).isSubset(of: payloads), "seed \(seed)")
            XCTAssertTrue((100...190).contains(pair.serverPayloads.count), "\(pair.serverPayloads.count), seed \(seed)")
        }
    }

    func testConditionsAreChecked() {
        XCTAssertThrowsError(try pair(DtlsLinkConditions(loss: 2))) { error in
            XCTAssertEqual((error as? DtlsError)?.code, .invalidConfiguration)
        }
    }
}
