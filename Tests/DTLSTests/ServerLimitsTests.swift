import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

private func connect(_ client: DtlsClient, _ server: DtlsServer, timeout: Duration? = nil) async throws
    -> DtlsConnection
{
    try await client.connect(to: server.localAddress, context: .preSharedKey(), timeout: timeout)
}

/// What a server does when it has enough: of connections, of handshakes, of hellos from one network, of silence.
final class ServerLimitsTests: XCTestCase {
    func testAFullServerLetsNobodyInUntilSomebodyGoes() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(limits: .make { $0.connections = 2 })
            let clients = [try await DtlsClient.onLoopback(), try await .onLoopback(), try await .onLoopback()]
            let first = try await connect(clients[0], server)
            let second = try await connect(clients[1], server)
            let accepted = [try await server.accept(), try await server.accept()]
            let error = await failure { try await connect(clients[2], server, timeout: .milliseconds(300)) }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            XCTAssertGreaterThan(server.statistics.drops[.connectionLimit], 0)
            XCTAssertEqual(server.statistics.mostConnections, 2)
            first.close()
            try await eventually("the first has gone") { server.statistics.connectionsOpen == 1 }
            let third = try await connect(clients[2], server)
            XCTAssertEqual([second.state, third.state, accepted[0].state], [.open, .open, .closed])
            for client in clients { await client.close() }
            await server.close()
        }
    }

    func testTheConnectionThatWasSilentLongestGivesWayWhenItIsStale() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(
                limits: .make {
                    $0.connections = 2
                    $0.staleAfter = .zero
                }
            )
            let clients = [try await DtlsClient.onLoopback(), try await .onLoopback(), try await .onLoopback()]
            let first = try await connect(clients[0], server)
            let farFirst = try await server.accept()
            let second = try await connect(clients[1], server)
            let farSecond = try await server.accept()
            // The first speaks after the second has come, and so the second is the one that was silent longest.
            try await first.expectArrival(at: farFirst)
            let third = try await connect(clients[2], server)
            let reason = await farSecond.waitUntilClosed()
            XCTAssertEqual(reason, .evicted)
            let told = await second.waitUntilClosed()
            XCTAssertEqual(told, .closedByPeer)
            XCTAssertEqual([farFirst.state, third.state], [.open, .open])
            try await eventually("it was counted") { server.statistics.connectionsEvicted == 1 }
            for client in clients { await client.close() }
            await server.close()
        }
    }

    func testTheOldestHalfOpenHandshakeGivesWay() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(limits: .make { $0.handshakes = 3 })
            var strangers: [Stranger] = []
            for seed in 1...5 {
                let stranger = try Stranger(seed: UInt64(seed))
                try await stranger.openHalfway(at: server.localAddress)
                strangers.append(stranger)
            }
            XCTAssertEqual(server.statistics.connectionsHandshaking, 3)
            XCTAssertEqual(server.statistics.connectionsEvicted, 2)
            XCTAssertEqual(server.statistics.handshakesFailed[.connectionClosed], 2)
            XCTAssertEqual(server.statistics.mostHandshakes, 3)
            let client = try await DtlsClient.onLoopback()
            let connection = try await connect(client, server)
            let far = try await server.accept()
            try await connection.expectArrival(at: far)
            await client.close()
            await server.close()
        }
    }

    func testOneNetworkCannotHaveAllHandshakes() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(limits: .make { $0.handshakesPerPrefix = 2 })
            for seed in 1...2 {
                let stranger = try Stranger(seed: UInt64(seed))
                try await stranger.openHalfway(at: server.localAddress)
            }
            let third = try Stranger(seed: 3)
            third.knock(at: server.localAddress)
            third.answer(try await third.receive(), at: server.localAddress)
            try await eventually("the third was dropped") { server.statistics.drops[.handshakeRate] == 1 }
            // 127.0.1.0/24 is another network.
            let elsewhere = try Stranger(host: "127.0.1.1", seed: 4)
            try await elsewhere.openHalfway(at: server.localAddress)
            XCTAssertEqual(server.statistics.connectionsHandshaking, 3)
            await server.close()
        }
    }

    func testTheRateOfHandshakesFromOneNetwork() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(
                limits: .make {
                    $0.handshakeRatePerPrefix = DtlsRate(perSecond: 0.001, burst: 2)
                }
            )
            for seed in 1...2 {
                let stranger = try Stranger(seed: UInt64(seed))
                try await stranger.openHalfway(at: server.localAddress)
            }
            let third = try Stranger(seed: 3)
            third.knock(at: server.localAddress)
            third.answer(try await third.receive(), at: server.localAddress)
            try await eventually("the third was dropped") { server.statistics.drops[.handshakeRate] == 1 }
            await server.close()
        }
    }

    func testTheRateOfCookiesForOneNetworkKeepsNobodyOutWhoHasOne() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(
                limits: .make { $0.cookieRatePerPrefix = DtlsRate(perSecond: 0.001, burst: 2) }
            )
            let first = try Stranger(seed: 1)
            first.knock(at: server.localAddress)
            let cookie = try await first.receive()
            let others = try Stranger(seed: 2)
            for _ in 0..<10 { others.knock(at: server.localAddress) }
            try await eventually("nine were dropped") { server.statistics.drops[.cookieRate] == 9 }
            XCTAssertEqual(server.statistics.cookiesSent, 2)
            first.answer(cookie, at: server.localAddress)
            _ = try await first.receive()
            XCTAssertEqual(server.statistics.connectionsHandshaking, 1)
            await server.close()
        }
    }

    func testAnAddressThatIsNotAdmittedGetsNoAnswer() async throws {
        try await withDeadline {
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(),
                admitsAddress: { $0.host != "127.0.0.2" }
            )
            let refused = try Stranger(host: "127.0.0.2")
            refused.knock(at: server.localAddress)
            try await eventually("it was dropped") { server.statistics.drops[.refusedAddress] == 1 }
            XCTAssertNil(refused.socket.receiveNow())
            XCTAssertEqual(server.statistics.cookiesSent, 0)
            let welcome = try Stranger()
            try await welcome.openHalfway(at: server.localAddress)
            await server.close()
        }
    }

    func testASilentConnectionIsClosedAndOneThatSpeaksIsNot() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(limits: .make { $0.idleTimeout = .milliseconds(400) })
            let client = try await DtlsClient.onLoopback()
            let silent = try await connect(client, server)
            let farSilent = try await server.accept()
            let other = try await DtlsClient.onLoopback()
            let talker = try await connect(other, server)
            let farTalker = try await server.accept()
            let talk = Task {
                while !Task.isCancelled {
                    try await talker.send("still here")
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            let reason = await farSilent.waitUntilClosed()
            XCTAssertEqual(reason, .idle)
            let told = await silent.waitUntilClosed()
            XCTAssertEqual(told, .closedByPeer)
            XCTAssertEqual(farTalker.state, .open)
            try await eventually("it was counted") { server.statistics.connectionsIdledOut == 1 }
            talk.cancel()
            await client.close()
            await other.close()
            await server.close()
        }
    }

    /// Junk from the peer's own address is no sign of life.
    func testForgedDatagramsKeepNoConnectionFromBeingIdle() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(limits: .make { $0.idleTimeout = .milliseconds(400) })
            let raw = try RawSocket()
            let client = try DtlsClient(socket: raw.descriptor)
            let near = try await connect(client, server)
            let far = try await server.accept()
            let forger = Task {
                var number: UInt64 = 1_000
                while !Task.isCancelled {
                    number += 1
                    let forged = RecordDump(
                        contentType: 23,
                        epoch: 1,
                        sequenceNumber: number,
                        body: [UInt8](repeating: 7, count: 64)
                    )
                    raw.send(forged.bytes, to: server.localAddress)
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            let reason = await far.waitUntilClosed()
            XCTAssertEqual(reason, .idle)
            XCTAssertNotEqual(near.state, .handshaking)
            forger.cancel()
            await client.close()
            await server.close()
        }
    }

    func testTheQueueOfEachConnectionHasItsLimits() async throws {
        try await withDeadline {
            let loopback = try await Loopback(limits: .make { $0.queue = DtlsQueueLimits(datagrams: 3) })
            for number in 0..<5 { try await loopback.near.send("number \(number)") }
            try await eventually("two were dropped") { loopback.far.statistics.drops[.receiveQueueFull] == 2 }
            XCTAssertEqual(loopback.far.statistics.mostQueuedPayloads, 3)
            await loopback.close()
        }
    }

    func testADrainingServerLetsNobodyInAndWaitsForThoseWhoAreThere() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            async let remaining = loopback.server.drain(for: .seconds(60))
            let stranger = try Stranger()
            try await eventually("hellos are dropped") {
                stranger.knock(at: loopback.server.localAddress)
                return loopback.server.statistics.drops[.draining] > 0
            }
            try await loopback.near.expectArrival(at: loopback.far)
            loopback.near.close()
            let count = await remaining
            XCTAssertEqual(count, 0)
            await loopback.client.close()
        }
    }

    func testADrainEndsWithItsTime() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let remaining = await loopback.server.drain(for: .milliseconds(50))
            XCTAssertEqual(remaining, 1)
            let reason = await loopback.near.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            await loopback.client.close()
        }
    }

    func testLimitsOutOfRangeAreRefused() async throws {
        let changes: [(String, String, (inout DtlsServerLimits) -> Void)] = [
            ("connections is 0", "1 or more", { $0.connections = 0 }),
            ("handshakes is -1", "1 or more", { $0.handshakes = -1 }),
            ("handshakesPerPrefix is 0", "1 or more", { $0.handshakesPerPrefix = 0 }),
            ("waitingConnections is 0", "1 or more", { $0.waitingConnections = 0 }),
            ("idleTimeout is 0.0 seconds", "above zero, up to 100 years", { $0.idleTimeout = .zero }),
            ("idleTimeout is 10000000000.0 seconds", "up to 100 years", { $0.idleTimeout = .seconds(10_000_000_000) }),
            ("staleAfter is -1.0 seconds", "0 seconds to 100 years", { $0.staleAfter = .seconds(-1) }),
            ("movedPeerTrials is 65", "0...64", { $0.movedPeerTrials = 65 }),
            (
                "handshakeRatePerPrefix.perSecond is 0.0", "above 0",
                { $0.handshakeRatePerPrefix = DtlsRate(perSecond: 0, burst: 1) }
            ),
            (
                "cookieRatePerPrefix.perSecond is nan", "finite",
                { $0.cookieRatePerPrefix = DtlsRate(perSecond: .nan, burst: 1) }
            ),
            (
                "cookieRatePerPrefix.burst is 0.5", "1 or more",
                { $0.cookieRatePerPrefix = DtlsRate(perSecond: 1, burst: 0.5) }
            ),
            ("queue.datagrams is 0", "1 or more", { $0.queue = DtlsQueueLimits(datagrams: 0) }),
            ("queue.bytes is 0", "1 or more", { $0.queue = DtlsQueueLimits(bytes: 0) }),
            ("fragmentedHellos.messages is 0", "1...65536", { $0.fragmentedHellos.messages = 0 }),
            (
                "fragmentedHellos.messageLength is 100000", "512...16384",
                { $0.fragmentedHellos.messageLength = 100_000 }
            ),
            ("fragmentedHellos.lifetime is 0.0 seconds", "one hour", { $0.fragmentedHellos.lifetime = .zero }),
        ]
        for (message, range, change) in changes {
            let error = await failure { try await DtlsServer.onLoopback(limits: .make(change)) }
            XCTAssertEqual(error?.code, .invalidConfiguration, message)
            XCTAssertEqual(error?.message, "DtlsServerLimits.\(message)")
            XCTAssertEqual(error?.hint?.contains(range), true, "\(String(describing: error))")
        }
    }

    func testStatisticsAreTheSumsOverAllConnections() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let first = try await connect(client, server)
            let far = try await server.accept()
            try await first.expectArrival(at: far)
            first.close()
            try await eventually("the first has gone") { server.statistics.connectionsOpen == 0 }
            let second = try await connect(client, server)
            let farSecond = try await server.accept()
            try await second.expectArrival(at: farSecond)
            let here = client.statistics
            let there = server.statistics
            for statistics in [here, there] {
                XCTAssertEqual(statistics.handshakesStarted, 2)
                XCTAssertEqual(statistics.handshakesCompleted, 2)
                XCTAssertEqual(statistics.connectionsOpen, 1)
                XCTAssertEqual(statistics.mostConnections, 1)
            }
            XCTAssertEqual(there.cookiesSent, 2)
            XCTAssertEqual(there.payloadsReceived, 2)
            XCTAssertEqual(here.payloadsSent, 2)
            XCTAssertEqual(here.datagramsSent, there.datagramsReceived)
            XCTAssertEqual(here.bytesSent, there.bytesReceived)
            await client.close()
            await server.close()
        }
    }
}
