import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Tasks on a socket's queue.
final class ServingTests: XCTestCase {
    /// Each connection has its task, which runs on the queue, goes on after waits elsewhere, and ends with the server.
    func testServing() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let executor = server.endpoints[0].loop.executor
            let ended = Lock(0)
            let serving = Task {
                await server.serve { connection in
                    for try await datagram in connection {
                        XCTAssertTrue(executor.isAwake)
                        await Task.yield()
                        XCTAssertTrue(executor.isAwake)
                        try await connection.send(datagram)
                    }
                    ended.withLock { $0 += 1 }
                }
            }
            var clients: [DtlsClient] = []
            for _ in 0..<4 {
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
                for number in 0..<20 { try await near.expectEcho("\(number)") }
                clients.append(client)
            }
            await server.close()
            await serving.value
            XCTAssertEqual(ended.withLock { $0 }, 4)
            for client in clients { await client.close() }
        }
    }

    /// A connection is closed when its body returns or throws; the others go on.
    func testABodyThatEnds() async throws {
        try await withDeadline {
            struct Enough: Error {}
            let server = try await DtlsServer.onLoopback()
            let serving = Task {
                await server.serve { connection in
                    guard try await connection.receiveText() == "stay" else { throw Enough() }
                    for try await datagram in connection { try await connection.send(datagram) }
                }
            }
            let clients = [try await DtlsClient.onLoopback(), try await DtlsClient.onLoopback()]
            let staying = try await clients[0].connect(to: server.localAddress, context: .preSharedKey())
            try await staying.send("stay")
            let leaving = try await clients[1].connect(to: server.localAddress, context: .preSharedKey())
            try await leaving.send("go")
            let reason = await leaving.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            try await staying.expectEcho()
            // Who serves may be told to stop, too.
            serving.cancel()
            await serving.value
            let end = await staying.waitUntilClosed()
            XCTAssertEqual(end, .closedByPeer)
            for client in clients { await client.close() }
            await server.close()
        }
    }

    /// A server that drains serves those who are there. When they have gone, serving is over.
    func testServingWhileDraining() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let serving = Task {
                await server.serve { connection in
                    for try await datagram in connection { try await connection.send(datagram) }
                }
            }
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            try await near.expectEcho()
            let draining = Task { await server.drain(for: .seconds(3_600)) }
            try await eventually("the drain") { server.endpoints[0].state.withLock { !$0.drainers.isEmpty } }
            for number in 0..<10 { try await near.expectEcho("\(number)") }
            near.close()
            let remaining = await draining.value
            XCTAssertEqual(remaining, 0)
            await serving.value
            await client.close()
        }
    }

    /// Tasks that are always ready leave the socket its turn.
    func testTasksThatAreAlwaysReady() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let busy = Task(executorPreference: loopback.far.executor) {
                while !Task.isCancelled { await Task.yield() }
            }
            for number in 0..<20 { try await loopback.near.expectArrival(at: loopback.far, "\(number)") }
            busy.cancel()
            await busy.value
            await loopback.close()
        }
    }

    /// A task that sends without end leaves the socket its turn, too: what others ask meanwhile is answered.
    func testATaskThatAlwaysSends() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let isAnswered = Lock(false)
            let sent = Lock(0)
            let serving = Task {
                await server.serve { connection in
                    guard try await connection.receiveText() == "flood" else {
                        isAnswered.withLock { $0 = true }
                        return
                    }
                    while !isAnswered.withLock({ $0 }), sent.withLock({ $0 }) < 500_000 {
                        try await connection.send("and more")
                        sent.withLock { $0 += 1 }
                    }
                }
            }
            let clients = [try await DtlsClient.onLoopback(), try await DtlsClient.onLoopback()]
            let asking = try await clients[1].connect(to: server.localAddress, context: .preSharedKey())
            let flooded = try await clients[0].connect(to: server.localAddress, context: .preSharedKey())
            try await flooded.send("flood")
            _ = try await flooded.receiveText()
            try await asking.send("and now?")
            _ = await asking.waitUntilClosed()
            XCTAssertTrue(isAnswered.withLock { $0 })
            XCTAssertLessThan(sent.withLock { $0 }, 500_000)
            for client in clients { await client.close() }
            await server.close()
            await serving.value
        }
    }

    /// Neither does one that cannot send: a payload that is too large, again and again.
    func testATaskThatAlwaysFailsToSend() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let tries = Lock(0)
            let isOver = Lock(false)
            let (near, far) = (loopback.near, loopback.far)
            let failing = Task(executorPreference: far.executor) {
                let payload = [UInt8](repeating: 1, count: far.maximumPayloadSize + 1)
                while !isOver.withLock({ $0 }), tries.withLock({ $0 }) < 1_000_000 {
                    try? await far.send(payload)
                    tries.withLock { $0 += 1 }
                }
            }
            try await eventually("the task") { tries.withLock { $0 } > 0 }
            try await near.expectArrival(at: far, "through")
            isOver.withLock { $0 = true }
            await failing.value
            XCTAssertLessThan(tries.withLock { $0 }, 1_000_000)
            await loopback.close()
        }
    }

    /// A datagram that had no room is not counted again when it is sent at last.
    func testToAskWhetherOthersMustGoOnCountsNothing() {
        let executor = LoopExecutor.client()
        executor.run {
            var sent = 0
            while !LoopExecutor.countSend(), sent < 1_000 {
                sent += 1
                XCTAssertFalse(LoopExecutor.hasSentEnough)
            }
            XCTAssertEqual(sent, 255)
            XCTAssertTrue(LoopExecutor.hasSentEnough)
        }
        XCTAssertFalse(LoopExecutor.hasSentEnough, "this thread runs no loop")
        XCTAssertFalse(LoopExecutor.countSend())
    }

    /// The executor outlives its server: nobody who waits there waits for ever.
    func testAnExecutorWithoutAServer() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let executors = [loopback.near.executor, loopback.far.executor]
            await loopback.close()
            for executor in executors {
                let value = await Task(executorPreference: executor) {
                    await Task.yield()
                    return 7
                }.value
                XCTAssertEqual(value, 7)
            }
        }
    }

    /// What a task sends on the loop leaves together, in order with what is sent elsewhere.
    func testOrderOfWhatIsSent() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let far = loopback.far
            try await Task(executorPreference: far.executor) {
                for number in 0..<100 { try await far.send("\(number)") }
            }.value
            for number in 100..<200 { try await far.send("\(number)") }
            for number in 0..<200 {
                let text = try await loopback.near.receiveText()
                XCTAssertEqual(text, "\(number)")
            }
            await loopback.close()
        }
    }
}
