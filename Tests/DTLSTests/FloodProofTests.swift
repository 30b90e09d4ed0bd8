import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Floods at a server with live connections. A part of each runs with every `swift test`; `DTLS_PROOF=full` runs the
/// whole and prints figures.
final class FloodProofTests: XCTestCase {
    private static func report(_ text: String) {
        if ProofSize.isFull { print("proof: \(text)") }
    }

    /// Loopback has 2^24 addresses: each stranger comes from one of its own.
    private static func stranger(_ index: Int) throws -> Stranger {
        try Stranger(host: "127.\(1 + index / 62_500).\(index / 250 % 250).\(1 + index % 250)", seed: UInt64(index))
    }

    /// A good client connects, says something, and leaves.
    private static func visit(_ server: DtlsServer) async throws {
        let client = try await DtlsClient.onLoopback()
        let connection = try await client.connect(to: server.localAddress, context: .preSharedKey())
        try await connection.expectEcho("in the midst of a flood")
        await client.close()
    }

    /// Fault 3: 100,000 hellos from as many addresses, none of which ever comes back.
    func testFault03SpoofedHellosLeaveTheServersMemoryFlatAndGoodClientsUnharmed() async throws {
        let count = ProofSize.of(100_000, otherwise: 5_000)
        try await withDeadline(seconds: ProofSize.deadline) {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            // What a handshake loads once is not the flood's.
            try await Self.visit(server)
            for index in 0..<1_000 { try Self.stranger(index).knock(at: server.localAddress) }
            let before = residentMemory()
            let descriptors = try openDescriptors()
            for index in 0..<count {
                try Self.stranger(index).knock(at: server.localAddress)
                if index % 100 == 0 {
                    // No more at once than a socket's buffer holds, so that all of them count.
                    try await eventually("the server came along") {
                        server.statistics.cookiesSent >= index + 1_000
                    }
                }
                if index % (count / 10) == 0 { try await Self.visit(server) }
            }
            try await eventually("all were answered") { server.statistics.cookiesSent >= count + 1_000 }
            let statistics = server.statistics
            XCTAssertEqual(statistics.handshakesStarted, 11)
            XCTAssertEqual(statistics.mostHandshakes, 1)
            try await eventually("no descriptor stayed") { try openDescriptors() <= descriptors }
            if let before, let after = residentMemory() {
                Self.report("\(count) spoofed hellos: memory \(before >> 10) kB before, \(after >> 10) kB after")
                XCTAssertLessThan(after - before, 5 << 20)
            }
            await server.close()
            _ = await echo.value
        }
    }

    /// Fault 4: 5,000 clients stop in the midst of their handshake.
    func testFault04HalfOpenHandshakesAreAllGivenBack() async throws {
        let count = ProofSize.of(5_000, otherwise: 500)
        try await withDeadline(seconds: ProofSize.deadline) {
            let configuration = DtlsConfiguration.make { $0.handshakeTimeout = .seconds(3) }
            let server = try await DtlsServer.onLoopback(.preSharedKey(configuration))
            let echo = server.echo()
            func openHalfway(from first: Int) async throws {
                for index in first..<(first + count) {
                    try await Self.stranger(index).openHalfway(at: server.localAddress)
                }
            }
            func waitUntilGivenBack() async throws {
                try await eventually(within: 30, "all were given back") {
                    server.statistics.connectionsHandshaking == 0
                }
            }
            try await Self.visit(server)
            let before = residentMemory()
            try await openHalfway(from: 0)
            let most = server.statistics.mostHandshakes
            let during = residentMemory()
            try await Self.visit(server)
            try await waitUntilGivenBack()
            let statistics = server.statistics
            XCTAssertEqual(statistics.handshakesFailed, [.handshakeTimedOut: count])
            XCTAssertEqual(statistics.handshakesCompleted, 2)
            if let before, let during, let after = residentMemory() {
                Self.report(
                    "\(count) half-open handshakes, \(most) at once: memory \(before >> 10) kB before, "
                        + "\(during >> 10) kB during, \(after >> 10) kB after"
                )
            }
            // Once more: what was taken the first time is there for the second, so memory grows by little.
            let middle = residentMemory()
            try await openHalfway(from: count)
            try await waitUntilGivenBack()
            if let middle, let after = residentMemory() {
                Self.report("the same again: memory \(middle >> 10) kB before, \(after >> 10) kB after")
                XCTAssertLessThan(after - middle, 8 << 20)
            }
            await server.close()
            _ = await echo.value
        }
    }

