import DTLSCore
import DTLSPrimitives
import Foundation
import XCTest

@testable import DTLS

final class LifetimeTests: XCTestCase {
    /// Objects that must be gone in the end, by the kind of thing they are.
    private final class Watch: Sendable {
        private struct Entry {
            let name: String
            weak var object: (any AnyObject & Sendable)?
        }

        private let entries = Lock<[Entry]>([])

        func add(_ name: String, _ object: any AnyObject & Sendable) {
            entries.withLock { $0.append(Entry(name: name, object: object)) }
        }

        /// The insides of a connection, a client or a server, of which nobody outside holds any reference.
        func add(insidesOf owner: any AnyObject & Sendable) {
            for child in Mirror(reflecting: owner).children {
                switch child.value {
                case let association as Association: add("Association", association)
                case let endpoint as ClientEndpoint: add("ClientEndpoint", endpoint)
                case let endpoints as [ServerEndpoint]: for endpoint in endpoints { add("ServerEndpoint", endpoint) }
                default: continue
                }
            }
            add("\(type(of: owner))", owner)
        }

        var alive: [String: Int] {
            entries.withLock { entries in
                entries.filter { $0.object != nil }.reduce(into: [:]) { $0[$1.name, default: 0] += 1 }
            }
        }

        func count(_ name: String) -> Int { entries.withLock { $0.count { $0.name == name } } }
    }

    func testThreeHundredCyclesLeaveNothing() async throws {
        try await withDeadline(seconds: 60) {
            let watch = Watch()
            // Dispatch opens descriptors of its own once, and keeps them.
            try await Loopback().close()
            let before = try openDescriptors()
            let (clientContext, serverContext) = try (
                DtlsClientContext.preSharedKey(), DtlsServerContext.preSharedKey()
            )
            for round in 0..<300 {
                let loopback = try await Loopback(clientContext, serverContext)
                for owner in [loopback.near, loopback.far] { watch.add(insidesOf: owner) }
                watch.add(insidesOf: loopback.client)
                watch.add(insidesOf: loopback.server)
                // Ended by a close of either connection, of an endpoint, or by nothing but being let go.
                switch round % 5 {
                case 0: loopback.near.close()
                case 1: loopback.far.close()
                case 2: await loopback.client.close()
                case 3: await loopback.server.close()
                default: break
                }
            }
            XCTAssertEqual(watch.count("Association"), 600)
            XCTAssertEqual(watch.count("ClientEndpoint"), 300)
            XCTAssertEqual(watch.count("ServerEndpoint"), 300)
            try await eventually("everything is gone; left: \(watch.alive)") { watch.alive.isEmpty }
            try await eventually("the descriptors are closed") { try openDescriptors() <= before }
        }
    }

    func testHandshakesThatFailLeaveNothing() async throws {
        try await withDeadline(seconds: 60) {
            let watch = Watch()
            try await Loopback().close()
            let before = try openDescriptors()
            do {
                let server = try await DtlsServer.onLoopback(.preSharedKey(.eager))
                watch.add(insidesOf: server)
                let wrong = try DtlsClientContext.preSharedKey(.init(identity: "client", key: [1]), .lessEager)
                for round in 0..<20 {
                    let client = try await DtlsClient.onLoopback()
                    watch.add(insidesOf: client)
                    let connect = Task { try await client.connect(to: server.localAddress, context: wrong) }
                    for _ in 0..<(round * 20) { await Task.yield() }
                    switch round % 4 {
                    case 0: connect.cancel()
                    case 1: await client.close()
                    default: break
                    }
                    let result = await connect.result
                    XCTAssertThrowsError(try result.get())
                }
                await server.close()
            }
            try await eventually("everything is gone; left: \(watch.alive)") { watch.alive.isEmpty }
            try await eventually("the descriptors are closed") { try openDescriptors() <= before }
        }
    }

