import DTLSCore
import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLS

/// A client whose server was restarted: it knows nothing of the association any more, and says nothing.
final class ReconnectionTests: XCTestCase {
    /// A server on the port of another one that is gone without a word, as after a crash.
    private static func restart(_ relay: Relay, _ context: DtlsServerContext) async throws -> DtlsServer {
        let server = try await DtlsServer.onLoopback(context)
        relay.redirect(to: server.localAddress)
        return server
    }

    private static func talk(_ connection: DtlsConnection, until condition: @escaping () -> Bool) async throws {
        try await eventually("the server answered") {
            _ = try? connection.trySend(Array("anybody there?".utf8))
            try await Task.sleep(for: .milliseconds(20))
            return condition()
        }
    }

    func testAClientReconnectsAndResumesWhenItsServerWasRestarted() async throws {
        try await withDeadline {
            let keys = try DtlsTicketKeys(secrets: [DtlsTicketKeys.randomSecret()])
            let store = DtlsPreSharedKeyStore([try Credentials.preSharedKey()])
            let context = try DtlsServerContext(preSharedKeys: store, resumption: .tickets(keys))
            let first = try await DtlsServer.onLoopback(context)
            let relay = try Relay(to: first.localAddress)
            let client = try await DtlsClient.onLoopback()
            let connection = try await client.connect(
                to: relay.address,
                context: .preSharedKey(),
                reconnection: .whenSilent(for: .seconds(1))
            )
            XCTAssertFalse(connection.negotiated.isResumed)
            let second = try await Self.restart(
                relay,
                DtlsServerContext(preSharedKeys: store, resumption: .tickets(keys))
            )
            let echo = second.echo()
            try await Self.talk(connection) { connection.statistics.reconnections == 1 }
            XCTAssertTrue(connection.negotiated.isResumed)
            XCTAssertEqual(connection.state, .open)
            try await connection.send("as if nothing had happened")
            // What was asked meanwhile may be answered first.
            var answer = try await connection.receiveText()
            while answer == "anybody there?" { answer = try await connection.receiveText() }
            XCTAssertEqual(answer, "as if nothing had happened")
            XCTAssertEqual(connection.statistics.handshakesCompleted, 2)
            await client.close()
            await second.close()
            _ = await echo.value
            await first.close()
        }
    }

    /// A server that ends each handshake which would resume a session, as libcoap's does, gets a full one.
    func testASessionThatIsRefusedIsNotOfferedAgain() async throws {
        try await withDeadline {
            let first = try await DtlsServer.onLoopback()
            let relay = try Relay(to: first.localAddress)
            let client = try await DtlsClient.onLoopback()
            let connection = try await client.connect(
                to: relay.address,
                context: .preSharedKey(),
                reconnection: .whenSilent(for: .seconds(1))
            )
            let refusals = Lock(0)
            relay.rule { [weak relay] datagram in
                // Where a ClientHello has the length of its session ID (RFC 6347 §4.2.1).
                guard datagram.direction == .toServer, datagram.bytes.count > 60, datagram.bytes[0] == 22,
                    datagram.bytes[13] == 1, datagram.bytes[59] > 0
                else { return [datagram.bytes] }
                refusals.withLock { $0 += 1 }
                // handshake_failure, in clear.
                relay?.inject([21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40], .toClient)
                return []
            }
            let second = try await Self.restart(relay, .preSharedKey())
            let echo = second.echo()
            try await Self.talk(connection) { connection.statistics.reconnections == 1 || connection.state == .closed }
            XCTAssertEqual(connection.state, .open)
            XCTAssertGreaterThan(refusals.withLock { $0 }, 0)
            XCTAssertFalse(connection.negotiated.isResumed)
            await client.close()
            await second.close()
            _ = await echo.value
            await first.close()
        }
    }

