import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Servers that give their associations to other servers.
final class HandOverTests: XCTestCase {
    /// A restart on the same port: the client notices nothing, with an ID and without.
    func testARestartWithoutAHandshake() async throws {
        try await withDeadline {
            for ids in [DtlsConnectionIDs.automatic, .off] {
                let loopback = try await Loopback(.preSharedKey(nil, .make { $0.connectionIDs = ids }))
                let (near, address) = (loopback.near, loopback.server.localAddress)
                try await near.expectArrival(at: loopback.far, "before")
                let key = try DtlsHandOverKey.random()
                let handOver = try loopback.server.exportAssociations(under: key)
                XCTAssertEqual(handOver.count, 1)
                XCTAssertEqual(handOver.remaining, 0)
                XCTAssertEqual(loopback.far.closeReason, .handedOver)
                let end = try await loopback.far.receive()
                XCTAssertNil(end)
                let error = await failure { try await loopback.far.send("too late") }
                XCTAssertEqual(error?.code, .connectionClosed)
                await loopback.server.close()

                let successor = try await DtlsServer.bind(
                    host: "127.0.0.1",
                    port: address.port,
                    context: .preSharedKey()
                )
                XCTAssertEqual(try successor.importAssociations(handOver.bytes, under: key), 1)
                let far = try await successor.accept()
                XCTAssertEqual(far.peerAddress, loopback.client.localAddress)
                XCTAssertEqual(far.negotiated.preSharedKeyIdentity, loopback.far.negotiated.preSharedKeyIdentity)
                for number in 0..<5 { try await near.expectArrival(at: far, "\(number)") }
                for number in 0..<5 { try await far.expectArrival(at: near, "back \(number)") }
                XCTAssertEqual(near.state, .open)
                XCTAssertEqual(successor.statistics.connectionsOpen, 1)
                XCTAssertEqual(successor.statistics.handshakesStarted, 0)
                if near.negotiated.connectionIDs != nil {
                    try await loopback.client.rebind(host: "127.0.0.1")
                    try await near.expectArrival(at: far, "from elsewhere")
                    XCTAssertEqual(far.peerAddress, loopback.client.localAddress)
                }
                far.close()
                let reason = await near.waitUntilClosed()
                XCTAssertEqual(reason, .closedByPeer)
                await loopback.client.close()
                await successor.close()
            }
        }
    }

