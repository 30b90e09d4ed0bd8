import DTLSCore
import DTLSPrimitives
import Dispatch
import XCTest

@testable import DTLS

/// Datagrams that are handed over where they come in.
final class HandlerTests: XCTestCase {
    private static let recordLayers = [DtlsRecordLayer.detached, .openSSL]

    private static func loopback(_ recordLayer: DtlsRecordLayer = .detached) async throws -> Loopback {
        let configuration = DtlsConfiguration.make { $0.recordLayer = recordLayer }
        return try await Loopback(.preSharedKey(nil, configuration), .preSharedKey(configuration))
    }

    /// Collects texts, for a handler.
    private final class Collector: Sendable {
        let texts = Lock<[String]>([])
        let ends = Lock<[DtlsCloseReason]>([])

        func add(_ datagram: RawSpan) {
            let text = datagram.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
            texts.withLock { $0.append(text) }
        }

        var all: [String] { texts.withLock { $0 } }
    }

    /// What came before a handler was there comes first, and everything in order.
    func testEverythingInOrder() async throws {
        try await withDeadline {
            for recordLayer in Self.recordLayers {
                let loopback = try await Self.loopback(recordLayer)
                let collector = Collector()
                for number in 0..<20 { try await loopback.near.send("\(number)") }
                try await eventually("some wait") { loopback.far.statistics.payloadsReceived > 0 }
                loopback.far.handleDatagrams { _, datagram in collector.add(datagram) }
                for number in 20..<200 { try await loopback.near.send("\(number)") }
                try await eventually("all are there") { collector.all.count == 200 }
                XCTAssertEqual(collector.all, (0..<200).map { "\($0)" })
                XCTAssertEqual(loopback.far.statistics.payloadsReceived, 200)
                await loopback.close()
            }
        }
    }

    /// Whoever waits for a datagram goes on behind all that were read with it. Else a task elsewhere would be woken,
    /// and wait again, for each of them.
    func testReadersGoOnBehindTheBatch() async throws {
        try await withDeadline {
            let loopback = try await Self.loopback()
            let reader = loopback.far
            let other = try await DtlsClient.onLoopback()
            let near = try await other.connect(
                to: loopback.server.localAddress,
                context: .preSharedKey(nil, .make { $0.recordLayer = .detached })
            )
            let handled = try await loopback.server.accept()
            let isBlocked = Gate()
            let goesOn = DispatchSemaphore(value: 0)
            let hasRead = DispatchSemaphore(value: 0)
            let early = Lock<Bool?>(nil)
            handled.handleDatagrams { _, datagram in
                switch datagram.withUnsafeBytes({ String(decoding: $0, as: UTF8.self) }) {
                case "wait":
                    isBlocked.open()
                    goesOn.wait()
                case "look":
                    // A reader that was woken already is done long before.
                    let isEarly = hasRead.wait(timeout: .now() + 0.2) == .success
                    early.withLock { $0 = isEarly }
                default:
                    break
                }
            }
            let reading = Task {
                let text = try await reader.receiveText()
                hasRead.signal()
                return text
            }
            try await eventually("the reader waits") {
                reader.association.state.withLock { !$0.inbox.readers.isEmpty }
            }
            try await near.send("wait")
            await isBlocked.wait()
            // More than are read one by one after others that came alone.
            for _ in 0..<20 { try await near.send("filler") }
            try await loopback.near.send("for the reader")
            try await near.send("look")
            goesOn.signal()
            let text = try await reading.value
            XCTAssertEqual(text, "for the reader")
            try await eventually("the handler has looked") { early.withLock { $0 != nil } }
            XCTAssertEqual(early.withLock { $0 }, false)
            await other.close()
            await loopback.close()
        }
    }

    func testAnEcho() async throws {
        try await withDeadline {
            for recordLayer in Self.recordLayers {
                let loopback = try await Self.loopback(recordLayer)
                loopback.far.handleDatagrams { connection, datagram in
                    XCTAssertEqual(try? connection.trySend(datagram), true)
                }
                for count in [1, 64, loopback.near.maximumPayloadSize] {
                    let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
                    try await loopback.near.send(payload)
                    let answer = try await loopback.near.receive()
                    XCTAssertEqual(answer, payload)
                }
                await loopback.close()
            }
        }
    }

    /// Nobody has to hold a connection that is handled, and its end is told once, behind the last datagram.
    func testTheEnd() async throws {
        try await withDeadline {
            for recordLayer in Self.recordLayers {
                let collector = Collector()
                let server = try await DtlsServer.onLoopback(.preSharedKey(.make { $0.recordLayer = recordLayer }))
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
                weak let connection: DtlsConnection? = try await {
                    let far = try await server.accept()
                    far.handleDatagrams { connection, datagram in
                        collector.add(datagram)
                    } closed: { connection, reason in
                        XCTAssertEqual(connection.state, .closed)
                        collector.ends.withLock { $0.append(reason) }
                    }
                    return far
                }()
                for number in 0..<10 { try await near.send("\(number)") }
                near.close()
                try await eventually("the end") { collector.ends.withLock { !$0.isEmpty } }
                XCTAssertEqual(collector.all, (0..<10).map { "\($0)" })
                XCTAssertEqual(collector.ends.withLock { $0 }, [.closedByPeer])
                try await eventually("it is released") { connection == nil }
                await client.close()
                await server.close()
            }
        }
    }

