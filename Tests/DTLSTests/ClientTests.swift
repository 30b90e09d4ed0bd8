import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

final class ClientTests: XCTestCase {
    // MARK: One peer, several connects

    func testASecondConnectGivesTheSameConnection() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let address = server.localAddress
            let first = try await client.connect(to: address, context: context)
            let second = try await client.connect(to: address, context: context)
            XCTAssertTrue(first === second)
            let byHost = try await client.connect(to: "127.0.0.1", port: address.port, context: context)
            XCTAssertTrue(first === byHost)
            try await first.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }

    func testConcurrentConnectsJoinOneHandshake() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let relay = try Relay(to: server.localAddress)
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let connections = try await withThrowingTaskGroup(of: DtlsConnection.self) { group in
                for _ in 0..<20 {
                    group.addTask { try await client.connect(to: relay.address, context: context) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            XCTAssertEqual(Set(connections.map { ObjectIdentifier($0) }).count, 1)
            let hellos = relay.recorded(.toServer).filter { WireRecord.all(in: $0)?.first?.handshakeType == 1 }
            XCTAssertEqual(Set(hellos.map { Array($0[27..<59]) }).count, 1, "more than one handshake was begun")
            await client.close()
            await server.close()
        }
    }

    func testACancelledConnectLeavesTheOneThatJoinedIt() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let passes = Lock(false)
            let relay = try Relay(to: server.localAddress) { passes.withLock { $0 } ? [$0.bytes] : [] }
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey(nil, .lessEager)
            let connects = (0..<2).map { _ in
                Task { try await client.connect(to: relay.address, context: context) }
            }
            try await eventually("a hello") { !relay.recorded.isEmpty }
            connects[0].cancel()
            let error = await failure { try await connects[0].value }
            XCTAssertEqual(error?.code, .cancelled)
            passes.withLock { $0 = true }
            let connection = try await connects[1].value
            try await connection.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }

    func testAnotherContextOrNameForTheSamePeerIsRefused() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let server = try await DtlsServer.onLoopback(.presenting(identity))
            let client = try await DtlsClient.onLoopback()
            let (first, second) = try (DtlsClientContext.trusting(identity), DtlsClientContext.trusting(identity))
            let connection = try await client.connect(to: server.localAddress, context: first)
            let otherContext = await failure { try await client.connect(to: server.localAddress, context: second) }
            XCTAssertEqual(otherContext?.code, .peerAlreadyConnected)
            let otherName = await failure {
                try await client.connect(to: server.localAddress, context: first, serverName: "localhost")
            }
            XCTAssertEqual(otherName?.code, .peerAlreadyConnected)
            XCTAssertNotNil(otherName?.hint)
            try await connection.expectArrival(at: server.accept())
            connection.close()
            let anew = try await client.connect(to: server.localAddress, context: second)
            XCTAssertFalse(anew === connection)
            await client.close()
            await server.close()
        }
    }

    func testContextsSideBySideToSeveralServers() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let byKey = try await DtlsServer.onLoopback()
            let byCertificate = try await DtlsServer.onLoopback(.presenting(identity))
            let client = try await DtlsClient.onLoopback()
            async let first = client.connect(to: byKey.localAddress, context: .preSharedKey())
            async let second = client.connect(to: byCertificate.localAddress, context: .trusting(identity))
            let (key, certificate) = try await (first, second)
            XCTAssertEqual(key.negotiated.preSharedKeyIdentity, Array("client".utf8))
            XCTAssertEqual(certificate.negotiated.peerCertificates, identity.certificateChain)
            XCTAssertEqual(key.localAddress, certificate.localAddress)
            let (farKey, farCertificate) = (try await byKey.accept(), try await byCertificate.accept())
            try await key.expectArrival(at: farKey, "by key")
            try await certificate.expectArrival(at: farCertificate, "by certificate")
            await client.close()
            for server in [byKey, byCertificate] { await server.close() }
        }
    }

    func testTheKeyMayDependOnTheServersHint() async throws {
        try await withDeadline {
            let store = DtlsPreSharedKeyStore([try Credentials.preSharedKey("of the hint")])
            let hinting = try DtlsServerContext(preSharedKeys: store, identityHint: Array("a hint".utf8))
            let server = try await DtlsServer.onLoopback(hinting)
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext { hint in
                await Task.yield()
                return hint == Array("a hint".utf8) ? try? Credentials.preSharedKey("of the hint") : nil
            }
            let near = try await client.connect(to: server.localAddress, context: context)
            XCTAssertEqual(near.negotiated.preSharedKeyIdentity, Array("of the hint".utf8))
            near.close()
            let keyless = try DtlsClientContext { _ in nil }
            let error = await failure { try await client.connect(to: server.localAddress, context: keyless) }
            XCTAssertEqual(error?.code, .authenticationFailed)
            await client.close()
            await server.close()
        }
    }

    // MARK: Time

    func testASilentServerTimesOut() async throws {
        try await withDeadline {
            let silent = try RawSocket()
            let client = try await DtlsClient.onLoopback()
            let byArgument = await failure {
                try await client.connect(to: silent.address, context: .preSharedKey(), timeout: .milliseconds(50))
            }
            XCTAssertEqual(byArgument?.code, .handshakeTimedOut)
            XCTAssertEqual(byArgument?.phase, .handshake)
            let short = DtlsConfiguration.make { $0.handshakeTimeout = .milliseconds(50) }
            let byConfiguration = await failure {
                try await client.connect(to: silent.address, context: .preSharedKey(nil, short))
            }
            XCTAssertEqual(byConfiguration?.code, .handshakeTimedOut)
            await client.close()
        }
    }

    /// Whatever comes back of a client's own hello is no answer to it.
    func testAReflectedHelloEndsNothing() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let relay = try Relay(to: server.localAddress)
            relay.rule { [weak relay] datagram in
                if datagram.direction == .toServer, datagram.index < 2 { relay?.inject(datagram.bytes, .toClient) }
                return [datagram.bytes]
            }
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: relay.address, context: .preSharedKey())
            try await near.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }

    func testATimeoutOutOfItsRangeIsRefused() async throws {
        let client = try await DtlsClient.onLoopback()
        for timeout in [Duration.zero, .seconds(-1), .seconds(86_401)] {
            let error = await failure {
                try await client.connect(to: client.localAddress, context: .preSharedKey(), timeout: timeout)
            }
            XCTAssertEqual(error?.code, .invalidConfiguration)
        }
        await client.close()
    }

    /// It would take the whole time of the handshake.
    func testPort0IsRefusedAtOnce() async throws {
        let client = try await DtlsClient.onLoopback()
        // A day would outlast the test.
        let (context, day) = (try DtlsClientContext.preSharedKey(), Duration.seconds(86_400))
        try await withDeadline {
            for host in ["127.0.0.1", "nosuchhost.invalid"] {
                let error = await failure {
                    try await client.connect(to: host, port: 0, context: context, timeout: day)
                }
                XCTAssertEqual(error?.code, .invalidConfiguration, host)
            }
            let address = try DtlsAddress(ipAddress: "127.0.0.1", port: 0)
            let error = await failure { try await client.connect(to: address, context: context, timeout: day) }
            XCTAssertEqual(error?.code, .invalidConfiguration)
            XCTAssertNotNil(error?.hint)
            await client.close()
        }
    }

    func testAServerNameWithAPortIsRefused() async throws {
        let client = try await DtlsClient.onLoopback()
        let context = try DtlsClientContext.trusting(Credentials.localhost())
        let error = await failure {
            try await client.connect(to: client.localAddress, context: context, serverName: "localhost:5684")
        }
        XCTAssertEqual(error?.code, .invalidConfiguration)
        await client.close()
    }

    func testAHintWithoutKeysIsRefused() async throws {
        var configuration = DtlsConfiguration()
        configuration.identity = try Credentials.localhost()
        let error = await failure { try DtlsServerContext(configuration, identityHint: Array("a hint".utf8)) }
        XCTAssertEqual(error?.code, .invalidConfiguration)
    }

    // MARK: Lifetime

    func testConnectingAgainAfterACloseByEitherSide() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            var previous: DtlsConnection?
            for round in 0..<6 {
                let near = try await client.connect(to: server.localAddress, context: context)
                XCTAssertFalse(near === previous)
                let far = try await server.accept()
                try await near.expectArrival(at: far)
                let (closing, other) = round.isMultiple(of: 2) ? (near, far) : (far, near)
                closing.close()
                _ = await other.waitUntilClosed()
                previous = near
            }
            await client.close()
            await server.close()
        }
    }

    func testAConnectionOutlivesItsClientsLastReference() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            var client: DtlsClient? = try await .onLoopback()
            weak let gone = client
            var near = try await client?.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            client = nil
            try await near?.expectArrival(at: far)
            try await far.expectArrival(at: XCTUnwrap(near))
            near = nil
            let reason = await far.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            XCTAssertNil(gone, "the client was kept alive")
            await server.close()
        }
    }

    func testAConnectionThatNobodyHoldsIsClosed() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            for _ in 0..<3 {
                _ = try await client.connect(to: server.localAddress, context: context)
                let far = try await server.accept()
                let reason = await far.waitUntilClosed()
                XCTAssertEqual(reason, .closedByPeer)
            }
            await client.close()
            await server.close()
        }
    }

    func testClosingIsIdempotentAndConcurrent() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            await withTaskGroup { group in
                for _ in 0..<10 { group.addTask { await loopback.client.close() } }
            }
            XCTAssertEqual(loopback.near.closeReason, .closedLocally)
            let reason = await loopback.far.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            await loopback.close()
        }
    }

    // MARK: The caller's socket

    func testACallersSocketIsLeftOpenUnlessItIsHandedOver() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            for takesOwnership in [false, true] {
                let socket = try RawSocket()
                let descriptor = duplicate(socket.descriptor)
                let before = inode(of: descriptor)
                let client = try DtlsClient(socket: descriptor, takesOwnership: takesOwnership)
                XCTAssertEqual(client.localAddress, socket.address)
                let connection = try await client.connect(to: server.localAddress, context: .preSharedKey())
                try await connection.expectEcho()
                await client.close()
                if takesOwnership {
                    XCTAssertNotEqual(inode(of: descriptor), before, "the descriptor was left open")
                } else {
                    XCTAssertEqual(inode(of: descriptor), before, "the descriptor was closed")
                    let next = try DtlsClient(socket: descriptor, takesOwnership: true)
                    let again = try await next.connect(to: server.localAddress, context: .preSharedKey())
                    try await again.expectEcho()
                    await next.close()
                }
            }
            await server.close()
            _ = await echo.value
        }
    }
}
