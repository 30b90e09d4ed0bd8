import DTLS
import ServiceLifecycle
import Synchronization
import XCTest

@testable import DTLSService

/// A server in a group of services.
final class ServiceTests: XCTestCase {
    /// A graceful shutdown lets nobody new in, and those who are there get their answers until they go.
    func testAGracefulShutdownDrains() async throws {
        try await withDeadline {
            let server = try await Support.bindServer()
            let group = Support.group(DtlsService(server, drainsFor: .seconds(3_600), Support.echo))
            let running = Task { try await group.run() }
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let connection = try await client.connect(to: server.localAddress, context: Support.clientContext())
            try await connection.expectEcho("before")
            await group.triggerGracefulShutdown()
            let late = try await DtlsClient.bind(host: "127.0.0.1")
            let latecomer = Task {
                try await late.connect(to: server.localAddress, context: Support.clientContext())
            }
            try await eventually("a refused hello") { server.statistics.drops[.draining] > 0 }
            for number in 0..<10 { try await connection.expectEcho("during \(number)") }
            XCTAssertEqual(connection.state, .open)
            connection.close()
            // Neither an error nor a time-out: everyone has gone.
            try await running.value
            XCTAssertEqual(server.statistics.handshakesCompleted, 1)
            latecomer.cancel()
            let result = await latecomer.result
            XCTAssertThrowsError(try result.get())
            await client.close()
            await late.close()
        }
    }

    /// Those who do not go are closed when the time is over.
    func testTheDrainEnds() async throws {
        try await withDeadline {
            let server = try await Support.bindServer()
            let group = Support.group(DtlsService(server, drainsFor: .milliseconds(100), Support.echo))
            let running = Task { try await group.run() }
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let connection = try await client.connect(to: server.localAddress, context: Support.clientContext())
            try await connection.expectEcho("before")
            await group.triggerGracefulShutdown()
            let reason = await connection.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            try await running.value
            await client.close()
        }
    }

    /// Cancellation waits for nobody, also in the midst of a drain.
    func testCancellation() async throws {
        for drainsFirst in [false, true] {
            try await withDeadline {
                let server = try await Support.bindServer()
                let ended = Mutex(0)
                let group = Support.group(
                    DtlsService(server, drainsFor: .seconds(3_600)) { connection in
                        defer { ended.withLock { $0 += 1 } }
                        try await Support.echo(connection)
                    }
                )
                let running = Task { try await group.run() }
                let client = try await DtlsClient.bind(host: "127.0.0.1")
                let connection = try await client.connect(to: server.localAddress, context: Support.clientContext())
                try await connection.expectEcho("before")
                if drainsFirst {
                    await group.triggerGracefulShutdown()
                    let late = try await DtlsClient.bind(host: "127.0.0.1")
                    let latecomer = Task {
                        try await late.connect(to: server.localAddress, context: Support.clientContext())
                    }
                    try await eventually("the drain") { server.statistics.drops[.draining] > 0 }
                    latecomer.cancel()
                    await late.close()
                }
                running.cancel()
                _ = await running.result
                XCTAssertEqual(ended.withLock { $0 }, 1)
                let reason = await connection.waitUntilClosed()
                XCTAssertEqual(reason, .closedByPeer)
                // Closed for good: its port is free.
                let port = server.localAddress.port
                let next = try await DtlsServer.bind(
                    host: "127.0.0.1",
                    port: port,
                    context: DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([]))
                )
                await next.close()
                await client.close()
            }
        }
    }

    /// The tasks of connections learn of the shutdown, and can tell their peers in their own way.
    func testConnectionsLearnOfTheShutdown() async throws {
        try await withDeadline {
            let server = try await Support.bindServer()
            let group = Support.group(
                DtlsService(server, drainsFor: .seconds(3_600)) { connection in
                    try await withGracefulShutdownHandler {
                        try await Support.echo(connection)
                    } onGracefulShutdown: {
                        _ = try? connection.trySend(Array("going away".utf8))
                    }
                }
            )
            let running = Task { try await group.run() }
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let connection = try await client.connect(to: server.localAddress, context: Support.clientContext())
            try await connection.expectEcho("before")
            await group.triggerGracefulShutdown()
            let text = try await connection.receiveText()
            XCTAssertEqual(text, "going away")
            connection.close()
            try await running.value
            await client.close()
        }
    }

    /// A server that somebody else closes is a failure of the group.
    func testAServerThatIsClosed() async throws {
        try await withDeadline {
            let server = try await Support.bindServer()
            let group = Support.group(DtlsService(server, Support.echo))
            let running = Task { try await group.run() }
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let connection = try await client.connect(to: server.localAddress, context: Support.clientContext())
            try await connection.expectEcho("served")
            await server.close()
            let result = await running.result
            XCTAssertThrowsError(try result.get()) { error in
                XCTAssertEqual(error as? ServiceGroupError, .serviceFinishedUnexpectedly())
            }
            await client.close()
        }
    }
}