    /// Faults 7 and 10: malformed, mutated and forged datagrams, from the addresses of live peers and from elsewhere.
    func testMalformedDatagramsLeaveLiveConnectionsEchoing() async throws {
        let count = ProofSize.of(1_000_000, otherwise: 20_000)
        try await withDeadline(seconds: ProofSize.deadline) {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            var peers: [(socket: RawSocket, client: DtlsClient, connection: DtlsConnection)] = []
            for _ in 0..<8 {
                let socket = try RawSocket()
                let client = try DtlsClient(socket: socket.descriptor)
                let connection = try await client.connect(to: server.localAddress, context: .preSharedKey())
                try await connection.expectEcho()
                peers.append((socket, client, connection))
            }
            let elsewhere = try RawSocket()
            var generator = SeededGenerator(seed: 20_261_124)
            let started = server.statistics.datagramsReceived
            for index in 0..<count {
                let datagram = Self.malformed(&generator)
                let socket = index % 9 == 8 ? elsewhere : peers[index % 9].socket
                socket.send(datagram, to: server.localAddress)
                if index % 200 == 199 {
                    try await eventually("the server came along") {
                        server.statistics.datagramsReceived - started > index - 100
                    }
                }
                if index % (count / 20) == 0 {
                    for peer in peers { try await peer.connection.expectEcho("still here at \(index)") }
                }
            }
            for peer in peers {
                try await peer.connection.expectEcho("and in the end")
                XCTAssertEqual(peer.connection.state, .open)
            }
            let statistics = server.statistics
            XCTAssertEqual(statistics.connectionsOpen, 8)
            XCTAssertEqual(statistics.handshakesFailed, [:])
            Self.report(
                "\(count) malformed datagrams: dropped "
                    + statistics.drops.nonZero.map { "\($0.reason) \($0.count)" }.joined(separator: ", ")
            )
            for peer in peers { await peer.client.close() }
            await server.close()
            _ = await echo.value
        }
    }

    /// Anything at all, a record with a lie in it, or one that claims to be sealed.
    private static func malformed(_ generator: inout SeededGenerator) -> [UInt8] {
        var random: [UInt8] {
            (0..<Int.random(in: 0...80, using: &generator)).map { _ in .random(in: 0...255, using: &generator) }
        }
        switch Int.random(in: 0..<5, using: &generator) {
        case 0:
            return random
        case 1:
            let epoch = UInt16.random(in: 0...2, using: &generator)
            let type = UInt8.random(in: 19...26, using: &generator)
            let number = UInt64.random(in: 0..<1 << 48, using: &generator)
            return RecordDump(contentType: type, epoch: epoch, sequenceNumber: number, body: random).bytes
        case 2:
            var bytes = RecordDump(contentType: 23, epoch: 1, sequenceNumber: 9, body: random).bytes
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            return Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator)))
        case 3:
            return RecordDump(contentType: 21, body: [UInt8.random(in: 1...2, using: &generator), 0]).bytes
        default:
            var bytes = HandmadeHello().datagram
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            return bytes
        }
    }

    /// Fault 24: connections that come and go leave no descriptor, no memory, no task.
    func testFault24CyclesOfConnectAndCloseLeaveNothing() async throws {
        let count = ProofSize.of(10_000, otherwise: 300)
        try await withDeadline(seconds: ProofSize.deadline) {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            let context = try DtlsClientContext.preSharedKey()
            func cycle(_ number: Int) async throws {
                let client = try await DtlsClient.onLoopback()
                let connection = try await client.connect(to: server.localAddress, context: context)
                try await connection.expectEcho("cycle \(number)")
                await client.close()
            }
            for number in 0..<100 { try await cycle(number) }
            let before = residentMemory()
            let descriptors = try openDescriptors()
            for number in 0..<count { try await cycle(number) }
            try await eventually("all have gone") { server.statistics.connectionsOpen == 0 }
            try await eventually("no descriptor stayed") { try openDescriptors() <= descriptors }
            XCTAssertEqual(server.statistics.handshakesCompleted, count + 100)
            if let before, let after = residentMemory() {
                Self.report("\(count) cycles: memory \(before >> 10) kB before, \(after >> 10) kB after")
                // Less than 400 bytes a cycle, of the full proof's: no object of a connection is as small.
                XCTAssertLessThan(after - before, 4 << 20)
            }
            await server.close()
            let served = await echo.value
            XCTAssertEqual(served, count + 100)
        }
    }
}