    /// What came and nobody has read goes along; readers that wait learn that it is over here.
    func testUnreadPayloadsGoAlong() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            for number in 0..<10 { try await loopback.near.send("\(number)") }
            try await eventually("all are there") { loopback.far.statistics.payloadsReceived == 10 }
            let key = try DtlsHandOverKey.random()
            let handOver = try loopback.server.exportAssociations(under: key)
            let successor = try await DtlsServer.onLoopback()
            try successor.importAssociations(handOver.bytes, under: key)
            let far = try await successor.accept()
            for number in 0..<10 {
                let text = try await far.receiveText()
                XCTAssertEqual(text, "\(number)")
            }
            await loopback.close()
            await successor.close()
        }
    }

    /// The socket goes along: what is sent while nobody listens waits there.
    func testTheSocketGoesAlong() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let key = try DtlsHandOverKey.random()
            let handOver = try loopback.server.exportAssociations(under: key)
            let descriptor = try await loopback.server.handOverSocket()
            XCTAssertEqual(fcntl(descriptor, F_GETFD) & FD_CLOEXEC, 0)
            for number in 0..<20 { try await loopback.near.send("\(number)") }
            let successor = try DtlsServer(
                socket: descriptor,
                takesOwnership: true,
                context: .preSharedKey(),
                associations: DtlsSealedAssociations(bytes: handOver.bytes, key: key)
            )
            let far = try await successor.accept()
            for number in 0..<20 {
                let text = try await far.receiveText()
                XCTAssertEqual(text, "\(number)")
            }
            try await far.expectArrival(at: loopback.near)
            let error = await failure { _ = try await loopback.server.handOverSocket() }
            XCTAssertEqual(error?.code, .socketFailed)
            await loopback.client.close()
            await successor.close()
        }
    }

    /// A server that reads no more leaves everything to its successor, also what comes before the export.
    func testNothingIsLostOnTheWay() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            try await loopback.near.expectArrival(at: loopback.far)
            await loopback.server.stopReading()
            for number in 0..<10 { try await loopback.near.send("\(number)") }
            // It still sends.
            try await loopback.far.expectArrival(at: loopback.near)
            let key = try DtlsHandOverKey.random()
            let handOver = try loopback.server.exportAssociations(under: key)
            for number in 10..<20 { try await loopback.near.send("\(number)") }
            let successor = try await DtlsServer(
                socket: loopback.server.handOverSocket(),
                takesOwnership: true,
                context: .preSharedKey(),
                associations: DtlsSealedAssociations(bytes: handOver.bytes, key: key)
            )
            let far = try await successor.accept()
            for number in 0..<20 {
                let text = try await far.receiveText()
                XCTAssertEqual(text, "\(number)")
            }
            await loopback.client.close()
            await successor.close()
        }
    }

    /// One device among several moves to another host.
    func testOneOfMany() async throws {
        try await withDeadline {
            let store = DtlsPreSharedKeyStore([
                try Credentials.preSharedKey("one"), try Credentials.preSharedKey("two"),
            ])
            let context = try DtlsServerContext(DtlsConfiguration(), preSharedKeys: store)
            let servers = [try await DtlsServer.onLoopback(context), try await DtlsServer.onLoopback(context)]
            let clients = [try await DtlsClient.onLoopback(), try await DtlsClient.onLoopback()]
            var relays: [Relay] = []
            var pairs: [(near: DtlsConnection, far: DtlsConnection)] = []
            for (client, name) in zip(clients, ["one", "two"]) {
                let relay = try Relay(to: servers[0].localAddress)
                relays.append(relay)
                let near = try await client.connect(
                    to: relay.address,
                    context: .preSharedKey(Credentials.preSharedKey(name))
                )
                pairs.append((near, try await servers[0].accept()))
            }
            let key = try DtlsHandOverKey.random()
            let handOver = try servers[0].exportAssociations(under: key) { _, negotiated in
                negotiated.preSharedKeyIdentity == Array("two".utf8)
            }
            XCTAssertEqual(handOver.count, 1)
            try servers[1].importAssociations(handOver.bytes, under: key)
            relays[1].redirect(to: servers[1].localAddress)
            let moved = try await servers[1].accept()
            try await pairs[1].near.expectArrival(at: moved)
            try await pairs[0].near.expectArrival(at: pairs[0].far)
            for client in clients { await client.close() }
            for server in servers { await server.close() }
        }
    }

    // MARK: What is refused

    func testWhatIsNotImported() async throws {
        try await withDeadline {
            let loopback = try await Loopback(.preSharedKey(nil, .make { $0.connectionIDs = .off }))
            let key = try DtlsHandOverKey.random()
            for lifetime in [Duration.zero, .seconds(100_000)] {
                let error = await failure { _ = try loopback.server.exportAssociations(under: key, lifetime: lifetime) }
                XCTAssertEqual(error?.code, .invalidConfiguration)
            }
            try await loopback.near.expectArrival(at: loopback.far, "nothing has happened")
            let handOver = try loopback.server.exportAssociations(under: key)
            let successor = try await DtlsServer.onLoopback()
            let other = try DtlsHandOverKey.random()
            let wrong = await failure { try successor.importAssociations(handOver.bytes, under: other) }
            XCTAssertEqual(wrong?.code, .handOverRefused)
            XCTAssertEqual(try successor.importAssociations(handOver.bytes, under: key), 1)
            let twice = await failure { try successor.importAssociations(handOver.bytes, under: key) }
            XCTAssertEqual(twice?.code, .handOverRefused, "\(String(describing: twice))")
            XCTAssertEqual(successor.statistics.connectionsOpen, 1)
            await successor.close()
            let closed = await failure { try successor.importAssociations(handOver.bytes, under: key) }
            XCTAssertEqual(closed?.code, .connectionClosed)
            await loopback.close()
        }
    }

    /// A server that cannot be made leaves the caller's descriptor alone.
    func testAFailedBeginningLeavesTheSocket() async throws {
        try await withDeadline {
            let socket = try RawSocket()
            let key = try DtlsHandOverKey.random()
            for takesOwnership in [true, false] {
                let error = await failure {
                    try DtlsServer(
                        socket: socket.descriptor,
                        takesOwnership: takesOwnership,
                        context: .preSharedKey(),
                        associations: DtlsSealedAssociations(bytes: [1, 2, 3], key: key)
                    )
                }
                XCTAssertEqual(error?.code, .handOverRefused)
            }
            let server = try DtlsServer(socket: socket.descriptor, context: .preSharedKey())
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: socket.address, context: .preSharedKey())
            try await near.expectArrival(at: server.accept())
            await client.close()
            await server.close()
            XCTAssertNotEqual(fcntl(socket.descriptor, F_GETFD), -1)
        }
    }

    /// A hand-over is good for another attempt when no server came of the first.
    func testABeginningThatFailsLeavesTheHandOver() async throws {
        try await withDeadline {
            let loopback = try await Loopback(.preSharedKey())
            try await loopback.near.expectArrival(at: loopback.far, "before")
            let key = try DtlsHandOverKey.random()
            let handOver = try loopback.server.exportAssociations(under: key)
            let sealed = DtlsSealedAssociations(bytes: handOver.bytes, key: key)
            let port = loopback.server.localAddress.port
            let taken = await failure {
                try await DtlsServer.bind(host: "127.0.0.1", port: port, context: .preSharedKey(), associations: sealed)
            }
            XCTAssertEqual(taken?.code, .addressInUse)
            let nothing = await failure {
                try DtlsServer(sockets: [-1], context: .preSharedKey(), associations: sealed)
            }
            XCTAssertEqual(nothing?.code, .invalidConfiguration)
            await loopback.server.close()

            func bind() async throws -> DtlsServer {
                try await DtlsServer.bind(host: "127.0.0.1", port: port, context: .preSharedKey(), associations: sealed)
            }
            let successor = try await bind()
            try await loopback.near.expectArrival(at: successor.accept(), "after")
            await successor.close()
            let again = await failure { try await bind() }
            XCTAssertEqual(again?.code, .handOverRefused, "a server has come of it")
            await loopback.client.close()
        }
    }

    /// Whom the peer has left for a new association has no place any more, and tells the peer so in vain.
    func testAPeerThatIsThereAlready() async throws {
        try await withDeadline {
            let plain = try DtlsClientContext.preSharedKey(nil, .make { $0.connectionIDs = .off })
            let loopback = try await Loopback(plain, relayed: true)
            let key = try DtlsHandOverKey.random()
            let handOver = try loopback.server.exportAssociations(under: key)
            let second = try await DtlsClient.onLoopback()
            let near = try await second.connect(to: loopback.relay.address, context: plain)
            let far = try await loopback.server.accept()
            XCTAssertEqual(try loopback.server.importAssociations(handOver.bytes, under: key), 0)
            try await near.expectArrival(at: far)
            XCTAssertEqual(loopback.server.statistics.connectionsOpen, 1)
            await second.close()
            await loopback.close()
        }
    }

    /// What cannot be handed over keeps its payloads, and the readers who wait behind those.
    func testAFailedHandOverTakesNothingFromReaders() async throws {
        try await withDeadline(seconds: 10) {
            let loopback = try await Loopback(nil, .preSharedKey(.make { $0.recordLayer = .openSSL }))
            let far = loopback.far
            let reader = Task { try await far.receive() }
            try await eventually("a reader waits") { far.association.state.withLock { !$0.inbox.readers.isEmpty } }
            // As a datagram that came for a handler, and that it has not taken yet.
            far.association.state.withLock { state in
                [UInt8(1), 2].withUnsafeBytes { _ = state.inbox.add($0, passesReaders: true) }
            }
            let handOver = try loopback.server.exportAssociations(under: .random())
            XCTAssertEqual(handOver.remaining, 1)
            let (isForgotten, isEmpty) = far.association.state.withLock {
                ($0.inbox.readers.isEmpty, $0.inbox.isEmpty)
            }
            XCTAssertFalse(isForgotten, "the reader was forgotten")
            XCTAssertFalse(isEmpty, "the payload was thrown away")
            await loopback.close()
            let end = try await reader.value
            XCTAssertNil(end)
        }
    }

    /// OpenSSL's record layer cannot be left, and says so.
    func testWhoStaysWithOpenSSL() async throws {
        try await withDeadline {
            let loopback = try await Loopback(nil, .preSharedKey(.make { $0.recordLayer = .openSSL }))
            let handOver = try loopback.server.exportAssociations(under: .random())
            XCTAssertEqual(handOver.count, 0)
            XCTAssertEqual(handOver.remaining, 1)
            try await loopback.near.expectArrival(at: loopback.far)
            await loopback.close()
        }
    }
}
