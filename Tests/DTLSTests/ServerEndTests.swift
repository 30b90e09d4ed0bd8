import DTLSCore
import XCTest

@testable import DTLS

/// How servers end.
final class ServerEndTests: XCTestCase {
    func testCloseEndsReadersTheSequenceAndTheClients() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let second = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            // Nobody accepts this one.
            let waiting = try await second.connect(to: server.localAddress, context: .preSharedKey())
            let readers = [near, far, waiting].map { connection in Task { try await connection.receive() } }
            let acceptor = Task { () -> Int in
                var count = 0
                for await connection in server {
                    XCTAssertEqual(connection.peerAddress, second.localAddress)
                    count += 1
                }
                return count
            }
            await server.close()
            for reader in readers {
                let end = try await reader.value
                XCTAssertNil(end)
            }
            let count = await acceptor.value
            XCTAssertLessThanOrEqual(count, 1)
            for connection in [near, waiting] {
                let reason = await connection.waitUntilClosed()
                XCTAssertEqual(reason, .closedByPeer)
            }
            XCTAssertEqual(far.closeReason, .closedLocally)
            var connections = server.makeAsyncIterator()
            let late = await connections.next()
            XCTAssertNil(late)
            for client in [client, second] { await client.close() }
        }
    }

    func testClosingIsIdempotentAndConcurrent() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            await withTaskGroup { group in
                for _ in 0..<10 { group.addTask { await loopback.server.close() } }
            }
            await loopback.server.close()
            let reason = await loopback.near.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            await loopback.close()
        }
    }

    func testCloseReturnsWhenTheDescriptorIsClosed() async throws {
        try await withDeadline {
            let context = try DtlsServerContext.preSharedKey()
            for _ in 0..<50 {
                let (first, second) = (try RawSocket(), try RawSocket())
                let (ofServer, ofClient) = (duplicate(first.descriptor), duplicate(second.descriptor))
                let before = (inode(of: ofServer), inode(of: ofClient))
                let server = try DtlsServer(socket: ofServer, takesOwnership: true, context: context)
                let client = try DtlsClient(socket: ofClient, takesOwnership: true)
                await server.close()
                XCTAssertNotEqual(inode(of: ofServer), before.0)
                await client.close()
                XCTAssertNotEqual(inode(of: ofClient), before.1)
            }
        }
    }

    func testClosingWhileHandshakesAreUnderWay() async throws {
        try await withDeadline {
            let gate = Gate()
            let store = DtlsPreSharedKeyStore { _ in
                await gate.wait()
                return DtlsSecretBytes(Credentials.key)
            }
            let server = try await DtlsServer.onLoopback(DtlsServerContext(preSharedKeys: store))
            let context = try DtlsClientContext.preSharedKey()
            let connects = (0..<10).map { _ in
                Task {
                    let client = try await DtlsClient.onLoopback()
                    return try await client.connect(to: server.localAddress, context: context)
                }
            }
            try await eventually("every look-up") { gate.waiterCount == 10 }
            await server.close()
            gate.open()
            // Nobody tells the clients: an alert in clear could come from anyone.
            for connect in connects {
                connect.cancel()
                let error = await failure { try await connect.value }
                XCTAssertEqual(error?.code, .cancelled)
            }
        }
    }

    /// Clients connect, send and close while the server is closed under their feet.
    func testClosingUnderLoad() async throws {
        try await withDeadline(seconds: 60) {
            let context = try DtlsClientContext.preSharedKey(nil, .lessEager)
            for round in 0..<10 {
                let server = try await DtlsServer.onLoopback()
                let echo = server.echo()
                let address = server.localAddress
                let clients = (0..<8).map { _ in
                    Task {
                        let client = try await DtlsClient.onLoopback()
                        while true {
                            let connection = try await client.connect(to: address, context: context)
                            try await connection.send("x")
                            guard try await connection.receive() != nil else { return }
                        }
                    }
                }
                for _ in 0..<(round * 40) { await Task.yield() }
                await server.close()
                _ = await echo.value
                for client in clients {
                    client.cancel()
                    if case .failure(let error as DtlsError) = await client.result {
                        // Who connects when the server is gone is told that its port is closed.
                        let expected: [DtlsError.Code] = [.cancelled, .connectionClosed, .peerUnreachable]
                        XCTAssertTrue(expected.contains(error.code), "\(error)")
                    }
                }
            }
        }
    }

    /// A descriptor that others have closed wakes nobody any more, but what is sent by it tells.
    func testADescriptorThatOthersHaveClosedEndsTheServer() async throws {
        try await withDeadline {
            // The only descriptor of its socket.
            let descriptor = try withExtendedLifetime(RawSocket()) { duplicate($0.descriptor) }
            let server = try DtlsServer(socket: descriptor, context: .preSharedKey())
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            try await near.expectArrival(at: far)
            XCTAssertNil(server.failure)
            closeDescriptor(descriptor)
            _ = try? await far.send("into nothing")
            for await _ in server { XCTFail("there is nobody") }
            XCTAssertEqual(server.failure?.code, .socketFailed)
            _ = await far.waitUntilClosed()
            if case .failed(let error)? = far.closeReason {
                XCTAssertEqual(error.code, .socketFailed)
            } else {
                XCTFail("it was not closed by choice: \(String(describing: far.closeReason))")
            }
            await client.close()
            await server.close()
        }
    }

    func testAPeerWhoseSocketIsGoneDisturbsNobody() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let echo = try await DtlsClient.onLoopback()
            let near = try await echo.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            // The relay takes its sockets with it: what is sent to it is answered by ICMP.
            var relay: Relay? = try Relay(to: server.localAddress)
            let gone = try await DtlsClient.onLoopback()
            let address = try XCTUnwrap(relay?.address)
            let unreachable = try await gone.connect(to: address, context: .preSharedKey())
            let toNowhere = try await server.accept()
            relay = nil
            for _ in 0..<20 {
                try await toNowhere.send("is anybody there?")
                try await unreachable.send("is anybody there?")
                try await near.expectArrival(at: far)
                try await far.expectArrival(at: near)
            }
            XCTAssertEqual(toNowhere.state, .open)
            for client in [echo, gone] { await client.close() }
            await server.close()
        }
    }

    func testAServerThatNobodyHoldsIsClosed() async throws {
        try await withDeadline {
            var server: DtlsServer? = try await .onLoopback()
            weak let gone = server
            let address = try XCTUnwrap(server?.localAddress)
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: address, context: .preSharedKey())
            let far = try await server?.accept()
            server = nil
            XCTAssertNil(gone)
            let reason = await near.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            XCTAssertEqual(far?.closeReason, .closedLocally)
            try await eventually("the port is free") {
                guard
                    let next = try? await DtlsServer.bind(
                        host: "127.0.0.1",
                        port: address.port,
                        context: .preSharedKey()
                    )
                else { return false }
                await next.close()
                return true
            }
            await client.close()
        }
    }
}