    func testWithoutTheOptionASilentServerChangesNothing() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let second = try await Self.restart(loopback.relay, .preSharedKey())
            for _ in 0..<10 { try await loopback.near.send("anybody there?") }
            try await eventually("they came") { second.statistics.drops[.unknownPeer] == 10 }
            XCTAssertEqual(loopback.near.state, .open)
            XCTAssertEqual(loopback.near.statistics.reconnections, 0)
            await loopback.close()
            await second.close()
        }
    }

    func testAServerThatAnswersIsNotAskedAnew() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            let client = try await DtlsClient.onLoopback()
            let connection = try await client.connect(
                to: server.localAddress,
                context: .preSharedKey(),
                reconnection: .whenSilent(for: .seconds(1))
            )
            let end = ContinuousClock.now + .milliseconds(1_500)
            while ContinuousClock.now < end {
                try await connection.expectEcho()
                try await Task.sleep(for: .milliseconds(50))
            }
            XCTAssertEqual(server.statistics.handshakesStarted, 1)
            XCTAssertEqual(connection.statistics.reconnections, 0)
            await client.close()
            await server.close()
            _ = await echo.value
        }
    }

    func testAConnectionEndsWhenNobodyAnswersTheNewHandshakeEither() async throws {
        try await withDeadline {
            let loopback = try await Loopback(
                relayed: true,
                timeout: .seconds(1),
                reconnection: .whenSilent(for: .seconds(1))
            )
            let relay = try loopback.relay
            let silent = try RawSocket()
            relay.redirect(to: silent.address)
            try await loopback.near.send("anybody there?")
            let reason = await loopback.near.waitUntilClosed()
            guard case .failed(let error) = reason else { return XCTFail("\(reason)") }
            XCTAssertEqual(error.code, .handshakeTimedOut)
            await loopback.close()
        }
    }

    /// Whoever answers must prove as much as the first server did.
    func testAnImpostorDoesNotTakeTheConnectionOver() async throws {
        try await withDeadline {
            let loopback = try await Loopback(
                relayed: true,
                timeout: .seconds(2),
                reconnection: .whenSilent(for: .seconds(1))
            )
            let relay = try loopback.relay
            let wrong = DtlsPreSharedKeyStore([try Credentials.preSharedKey(key: Array("another key".utf8))])
            let impostor = try await Self.restart(relay, DtlsServerContext(preSharedKeys: wrong))
            try await loopback.near.send("anybody there?")
            let reason = await loopback.near.waitUntilClosed()
            guard case .failed = reason else { return XCTFail("\(reason)") }
            XCTAssertEqual(loopback.near.statistics.reconnections, 0)
            XCTAssertEqual(impostor.statistics.handshakesCompleted, 0)
            await loopback.close()
            await impostor.close()
        }
    }

    /// An answer that comes late must not speak for the certificates of another handshake, which may be an impostor's.
    func testALateVerdictIsNobodys() async throws {
        try await withDeadline {
            let verdicts = Lock(0)
            let late = Gate()
            let identity = try Credentials.localhost()
            let server = try await DtlsServer.onLoopback(.presenting(identity))
            let relay = try Relay(to: server.localAddress)
            let client = try await DtlsClient.onLoopback()
            var configuration = DtlsConfiguration()
            configuration.trust = .certificates(identity.certificateChain)
            let context = try DtlsClientContext(configuration, verification: .byApplication) { _ in
                let number = verdicts.withLock { count -> Int in
                    count += 1
                    return count
                }
                // The first handshake's at once, the second one's late, the third one's never.
                if number == 2 { await late.wait() }
                if number == 3 { try? await Task.sleep(for: .seconds(60)) }
                return true
            }
            let connection = try await client.connect(
                to: relay.address,
                context: context,
                serverName: "localhost",
                timeout: .seconds(3),
                reconnection: .whenSilent(for: .seconds(1))
            )
            let impostor = try await DtlsServer.onLoopback(
                .presenting(DtlsIdentity.selfSigned(commonName: "localhost", names: ["localhost"]))
            )
            relay.redirect(to: impostor.localAddress)
            try await connection.send("anybody there?")
            try await eventually("the second handshake asks") { verdicts.withLock { $0 } == 2 }
            // The first server speaks again, and so the second handshake is given up.
            relay.redirect(to: server.localAddress)
            let far = try await server.accept()
            try await far.expectArrival(at: connection)
            relay.redirect(to: impostor.localAddress)
            try await connection.send("and now?")
            try await eventually("the third handshake asks") { verdicts.withLock { $0 } == 3 }
            late.open()
            let reason = await connection.waitUntilClosed()
            guard case .failed = reason else { return XCTFail("\(reason)") }
            XCTAssertEqual(connection.statistics.reconnections, 0)
            await client.close()
            await impostor.close()
            await server.close()
        }
    }

    /// A record in clear that ends the new handshake may be forged, and must not end what is authentic.
    func testAFailedRenewalLeavesTheConnection() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true, reconnection: .whenSilent(for: .seconds(1)))
            let relay = try loopback.relay
            // A ServerHello that makes no sense answers each new hello.
            let nonsense = RecordDump.handshake(type: 2, messageSequence: 0, [UInt8](repeating: 9, count: 40)).bytes
            relay.rule { datagram in
                datagram.direction == .toServer && datagram.bytes.first == 22 ? [] : [datagram.bytes]
            }
            try await loopback.near.send("no answer, please")
            try await eventually("the new handshake has failed") {
                relay.inject(nonsense, .toClient)
                return loopback.near.statistics.handshakesFailed.values.reduce(0, +) >= 1
            }
            XCTAssertEqual(loopback.near.state, .open)
            try await loopback.far.expectArrival(at: loopback.near)
            await loopback.close()
        }
    }

    func testASilenceOutOfRangeIsRefused() async throws {
        try await withDeadline {
            let client = try await DtlsClient.onLoopback()
            let address = try DtlsAddress(ipAddress: "127.0.0.1", port: 9)
            for silence in [Duration.zero, .milliseconds(999), .seconds(86_401)] {
                let error = await failure {
                    try await client.connect(
                        to: address,
                        context: .preSharedKey(),
                        reconnection: .whenSilent(for: silence)
                    )
                }
                XCTAssertEqual(error?.code, .invalidConfiguration)
            }
            await client.close()
        }
    }
}
