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

/// One test for each fault that was found in dtls2 (`B1` to `B20`): limits, ends and credentials.
final class SeedFaultLimitTests: XCTestCase {
    /// A send that the kernel had no room for closed the connection.
    func testB13AFullSocketBufferIsNoError() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let kernel = FullKernel()
            let endpoint = ClientEndpoint(socket: try kernel.makeSocket(), queue: DtlsQueueLimits(), logger: nil)
            let target = ConnectTarget(context: try .preSharedKey(), serverName: nil)
            let association = try endpoint.association(with: server.localAddress, target: target, timeout: nil)
            try await association.waitUntilOpen()
            let near = try XCTUnwrap(association.connection(keepingAlive: endpoint))
            let far = try await server.accept()

            kernel.hasRoom = false
            // The one with which the buffer turned out to be full waits in line; no other is sealed after it.
            XCTAssertTrue(try near.trySend([0]))
            XCTAssertFalse(try near.trySend([0xFF]))
            XCTAssertFalse(try near.trySend([0xFF]))
            let patient = Task { for number in UInt8(1)...50 { try await near.send([number]) } }
            // The rounds differ in how far the sender has come when it is cancelled.
            for round in 0..<20 {
                let impatient = Task { try await near.send([0xFF]) }
                for _ in 0..<(round * 10) { await Task.yield() }
                impatient.cancel()
                let error = await failure { try await impatient.value }
                XCTAssertEqual(error?.code, .cancelled)
            }
            XCTAssertEqual(near.state, .open)

