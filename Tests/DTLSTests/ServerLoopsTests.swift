import DTLSCore
import DTLSPrimitives
import Dispatch
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Servers of several loops.
final class ServerLoopsTests: XCTestCase {
    func testHowManyThereMayBe() async throws {
        for loops in [0, -1, 65] {
            let error = await failure { try await DtlsServer.onLoopback(loops: loops) }
            XCTAssertEqual(error?.code, .invalidConfiguration, "\(loops)")
        }
        let none = await failure { try DtlsServer(sockets: [], context: .preSharedKey()) }
        XCTAssertEqual(none?.code, .invalidConfiguration)
        #if os(Linux)
            let server = try await DtlsServer.onLoopback(loops: 64)
            XCTAssertEqual(server.loops, 64)
            await server.close()
        #else
            let error = await failure { try await DtlsServer.onLoopback(loops: 2) }
            XCTAssertEqual(error?.code, .unsupported)
        #endif
    }

    #if os(Linux)
        /// Peers spread, each is served by the loop that it came to, and the sums are those of all loops.
        func testPeersSpreadOverLoops() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 3)
                let crowd = try await Crowd(of: 64, at: server)
                XCTAssertEqual(Set(crowd.pairs.map { server.loop(of: $0.far) }), [0, 1, 2])
                try await crowd.expectArrivals()
                for pair in crowd.pairs {
                    let first = try XCTUnwrap(pair.far.negotiated.connectionIDs?.own.first)
                    XCTAssertEqual(Int(first) % 3, server.loop(of: pair.far))
                }
                let statistics = server.statistics
                XCTAssertEqual(statistics.connectionsOpen, 64)
                XCTAssertEqual(statistics.mostConnections, 64)
                XCTAssertEqual(statistics.handshakesCompleted, 64)
                XCTAssertEqual(statistics.payloadsReceived, 64)
                XCTAssertEqual(statistics.payloadsSent, 64)
                await crowd.close()
                try await eventually("all have gone") { server.statistics.connectionsOpen == 0 }
                await server.close()
            }
        }

        /// A peer that is elsewhere comes to its connection: by the kernel, and where that does not know IDs by the
        /// loop that it came to.
        func testAMoveReachesTheSameConnection() async throws {
            for steers in [true, false] {
                try await withDeadline(seconds: 60) {
                    let server = try await DtlsServer.onLoopback(loops: 3, steers: steers)
                    let crowd = try await Crowd(of: 24, at: server)
                    let before = server.datagramsByLoop
                    try await crowd.move()
                    let homes = crowd.pairs.reduce(into: [0, 0, 0]) { $0[server.loop(of: $1.far) ?? 0] += 1 }
                    try await crowd.expectArrivals()
                    let came = zip(server.datagramsByLoop, before).map { $0 - $1 }
                    // With a check of the path, each peer has sent two datagrams or more.
                    if steers {
                        for (datagrams, peers) in zip(came, homes) {
                            XCTAssertEqual(datagrams == 0, peers == 0)
                            XCTAssertGreaterThanOrEqual(datagrams, peers)
                        }
                        XCTAssertEqual(server.strayCount, 0)
                    } else {
                        XCTAssertGreaterThan(server.strayCount, 0)
                    }
                    XCTAssertEqual(server.statistics.handshakesStarted, 24)
                    XCTAssertEqual(server.statistics.drops[.unknownPeer], 0)
                    await crowd.close()
                    await server.close()
                }
            }
        }

        /// In an ID that the application makes, no loop can be read; a change of the context changes that.
        func testIDsOfTheApplication() async throws {
            try await withDeadline(seconds: 60) {
                let ids = DtlsConnectionIDs.generated(length: 2) { [7, UInt8.random(in: 0...255)] }
                let context = try DtlsServerContext.preSharedKey(.make { $0.connectionIDs = ids })
                let server = try await DtlsServer.onLoopback(context, loops: 2)
                let crowd = try await Crowd(of: 16, at: server)
                XCTAssertEqual(Set(crowd.pairs.map { $0.far.negotiated.connectionIDs?.own }).count, 16)
                // All have the same first byte, and stay where they are.
                try await crowd.expectArrivals()
                XCTAssertEqual(server.strayCount, 0)
                try await crowd.move()
                try await crowd.expectArrivals()
                XCTAssertGreaterThan(server.strayCount, 0)
                try server.replaceContext(.preSharedKey())
                let others = try await Crowd(of: 16, at: server)
                try await crowd.expectArrivals()
                let before = server.strayCount
                try await others.move()
                try await others.expectArrivals()
                XCTAssertEqual(server.strayCount, before)
                await crowd.close()
                await others.close()
                await server.close()
            }
        }

        /// Without IDs, a peer that is elsewhere is found by its keys, in whichever loop.
        func testMovedPeersWithoutIDs() async throws {
            try await withDeadline(seconds: 60) {
                let context = try DtlsServerContext.preSharedKey(.make { $0.connectionIDs = .off })
                let server = try await DtlsServer.onLoopback(
                    context,
                    loops: 2,
                    limits: .make { $0.movedPeerTrials = 12 }
                )
                let crowd = try await Crowd(of: 12, at: server)
                try await crowd.move()
                // What comes next from there is found by the address.
                try await crowd.expectArrivals()
                XCTAssertGreaterThan(server.strayCount, 0)
                await crowd.close()
                await server.close()
            }
        }

        /// What waits for another loop is bounded, and what came too early to be taken is counted.
        func testWhatWaitsForALoopIsBounded() async throws {
            try await withDeadline {
                let server = try await DtlsServer.onLoopback(loops: 2)
                let crowd = try await Crowd(of: 1, at: server)
                let (near, far) = crowd.pairs[0]
                let home = try XCTUnwrap(server.loop(of: far))
                let (owner, other) = (server.endpoints[home], server.endpoints[1 - home])
                let (hasStopped, goOn) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
                owner.loop.perform {
                    hasStopped.signal()
                    goOn.wait()
                }
                hasStopped.waitShortly()
                let peer = far.peerAddress
                await withCheckedContinuation { continuation in
                    other.loop.perform {
                        // Application data of epoch 1, which does not open.
                        let junk: [UInt8] =
                            [23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 32] + Array(repeating: 0, count: 32)
                        for _ in 0..<(ServerEndpoint.maximumStrays + 10) {
                            junk.withUnsafeBytes { other.receive($0, from: peer, to: nil, on: other.loop, now: .now) }
                        }
                        continuation.resume()
                    }
                }
                XCTAssertEqual(server.statistics.drops[.loopQueueFull], 10)
                goOn.signal()
                try await eventually("the others have come") {
                    far.statistics.drops[.unopenedRecord] + far.statistics.drops[.improperSealedRecord]
                        == ServerEndpoint.maximumStrays
                }
                try await near.expectArrival(at: far)
                await crowd.close()
                await server.close()
            }
        }

        /// A report of the network about a datagram that another loop has sent.
        func testTheNetworksReportsReachTheConnection() async throws {
            try await withDeadline {
                let server = try await DtlsServer.onLoopback(loops: 2)
                let crowd = try await Crowd(of: 1, at: server)
                let far = crowd.pairs[0].far
                let other = server.endpoints[1 - (try XCTUnwrap(server.loop(of: far)))]
                let before = far.maximumPayloadSize
                let error = NetworkError(
                    peer: far.peerAddress,
                    code: SystemCall.messageTooLarge,
                    isLocal: false,
                    largestDatagram: 700
                )
                await withCheckedContinuation { continuation in
                    other.loop.perform {
                        other.networkReported(error, now: .now)
                        continuation.resume()
                    }
                }
                XCTAssertGreaterThan(before, 700)
                XCTAssertLessThan(far.maximumPayloadSize, 700)
                await crowd.close()
                await server.close()
            }
        }

        /// A handler is called on the connection's own loop, wherever a datagram came to.
        func testHandlers() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 3, steers: false)
                let crowd = try await Crowd(of: 16, at: server)
                for pair in crowd.pairs {
                    pair.far.handleDatagrams { connection, payload in
                        guard let endpoint = connection.association.owner as? ServerEndpoint else { return }
                        XCTAssertTrue(endpoint.loop.executor.isAwake)
                        _ = try? connection.trySend(payload)
                    }
                }
                for pair in crowd.pairs { try await pair.near.expectEcho() }
                for client in crowd.clients { try await client.rebind(host: "127.0.0.1") }
                for pair in crowd.pairs { try await pair.near.expectEcho() }
                XCTAssertGreaterThan(server.strayCount, 0)
                await crowd.close()
                await server.close()
            }
        }

        // MARK: Limits

        /// The connections of all loops together are limited, and the one that was silent longest gives way, in
        /// whichever loop it is.
        func testTheLimitOfConnectionsIsTheServers() async throws {
            try await withDeadline(seconds: 60) {
                let limits = DtlsServerLimits.make { limits in
                    limits.connections = 6
                    limits.staleAfter = .zero
                }
                let server = try await DtlsServer.onLoopback(loops: 3, limits: limits)
                let crowd = try await Crowd(of: 18, at: server)
                XCTAssertEqual(server.statistics.connectionsOpen, 6)
                XCTAssertEqual(server.statistics.connectionsEvicted, 12)
                for (index, pair) in crowd.pairs.enumerated() {
                    XCTAssertEqual(pair.far.closeReason, index < 12 ? .evicted : nil, "\(index)")
                }
                await crowd.close()
                await server.close()
            }
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 3, limits: .make { $0.connections = 6 })
                let crowd = try await Crowd(of: 6, at: server)
                for seed in 1...6 {
                    let stranger = try Stranger(seed: UInt64(seed))
                    stranger.knock(at: server.localAddress)
                    stranger.answer(try await stranger.receive(), at: server.localAddress)
                }
                try await eventually("all were dropped") { server.statistics.drops[.connectionLimit] == 6 }
                XCTAssertEqual(server.statistics.handshakesStarted, 6)
                await crowd.close()
                await server.close()
            }
        }

        func testTheLimitsOfHandshakesAreTheServers() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 3, limits: .make { $0.handshakes = 4 })
                var strangers: [Stranger] = []
                for seed in 1...12 {
                    let stranger = try Stranger(seed: UInt64(seed))
                    try await stranger.openHalfway(at: server.localAddress)
                    strangers.append(stranger)
                }
                XCTAssertEqual(server.statistics.connectionsHandshaking, 4)
                XCTAssertEqual(server.statistics.connectionsEvicted, 8)
                XCTAssertEqual(server.statistics.mostHandshakes, 4)
                await server.close()
            }
            let changes: [(DtlsDropReason, (inout DtlsServerLimits) -> Void)] = [
                (.handshakeRate, { $0.handshakesPerPrefix = 2 }),
                (.handshakeRate, { $0.handshakeRatePerPrefix = DtlsRate(perSecond: 0.001, burst: 2) }),
                (.cookieRate, { $0.cookieRatePerPrefix = DtlsRate(perSecond: 0.001, burst: 2) }),
            ]
            for (reason, change) in changes {
                let limits = DtlsServerLimits.make(change)
                try await withDeadline(seconds: 60) {
                    let server = try await DtlsServer.onLoopback(loops: 3, limits: limits)
                    var strangers: [Stranger] = []
                    for seed in 1...2 {
                        let stranger = try Stranger(seed: UInt64(seed))
                        try await stranger.openHalfway(at: server.localAddress)
                        strangers.append(stranger)
                    }
                    for seed in 3...12 {
                        let stranger = try Stranger(seed: UInt64(seed))
                        stranger.knock(at: server.localAddress)
                        if reason == .handshakeRate {
                            stranger.answer(try await stranger.receive(), at: server.localAddress)
                        }
                    }
                    try await eventually("the others were dropped") { server.statistics.drops[reason] == 10 }
                    XCTAssertEqual(server.statistics.connectionsHandshaking, 2)
                    await server.close()
                }
            }
        }

        // MARK: Ends

        func testCloseEndsAllLoops() async throws {
            try await withDeadline(seconds: 60) {
                weak var remains: ServerEndpoint?
                let address: DtlsAddress
                do {
                    let server = try await DtlsServer.onLoopback(loops: 3)
                    remains = server.endpoints[2]
                    address = server.localAddress
                    let crowd = try await Crowd(of: 16, at: server)
                    let waiter = Task { await server.makeAsyncIterator().waitForOne() }
                    await server.close()
                    let last = await waiter.value
                    XCTAssertNil(last)
                    for pair in crowd.pairs {
                        let reason = await pair.near.waitUntilClosed()
                        XCTAssertEqual(reason, .closedByPeer)
                    }
                    await crowd.close()
                }
                try await eventually("the loops are gone") { remains == nil }
                // The port is free again, for a socket that shares it with nobody.
                let successor = try await DtlsServer.bind(
                    host: "127.0.0.1",
                    port: address.port,
                    context: .preSharedKey()
                )
                await successor.close()
            }
        }

        /// A socket that fails takes all loops along.
        func testAFailureEndsAllLoops() async throws {
            try await withDeadline {
                let server = try await DtlsServer.onLoopback(loops: 2)
                let crowd = try await Crowd(of: 8, at: server)
                let failed = server.endpoints[1]
                failed.socketFailed(DtlsError(.socketFailed, phase: .established, "a test"), of: failed.loop)
                for pair in crowd.pairs {
                    let reason = await pair.near.waitUntilClosed()
                    XCTAssertEqual(reason, .closedByPeer)
                    guard case .failed(let error)? = pair.far.closeReason else {
                        XCTFail("it was not closed by choice: \(String(describing: pair.far.closeReason))")
                        continue
                    }
                    XCTAssertEqual(error.code, .socketFailed)
                }
                for await _ in server { XCTFail("there is nobody") }
                XCTAssertEqual(server.failure?.code, .socketFailed)
                await server.close()
                XCTAssertEqual(server.failure?.code, .socketFailed, "to close it changes nothing of that")
                await crowd.close()
            }
        }

        /// A server that was closed has not failed, whatever its sockets say on the way.
        func testAServerThatIsClosedHasNotFailed() async throws {
            try await withDeadline {
                let server = try await DtlsServer.onLoopback(loops: 2)
                XCTAssertNil(server.failure)
                await server.close()
                let endpoint = server.endpoints[0]
                endpoint.socketFailed(DtlsError(.socketFailed, phase: .established, "a test"), of: endpoint.loop)
                XCTAssertNil(server.failure)
            }
        }

        func testAServerThatNobodyHoldsIsClosed() async throws {
            try await withDeadline {
                weak var remains: ServerEndpoint?
                do {
                    let server = try await DtlsServer.onLoopback(loops: 2)
                    remains = server.endpoints[0]
                }
                try await eventually("the loops are gone") { remains == nil }
            }
        }

        func testDrain() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 3)
                let crowd = try await Crowd(of: 16, at: server)
                let drain = Task { await server.drain(for: .seconds(50)) }
                var knocks = 0
                try await eventually("nobody new is let in") {
                    knocks += 1
                    try Stranger(seed: UInt64(knocks)).knock(at: server.localAddress)
                    return server.endpoints.allSatisfy { $0.statistics.drops[.draining] > 0 }
                }
                try await crowd.expectArrivals()
                for pair in crowd.pairs { pair.near.close() }
                let remaining = await drain.value
                XCTAssertEqual(remaining, 0)
                await crowd.close()

                let other = try await DtlsServer.onLoopback(loops: 3)
                let slow = try await Crowd(of: 7, at: other)
                let closed = await other.drain(for: .milliseconds(10))
                XCTAssertEqual(closed, 7)
                await slow.close()
            }
        }

        func testReplaceContextAndCloseConnections() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 3)
                let crowd = try await Crowd(of: 16, at: server)
                XCTAssertEqual(server.closeConnections { _ in true }, 16)
                for pair in crowd.pairs {
                    let reason = await pair.near.waitUntilClosed()
                    XCTAssertEqual(reason, .closedByPeer)
                }
                let store = DtlsPreSharedKeyStore([try Credentials.preSharedKey("another")])
                server.replaceContext(try DtlsServerContext(preSharedKeys: store))
                let client = try DtlsClientContext.preSharedKey(Credentials.preSharedKey("another"))
                let others = try await Crowd(of: 16, at: server, client)
                XCTAssertEqual(Set(others.pairs.map { server.loop(of: $0.far) }).count, 3)
                await crowd.close()
                await others.close()
                await server.close()
            }
        }

        /// A server that is closed leaves the descriptors alone, which are the caller's again or somebody else's.
        func testReplaceContextAfterCloseTouchesNoSocket() async throws {
            try await withDeadline {
                let options = DtlsSocketOptions(reusePort: true)
                let first = try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0), options: options)
                let second = try UDPSocket.bind(first.localAddress, options: options)
                // Takes the kernel's program away; false when there is none.
                func detachProgram() -> Bool {
                    let detachReusePortProgram: Int32 = 68
                    return SystemCall.setOption(first.descriptor, SOL_SOCKET, detachReusePortProgram, 0) == nil
                }
                let server = try DtlsServer(
                    sockets: [first.descriptor, second.descriptor],
                    context: .preSharedKey()
                )
                try XCTSkipUnless(detachProgram(), "this kernel takes no program")
                await server.close()
                server.replaceContext(try .preSharedKey())
                XCTAssertFalse(detachProgram(), "a program was attached to a socket that the server has given back")
                withExtendedLifetime((first, second)) {}
            }
        }

        /// A server with several loops does not share its port with another one of the same user.
        func testAPortThatIsTaken() async throws {
            let server = try await DtlsServer.onLoopback(loops: 2)
            let error = await failure {
                try await DtlsServer.bind(
                    host: "127.0.0.1",
                    port: server.localAddress.port,
                    context: .preSharedKey(),
                    loops: 2
                )
            }
            XCTAssertEqual(error?.code, .addressInUse)
            await server.close()
        }
    #endif
}

#if os(Linux)
    extension DtlsServer.AsyncIterator {
        /// As `next()`, for one who has it as a constant.
        fileprivate func waitForOne() async -> DtlsConnection? {
            var iterator = self
            return await iterator.next()
        }
    }

    extension DispatchSemaphore {
        /// For something that comes at once. (Tasks must not call `wait()` itself.)
        fileprivate func waitShortly() { wait() }
    }
#endif
