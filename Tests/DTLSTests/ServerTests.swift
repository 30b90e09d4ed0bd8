import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

final class ServerTests: XCTestCase {
    // MARK: Binding

    func testPortZeroGetsAPortThatTheAddressTells() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            XCTAssertEqual(server.localAddress.host, "127.0.0.1")
            XCTAssertNotEqual(server.localAddress.port, 0)
            await server.close()
        }
    }

    func testAPortThatIsTakenSaysSo() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let port = server.localAddress.port
            let error = await failure {
                try await DtlsServer.bind(host: "127.0.0.1", port: port, context: .preSharedKey())
            }
            XCTAssertEqual(error?.code, .addressInUse)
            await server.close()
            // Closed is closed: the port is free when close() has returned.
            let next = try await DtlsServer.bind(host: "127.0.0.1", port: port, context: .preSharedKey())
            await next.close()
        }
    }

    func testACallersSocketIsLeftOpenUnlessItIsHandedOver() async throws {
        try await withDeadline {
            for takesOwnership in [false, true] {
                let socket = try RawSocket()
                let descriptor = duplicate(socket.descriptor)
                let before = inode(of: descriptor)
                let server = try DtlsServer(
                    socket: descriptor,
                    takesOwnership: takesOwnership,
                    context: .preSharedKey()
                )
                XCTAssertEqual(server.localAddress, socket.address)
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
                try await near.expectArrival(at: server.accept())
                await server.close()
                XCTAssertEqual(inode(of: descriptor) == before, !takesOwnership)
                if !takesOwnership { closeDescriptor(descriptor) }
                await client.close()
            }
        }
    }

    // MARK: Many peers

    func testAHundredClientsAreServedAtOnceWithoutCrossTalk() async throws {
        try await withDeadline(seconds: 60) {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            let context = try DtlsClientContext.preSharedKey()
            try await withThrowingTaskGroup { group in
                for number in 0..<100 {
                    group.addTask {
                        let client = try await DtlsClient.onLoopback()
                        let connection = try await client.connect(to: server.localAddress, context: context)
                        for round in 0..<5 { try await connection.expectEcho("client \(number), round \(round)") }
                        await client.close()
                    }
                }
                try await group.waitForAll()
            }
            await server.close()
            let count = await echo.value
            XCTAssertEqual(count, 100)
        }
    }

    func testFault22PeersThatStopHalfWayDelayNobody() async throws {
        try await withDeadline {
            let patient = DtlsConfiguration.neverRetransmitting
            let server = try await DtlsServer.onLoopback(.preSharedKey(patient))
            let context = try DtlsClientContext.preSharedKey(nil, patient)
            var relays: [Relay] = []
            var connects: [(DtlsClient, Task<DtlsConnection, any Error>)] = []
            for _ in 0..<20 {
                // The cookie passes, the server's flight does not: the server waits for an answer.
                let relay = try Relay(to: server.localAddress) { datagram in
                    let isFlight = datagram.direction == .toClient && WireHello.cookie(in: datagram.bytes) == nil
                    return isFlight ? [] : [datagram.bytes]
                }
                let client = try await DtlsClient.onLoopback()
                connects.append((client, Task { try await client.connect(to: relay.address, context: context) }))
                relays.append(relay)
            }
            for relay in relays { try await eventually("a server's flight") { relay.recorded(.toClient).count >= 2 } }

            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: context)
            try await near.expectArrival(at: server.accept())
            XCTAssertEqual(near.statistics.retransmissions, 0)
            for (client, connect) in connects {
                await client.close()
                let error = await failure { try await connect.value }
                XCTAssertEqual(error?.code, .connectionClosed)
            }
            await client.close()
            await server.close()
        }
    }

    /// One identity has another key under each name of the server, and none where no name or another one was asked for.
    func testKeysByServerName() async throws {
        try await withDeadline {
            let keys = ["a.example": Credentials.key, "b.example": [UInt8](Credentials.key.reversed())]
            let asked = Recorder<String?>()
            let store = DtlsPreSharedKeyStore(lookUpForServerName: { _, name in
                await Task.yield()
                asked.add(name)
                return name.flatMap { keys[$0] }.map { DtlsSecretBytes($0) }
            })
            let context = try DtlsServerContext(preSharedKeys: store, unknownIdentity: .alert)
            let server = try await DtlsServer.onLoopback(context)
            for (name, key) in keys {
                let right = try DtlsClientContext.preSharedKey(Credentials.preSharedKey(key: key))
                // Names have no case.
                let meeting = try await Meeting(at: server, right, name: name.uppercased())
                try await meeting.exchange()
                await meeting.close()
                for other in [name == "a.example" ? "b.example" : "a.example", "c.example", nil] {
                    let error = await failure { try await Meeting(at: server, right, name: other).close() }
                    XCTAssertEqual(error?.code, .authenticationFailed, "\(name) \(other ?? "nil")")
                }
            }
            XCTAssertEqual(asked.values.count, 8)
            XCTAssertEqual(Set(asked.values), ["a.example", "b.example", "c.example", nil])
            await server.close()
        }
    }

    func testASlowKeyLookUpDelaysNobodyElse() async throws {
        try await withDeadline {
            let gate = Gate()
            let store = DtlsPreSharedKeyStore { identity in
                if identity == Array("slow".utf8) { await gate.wait() }
                return DtlsSecretBytes(Credentials.key)
            }
            let server = try await DtlsServer.onLoopback(DtlsServerContext(preSharedKeys: store))
            let echo = server.echo()
            let (slow, fast) = (try await DtlsClient.onLoopback(), try await DtlsClient.onLoopback())
            let waiting = Task {
                try await slow.connect(
                    to: server.localAddress,
                    context: .preSharedKey(Credentials.preSharedKey("slow"), .lessEager)
                )
            }
            try await eventually("the look-up") { gate.waiterCount == 1 }
            for _ in 0..<3 {
                let connection = try await fast.connect(to: server.localAddress, context: .preSharedKey())
                try await connection.expectEcho()
                connection.close()
            }
            XCTAssertEqual(gate.waiterCount, 1, "the key was asked for more than once")
            gate.open()
            let connection = try await waiting.value
            try await connection.expectEcho()
            for client in [slow, fast] { await client.close() }
            await server.close()
            _ = await echo.value
        }
    }

    // MARK: Accepting

    func testSeveralTasksMayAccept() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let count = Lock(0)
            let acceptors = (0..<4).map { _ in
                Task { () -> [DtlsConnection] in
                    var connections: [DtlsConnection] = []
                    for await connection in server {
                        connections.append(connection)
                        count.withLock { $0 += 1 }
                    }
                    return connections
                }
            }
            let context = try DtlsClientContext.preSharedKey()
            var clients: [DtlsClient] = []
            var connections: [DtlsConnection] = []
            for _ in 0..<20 {
                let client = try await DtlsClient.onLoopback()
                connections.append(try await client.connect(to: server.localAddress, context: context))
                clients.append(client)
            }
            // A client knows of its connection before the server's sequence does.
            try await eventually("all were accepted") { count.withLock { $0 } == 20 }
            await server.close()
            var accepted: [DtlsAddress] = []
            for acceptor in acceptors { accepted += await acceptor.value.map(\.peerAddress) }
            XCTAssertEqual(Set(accepted), Set(clients.map(\.localAddress)))
            XCTAssertEqual(accepted.count, 20, "a connection was given to two tasks")
            for client in clients { await client.close() }
        }
    }

    func testAConnectionIsAcceptedOnlyAfterItsHandshake() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback(.preSharedKey(.eager))
            let wrong = try Credentials.preSharedKey("client", key: Array("another key altogether".utf8))
            let client = try await DtlsClient.onLoopback()
            let error = await failure {
                try await client.connect(to: server.localAddress, context: .preSharedKey(wrong, .lessEager))
            }
            XCTAssertEqual(error?.code, .authenticationFailed)
            let right = try await DtlsClient.onLoopback()
            let near = try await right.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            XCTAssertEqual(far.peerAddress, right.localAddress, "the failed handshake was given out")
            XCTAssertEqual(far.state, .open)
            try await near.expectArrival(at: far)
            for client in [client, right] { await client.close() }
            await server.close()
        }
    }

    func testWhatNobodyTookIsStillThere() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            try await near.send("before anybody looked")
            let far = try await server.accept()
            let text = try await far.receiveText()
            XCTAssertEqual(text, "before anybody looked")
            await client.close()
            await server.close()
        }
    }

    func testAServerIsToldWhoFailedAndWhy() async throws {
        try await withDeadline {
            let failures = Lock<[(DtlsAddress, DtlsError)]>([])
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(unknownIdentity: .alert),
                handshakeFailed: { peer, error in failures.withLock { $0.append((peer, error)) } }
            )
            let client = try await DtlsClient.onLoopback()
            let nobody = try DtlsClientContext.preSharedKey(Credentials.preSharedKey("nobody"))
            _ = await failure { try await client.connect(to: server.localAddress, context: nobody) }
            try await eventually("the server was told") { failures.withLock { $0.count } == 1 }
            let (peer, error) = try XCTUnwrap(failures.withLock { $0.first })
            XCTAssertEqual(peer, client.localAddress)
            XCTAssertEqual(error.code, .authenticationFailed)
            // What ends well, or ends later, is none.
            let connection = try await client.connect(to: server.localAddress, context: .preSharedKey())
            connection.close()
            try await eventually("it is closed") { server.statistics.connectionsOpen == 0 }
            await client.close()
            await server.close()
            XCTAssertEqual(failures.withLock { $0.count }, 1)
        }
    }

    /// A client with another key that does not wait for the answer, and begins anew.
    func testAServerIsToldOfAWrongKeyWhoseClientGaveUp() async throws {
        try await withDeadline {
            for (identity, reason) in [("client", "is not the one of its identity"), ("stranger", "is unknown")] {
                let failures = Lock<[DtlsError]>([])
                let server = try await DtlsServer.bind(
                    host: "127.0.0.1",
                    port: 0,
                    context: .preSharedKey(),
                    handshakeFailed: { _, error in failures.withLock { $0.append(error) } }
                )
                let client = try await DtlsClient.onLoopback()
                let key = try Credentials.preSharedKey(identity, key: [1, 2, 3, 4, 5, 6, 7, 8])
                let wrong = try DtlsClientContext.preSharedKey(key)
                let address = server.localAddress
                let error = await failure {
                    try await client.connect(to: address, context: wrong, timeout: .milliseconds(300))
                }
                XCTAssertEqual(error?.code, .handshakeTimedOut)
                XCTAssertEqual(failures.withLock { $0.count }, 0)
                let connection = try await client.connect(to: address, context: .preSharedKey())
                let told = failures.withLock { $0 }
                XCTAssertEqual(told.map(\.code), [.authenticationFailed])
                let text = told.first?.description ?? ""
                XCTAssertTrue(text.contains(reason) && text.contains("\"\(identity)\""), text)
                connection.close()
                await client.close()
                await server.close()
            }
        }
    }

    /// The client has lost the alert, or does not believe it. It has pre-shared keys only, the server a certificate.
    func testARefusedHelloThatComesAgainIsToldTheSameAgain() async throws {
        try await withDeadline {
            let failures = Lock(0)
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .presenting(Credentials.localhost()),
                handshakeFailed: { _, _ in failures.withLock { $0 += 1 } }
            )
            let stranger = try Stranger()
            for _ in 0..<3 {
                let alert = try await stranger.openHalfway(at: server.localAddress)
                XCTAssertEqual(alert, [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40], "handshake_failure")
            }
            XCTAssertEqual(failures.withLock { $0 }, 1)
            XCTAssertEqual(server.statistics.handshakesStarted, 1)
            XCTAssertEqual(server.statistics.drops[.repeatedHello], 2)
            XCTAssertEqual(server.statistics.cookiesSent, 3)
            await server.close()
        }
    }

    func testRefusedHellosAreForgotten() throws {
        let (alert, now) = (DtlsAlert(level: .fatal, code: .handshakeFailure), Moment.now)
        let peers = try (1...65).map { try DtlsAddress(ipAddress: "192.0.2.1", port: $0) }
        var refused = RefusedHellos()
        for peer in peers { refused.add(1, from: peer, alert, now: now) }
        XCTAssertNil(refused.alert(for: 1, from: peers[0], now: now), "one more than are kept")
        XCTAssertEqual(refused.alert(for: 1, from: peers[1], now: now), alert)
        XCTAssertNil(refused.alert(for: 2, from: peers[1], now: now), "another hello")
        XCTAssertNil(refused.alert(for: 1, from: peers[1], now: now + .seconds(5)))
    }

    func testNoMoreConnectionsWaitThanTheQueueHolds() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let queue = AcceptQueue(maximumCount: 100)
            for _ in 0..<100 { XCTAssertTrue(queue.add(loopback.far)) }
            XCTAssertFalse(queue.add(loopback.far))
            _ = await queue.next()
            XCTAssertTrue(queue.add(loopback.far))
            XCTAssertEqual(queue.end(nil).count, 100)
            XCTAssertFalse(queue.add(loopback.far), "taken after the end")
            await loopback.close()
        }
    }
}