            kernel.hasRoom = true
            try await patient.value
            for number in UInt8(0)...50 {
                let payload = try await far.receive()
                XCTAssertEqual(payload, [number])
            }
            association.release()
            endpoint.close()
            await endpoint.loop.waitUntilEnded()
            await server.close()
        }
    }

    /// A burst through the smallest send buffer arrives in order, as far as it arrives.
    func testB13ABurstThroughASmallBufferKeepsItsOrder() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let options = DtlsSocketOptions(sendBufferSize: 1)
            let client = try await DtlsClient.bind(host: "127.0.0.1", options: options)
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            let read = Lock(0)
            let reader = Task { () -> [Int] in
                var numbers: [Int] = []
                for try await datagram in far {
                    read.withLock { $0 += 1 }
                    numbers.append(Int(datagram[0]) << 8 | Int(datagram[1]))
                    XCTAssertEqual(datagram.count, 1_000)
                }
                return numbers
            }
            for number in 0..<2_000 {
                let header = [UInt8(number >> 8), UInt8(number & 0xFF)]
                try await near.send(header + [UInt8](repeating: 0, count: 998))
            }
            near.close()
            // Closing drops what nobody has read yet; something has to be read first.
            try await eventually("something was read") { read.withLock { $0 } > 0 }
            try await eventually("the end, unless close_notify was lost") {
                if far.state == .open { far.close() }
                return far.state == .closed
            }
            let numbers = try await reader.value
            XCTAssertFalse(numbers.isEmpty)
            XCTAssertEqual(numbers, numbers.sorted(), "the order was lost")
            XCTAssertEqual(Set(numbers).count, numbers.count, "something arrived twice")
            await client.close()
            await server.close()
        }
    }

    /// A payload of more than 16,384 bytes closed the connection.
    func testB14APayloadThatIsTooLargeIsATypedErrorAndTheConnectionLives() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let maximum = loopback.near.maximumPayloadSize
            for size in [maximum + 1, 16_385, 65_537, 1 << 20] {
                let payload = [UInt8](repeating: 1, count: size)
                let sent = await failure { try await loopback.near.send(payload) }
                XCTAssertEqual(sent?.code, .payloadTooLarge)
                let tried = await failure { try loopback.near.trySend(payload) }
                XCTAssertEqual(tried?.code, .payloadTooLarge)
            }
            let largest = (0..<maximum).map { UInt8(truncatingIfNeeded: $0) }
            try await loopback.near.send(largest)
            let received = try await loopback.far.receive()
            XCTAssertEqual(received, largest)
            try await loopback.far.expectArrival(at: loopback.near)
            await loopback.close()
        }
    }

    /// An error that came after the close was added to a closed stream.
    func testB15NothingFollowsAClose() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            loopback.near.close()
            for text in ["late", "later"] { try? await loopback.far.send(text) }
            for _ in 0..<3 {
                let end = try await loopback.near.receive()
                XCTAssertNil(end)
                loopback.near.close()
            }
            let error = await failure { try await loopback.near.send("too late") }
            XCTAssertEqual(error?.code, .connectionClosed)
            XCTAssertEqual(loopback.near.closeReason, .closedLocally)
            await loopback.close()
        }
    }

    /// A connect that was under way when the client was closed never came to an end.
    func testB16ClosingTheClientEndsAConnect() async throws {
        try await withDeadline {
            let silent = try RawSocket()
            let client = try await DtlsClient.onLoopback()
            let connect = Task { try await client.connect(to: silent.address, context: .preSharedKey()) }
            _ = try await silent.receive()
            await client.close()
            let error = await failure { try await connect.value }
            XCTAssertEqual(error?.code, .connectionClosed)
            let late = await failure { try await client.connect(to: silent.address, context: .preSharedKey()) }
            XCTAssertEqual(late?.code, .connectionClosed)
        }
    }

    /// Whatever waits, cancelling its task ends the wait.
    func testB16CancellingEndsEveryWait() async throws {
        try await withDeadline {
            let silent = try RawSocket()
            let loopback = try await Loopback()
            let context = try DtlsClientContext.preSharedKey()
            // The rounds differ in how far the tasks have come when they are cancelled.
            for round in 0..<20 {
                let connect = Task {
                    try await loopback.client.connect(to: silent.address, context: context, timeout: .seconds(600))
                }
                let read = Task { try await loopback.near.receive() }
                let accept = Task { () -> DtlsConnection? in
                    var connections = loopback.server.makeAsyncIterator()
                    return await connections.next()
                }
                let end = Task { await loopback.near.waitUntilClosed() }
                for _ in 0..<(round * 10) { await Task.yield() }
                for cancel in [connect.cancel, read.cancel, accept.cancel, end.cancel] { cancel() }
                let connecting = await failure { try await connect.value }
                XCTAssertEqual(connecting?.code, .cancelled)
                let reading = await failure { try await read.value }
                XCTAssertEqual(reading?.code, .cancelled)
                let accepted = await accept.value
                XCTAssertNil(accepted)
                let reason = await end.value
                XCTAssertEqual(reason, .closedLocally)
            }
            // The connection is none the worse.
            XCTAssertEqual(loopback.near.state, .open)
            try await loopback.far.expectArrival(at: loopback.near)
            await loopback.close()
        }
    }
}

/// A kernel whose send buffer is full for as long as a test wants it.
private final class FullKernel: Sendable {
    private struct State {
        var hasRoom = true
        var descriptor: Int32 = -1
    }

    private let state = Lock(State())

    var hasRoom: Bool {
        get { state.withLock { $0.hasRoom } }
        set { state.withLock { $0.hasRoom = newValue } }
    }

    func makeSocket() throws -> UDPSocket {
        let socket = try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)) { bytes, peer in
            let (hasRoom, descriptor) = self.state.withLock { ($0.hasRoom, $0.descriptor) }
            guard hasRoom else { return .wouldBlock }
            return peer.withSystemAddress(.ipv4) { pointer, length in
                SystemCall.run { sendto(descriptor, bytes.baseAddress, bytes.count, 0, pointer, length) }
            } ?? .failed(EAFNOSUPPORT)
        }
        state.withLock { $0.descriptor = socket.descriptor }
        return socket
    }
}