    /// Everything ends at once, from everywhere.
    func testFault14ClosesRaceUnderLoad() async throws {
        try await withDeadline(seconds: 60) {
            let watch = Watch()
            let context = try DtlsClientContext.preSharedKey()
            for round in 0..<40 {
                let loopback = try await Loopback(context)
                for owner in [loopback.near, loopback.far] { watch.add(insidesOf: owner) }
                await withTaskGroup { group in
                    for connection in [loopback.near, loopback.far] {
                        group.addTask { while (try? await connection.receive()) ?? nil != nil {} }
                        group.addTask { for _ in 0..<100 { try? await connection.send("x") } }
                        group.addTask { _ = await connection.waitUntilClosed() }
                        group.addTask {
                            for _ in 0..<(round * 3) { await Task.yield() }
                            connection.close()
                        }
                        // One that closes from within its read loop.
                        group.addTask { if (try? await connection.receive()) != nil { connection.close() } }
                    }
                    group.addTask {
                        for _ in 0..<(round * 3) { await Task.yield() }
                        await (round.isMultiple(of: 2) ? loopback.client.close() : loopback.server.close())
                    }
                }
                await loopback.close()
            }
            try await eventually("everything is gone; left: \(watch.alive)") { watch.alive.isEmpty }
        }
    }

    /// The connection is let go while others connect to the same peer.
    func testLettingGoAndConnectingAnewRace() async throws {
        try await withDeadline(seconds: 60) {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            try await withThrowingTaskGroup { group in
                for _ in 0..<4 {
                    group.addTask {
                        for _ in 0..<30 {
                            let connection = try await client.connect(to: server.localAddress, context: context)
                            try await connection.send("x")
                        }
                    }
                }
                try await group.waitForAll()
            }
            await client.close()
            await server.close()
            _ = await echo.value
        }
    }

    /// As above, where it is narrow: the last one lets go of an association just when another connect joins it.
    func testAnAssociationThatWasJoinedIsNotClosedByTheOneThatLetGo() async throws {
        try await withDeadline(seconds: 60) {
            let silent = try RawSocket()
            let endpoint = ClientEndpoint(
                socket: try .bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)),
                queue: DtlsQueueLimits(),
                logger: nil
            )
            let target = ConnectTarget(context: try .preSharedKey(), serverName: nil)
            let closedWhileHeld = Lock(0)
            for _ in 0..<300 {
                let association = try endpoint.association(with: silent.address, target: target, timeout: nil)
                let (holds, others) = (Lock(0), Rendezvous(of: 2))
                await withTaskGroup { group in
                    for index in 0..<2 {
                        group.addTask {
                            await onThreadOfItsOwn {
                                let isHeld = association.hold()
                                if isHeld { holds.withLock { $0 += 1 } }
                                others.wait()
                                guard isHeld else { return }
                                // The hold of the one who began.
                                if index == 0 { association.release() }
                                // It ends when both have let go at once, or when they never did.
                                for _ in 0..<200 {
                                    if (0..<20).contains(where: { _ in association.closeReason != nil }) {
                                        closedWhileHeld.withLock { $0 += 1 }
                                    }
                                    association.release()
                                    guard association.hold() else { return }
                                }
                                association.release()
                            }
                        }
                    }
                }
                XCTAssertEqual(holds.withLock { $0 }, 2)
                XCTAssertNotNil(association.closeReason, "nobody holds it any more")
            }
            XCTAssertEqual(closedWhileHeld.withLock { $0 }, 0, "closed under the one who had just joined")
            endpoint.close()
            await endpoint.loop.waitUntilEnded()
        }
    }
}

/// Where threads wait for each other, asleep, so that they go on at once.
private final class Rendezvous: Sendable {
    private let condition = NSCondition()
    private let missing: Lock<Int>

    init(of count: Int) { missing = Lock(count) }

    func wait() {
        condition.lock()
        defer { condition.unlock() }
        missing.withLock { $0 -= 1 }
        condition.broadcast()
        while missing.withLock({ $0 }) > 0 { condition.wait() }
    }
}

/// Runs `body` on a thread that no other work waits for.
private func onThreadOfItsOwn(_ body: @escaping @Sendable () -> Void) async {
    await withCheckedContinuation { continuation in
        Thread.detachNewThread {
            body()
            continuation.resume()
        }
    }
}