    func testAnEndThatWasBefore() async throws {
        try await withDeadline {
            let loopback = try await Self.loopback()
            try await loopback.near.send("last words")
            try await eventually("they are there") { loopback.far.statistics.payloadsReceived == 1 }
            loopback.near.close()
            _ = await loopback.far.waitUntilClosed()
            let collector = Collector()
            loopback.far.handleDatagrams { _, datagram in
                collector.add(datagram)
            } closed: { _, reason in
                collector.ends.withLock { $0.append(reason) }
            }
            try await eventually("the end") { collector.ends.withLock { !$0.isEmpty } }
            XCTAssertEqual(collector.all, ["last words"])
            XCTAssertEqual(collector.ends.withLock { $0 }, [.closedByPeer])
            await loopback.close()
        }
    }

    /// A handler may close its connection, which ends those who wait for it.
    func testAHandlerThatCloses() async throws {
        try await withDeadline {
            let loopback = try await Self.loopback()
            let ends = Lock<[DtlsCloseReason]>([])
            let reader = Task { try await loopback.far.receive() }
            loopback.far.handleDatagrams { connection, _ in
                connection.close()
            } closed: { _, reason in
                ends.withLock { $0.append(reason) }
            }
            try await loopback.near.send("close")
            // By now the peer may have closed, and its alert be here.
            for _ in 0..<2 { try? await loopback.near.send("close") }
            let reason = await loopback.near.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            let end = try await reader.value
            // It had waited since before the handler was there, or has got nothing.
            XCTAssertTrue(end == nil || end == Array("close".utf8))
            try await eventually("it is told") { ends.withLock { $0 } == [.closedLocally] }
            await loopback.close()
        }
    }

    /// Another handler takes the place; what the first one held is released where nothing is locked.
    func testAHandlerThatIsReplaced() async throws {
        try await withDeadline {
            final class Caller: Sendable {
                let connection: DtlsConnection
                let gone: Gate

                init(_ connection: DtlsConnection, _ gone: Gate) {
                    self.connection = connection
                    self.gone = gone
                }

                deinit {
                    _ = connection.statistics
                    gone.open()
                }
            }
            let loopback = try await Self.loopback()
            let (first, second) = (Collector(), Collector())
            let gone = Gate()
            let caller = Caller(loopback.far, gone)
            loopback.far.handleDatagrams { [caller] _, datagram in
                first.add(datagram)
                _ = caller
            }
            try await loopback.near.send("one")
            try await eventually("the first") { first.all == ["one"] }
            withExtendedLifetime(caller) {}
            loopback.far.handleDatagrams { connection, datagram in
                second.add(datagram)
                // Again, from within.
                connection.handleDatagrams { _, datagram in second.add(datagram) }
            }
            for text in ["two", "three"] { try await loopback.near.send(text) }
            try await eventually("the second") { second.all == ["two", "three"] }
            XCTAssertEqual(first.all, ["one"])
            await loopback.close()
        }
    }

    /// One call at a time for all connections of a socket, also while its client changes the socket.
    func testOneAtATime() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let echo = Task { for await connection in server { Self.flood(connection) } }
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let busy = Lock(0)
            let calls = Lock(0)
            near.handleDatagrams { _, _ in
                XCTAssertEqual(
                    busy.withLock { busy -> Int in
                        busy += 1
                        return busy
                    },
                    1
                )
                busy.withLock { $0 -= 1 }
                calls.withLock { $0 += 1 }
            }
            for _ in 0..<5 {
                let before = calls.withLock { $0 }
                try await client.rebind(host: "127.0.0.1")
                // Until the new path is proven, few are answered.
                try await eventually("they come") {
                    try await near.send("more")
                    return calls.withLock { $0 } > before + 10
                }
            }
            await client.close()
            await server.close()
            await echo.value
        }
    }

    private static func flood(_ connection: DtlsConnection) {
        connection.handleDatagrams { connection, datagram in
            for _ in 0..<50 { _ = try? connection.trySend(datagram) }
        }
    }
}

extension HandlerTests {
    /// Connections that wait come first, then each one where its handshake is finished; those that nobody keeps end.
    func testConnectionsThatAreHandedOver() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let clients = [try await DtlsClient.onLoopback(), try await DtlsClient.onLoopback()]
            let context = try DtlsClientContext.preSharedKey()
            let first = try await clients[0].connect(to: server.localAddress, context: context)
            try await eventually("it waits") { server.statistics.connectionsOpen == 1 }
            let executor = server.endpoints[0].loop.executor
            let count = Lock(0)
            server.handleConnections { connection in
                XCTAssertTrue(executor.isAwake)
                let number = count.withLock { count -> Int in
                    count += 1
                    return count
                }
                guard number < 3 else { return }
                connection.handleDatagrams { connection, datagram in _ = try? connection.trySend(datagram) }
            }
            try await first.expectEcho("it had waited")
            let second = try await clients[1].connect(to: server.localAddress, context: context)
            try await second.expectEcho("it has come")
            second.close()
            try await eventually("it is gone") { server.statistics.connectionsOpen == 1 }
            let third = try await clients[1].connect(to: server.localAddress, context: context)
            let reason = await third.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            try await first.expectEcho("it goes on")
            for client in clients { await client.close() }
            await server.close()
        }
    }
}
