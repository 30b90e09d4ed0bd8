import DTLSCore
import XCTest

@testable import DTLS

#if os(Linux)
    #if canImport(Glibc)
        import Glibc
    #elseif canImport(Musl)
        import Musl
    #endif

    /// Servers of several loops that give their associations to others.
    final class LoopsHandOverTests: XCTestCase {
        /// From any number of loops to any other, on the same port: nobody notices, and who has an ID may move.
        func testFromLoopsToLoops() async throws {
            for ids in [DtlsConnectionIDs.automatic, .off] {
                for (from, to, steers) in [(3, 2, true), (1, 3, true), (3, 1, true), (2, 3, false)] {
                    try await withDeadline(seconds: 60) {
                        let context = try DtlsServerContext.preSharedKey(.make { $0.connectionIDs = ids })
                        let server = try await DtlsServer.onLoopback(context, loops: from)
                        let crowd = try await Crowd(of: 12, at: server)
                        let key = try DtlsHandOverKey.random()
                        let handOver = try server.exportAssociations(under: key)
                        XCTAssertEqual(handOver.count, 12)
                        XCTAssertEqual(handOver.remaining, 0)
                        await server.close()
                        let successor = try await DtlsServer.onLoopback(
                            context,
                            port: server.localAddress.port,
                            loops: to,
                            steers: steers
                        )
                        XCTAssertEqual(try successor.importAssociations(handOver.bytes, under: key), 12)
                        let moved = try await crowd.at(successor)
                        XCTAssertEqual(successor.statistics.mostConnections, 12)
                        try await moved.expectArrivals()
                        // The kernel brings what has an ID to where it was put.
                        if steers, moved.pairs[0].far.negotiated.connectionIDs != nil {
                            XCTAssertEqual(successor.strayCount, 0)
                        }
                        if moved.pairs[0].far.negotiated.connectionIDs != nil {
                            try await moved.move()
                            try await moved.expectArrivals()
                        }
                        XCTAssertEqual(successor.statistics.handshakesStarted, 0)
                        XCTAssertEqual(successor.statistics.drops[.unknownPeer], 0)
                        await moved.close()
                        await successor.close()
                    }
                }
            }
        }

        /// The sockets go along: what is sent while nobody listens waits there, and each connection keeps its loop.
        func testTheSocketsGoAlong() async throws {
            for ids in [DtlsConnectionIDs.automatic, .off] {
                try await withDeadline(seconds: 60) {
                    let context = try DtlsServerContext.preSharedKey(.make { $0.connectionIDs = ids })
                    let server = try await DtlsServer.onLoopback(context, loops: 3)
                    let crowd = try await Crowd(of: 12, at: server)
                    let homes = crowd.pairs.map { server.loop(of: $0.far) }
                    let single = await failure { _ = try await server.handOverSocket() }
                    XCTAssertEqual(single?.code, .unsupported)
                    await server.stopReading()
                    for pair in crowd.pairs { try await pair.near.send("before") }
                    let key = try DtlsHandOverKey.random()
                    let handOver = try server.exportAssociations(under: key)
                    let descriptors = try await server.handOverSockets()
                    XCTAssertEqual(descriptors.count, 3)
                    for pair in crowd.pairs { try await pair.near.send("after") }
                    let successor = try DtlsServer(
                        sockets: descriptors,
                        takesOwnership: true,
                        context: context,
                        associations: DtlsSealedAssociations(bytes: handOver.bytes, key: key)
                    )
                    let moved = try await crowd.at(successor)
                    for pair in moved.pairs {
                        for expected in ["before", "after"] {
                            let text = try await pair.far.receiveText()
                            XCTAssertEqual(text, expected)
                        }
                    }
                    try await moved.expectArrivals()
                    XCTAssertEqual(moved.pairs.map { successor.loop(of: $0.far) }, homes)
                    XCTAssertEqual(successor.strayCount, 0)
                    let error = await failure { _ = try await server.handOverSockets() }
                    XCTAssertEqual(error?.code, .socketFailed)
                    await moved.close()
                    await successor.close()
                    for descriptor in descriptors { XCTAssertEqual(fcntl(descriptor, F_GETFD), -1) }
                }
            }
        }

        /// A peer that starts anew comes to another loop than its former connection, which an import has put elsewhere.
        func testAPeerThatStartsAnewElsewhere() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback(loops: 1)
                var relays: [Relay] = []
                var fars: [DtlsConnection] = []
                for _ in 0..<12 {
                    let relay = try Relay(to: server.localAddress)
                    let client = try await DtlsClient.onLoopback()
                    let near = try await client.connect(to: relay.address, context: .preSharedKey())
                    fars.append(try await server.accept())
                    // Its close_notify is lost.
                    relay.rule { _ in [] }
                    await client.close()
                    XCTAssertEqual(near.closeReason, .closedLocally)
                    relays.append(relay)
                }
                let key = try DtlsHandOverKey.random()
                let handOver = try server.exportAssociations(under: key)
                await server.close()
                let successor = try await DtlsServer.onLoopback(port: server.localAddress.port, loops: 3)
                XCTAssertEqual(try successor.importAssociations(handOver.bytes, under: key), 12)
                var former: [DtlsAddress: DtlsConnection] = [:]
                for _ in relays {
                    let far = try await successor.accept()
                    former[far.peerAddress] = far
                }
                var isElsewhere = false
                for relay in relays {
                    relay.passEverything()
                    let client = try await DtlsClient.onLoopback()
                    let near = try await client.connect(to: relay.address, context: .preSharedKey())
                    let far = try await successor.accept()
                    let old = try XCTUnwrap(former[far.peerAddress])
                    if successor.loop(of: far) != successor.loop(of: old) { isElsewhere = true }
                    let reason = await old.waitUntilClosed()
                    XCTAssertEqual(reason, .replacedByPeer)
                    try await near.expectArrival(at: far)
                    try await far.expectArrival(at: near)
                    await client.close()
                }
                XCTAssertTrue(isElsewhere)
                await successor.close()
            }
        }

        func testSocketsThatShareNoPort() async throws {
            let sockets = try [0, 1].map { _ in
                try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0))
            }
            let error = await failure {
                try DtlsServer(sockets: sockets.map(\.descriptor), context: .preSharedKey())
            }
            XCTAssertEqual(error?.code, .invalidConfiguration)
            // They are as they were.
            for socket in sockets { XCTAssertGreaterThanOrEqual(fcntl(socket.descriptor, F_GETFD), 0) }
        }
    }
#endif
