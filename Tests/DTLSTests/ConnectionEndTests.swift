import DTLSCore
import XCTest

@testable import DTLS

/// How connections end.
final class ConnectionEndTests: XCTestCase {
    /// A task that was cancelled reads no more, however much there is and comes; others may.
    func testACancelledReaderTakesNothing() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let (near, far) = (loopback.near, loopback.far)
            for _ in 0..<3 { try await near.send("still here") }
            try await eventually("they are there") { far.statistics.payloadsReceived == 3 }
            let reading = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                for try await _ in far { XCTFail("it was cancelled") }
            }
            let error = await failure { try await reading.value }
            XCTAssertEqual(error?.code, .cancelled)
            for _ in 0..<3 {
                let text = try await far.receiveText()
                XCTAssertEqual(text, "still here")
            }
            await loopback.close()
        }
    }

    func testClosingFromManyTasksIsOneClose() async throws {
        try await withDeadline {
            let plain = DtlsConfiguration.make { $0.connectionIDs = .off }
            let loopback = try await Loopback(.preSharedKey(nil, plain), .preSharedKey(), relayed: true)
            let waiters = (0..<10).map { _ in Task { await loopback.near.waitUntilClosed() } }
            await withTaskGroup { group in
                for _ in 0..<20 { group.addTask { loopback.near.close() } }
            }
            for waiter in waiters {
                let reason = await waiter.value
                XCTAssertEqual(reason, .closedLocally)
            }
            let reason = await loopback.far.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            let alerts = try loopback.relay.recorded(.toServer).filter { $0[0] == 21 }
            XCTAssertEqual(alerts.count, 1, "close_notify was sent more than once")
            await loopback.close()
        }
    }

    func testClosingWithinAReadLoopEndsIt() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            for number in 0..<10 { try await loopback.near.send("\(number)") }
            var texts: [String] = []
            for try await datagram in loopback.far {
                texts.append(String(decoding: datagram, as: UTF8.self))
                if texts.count == 3 { loopback.far.close() }
            }
            // What came before this side's own close is not read any more.
            XCTAssertEqual(texts, ["0", "1", "2"])
            await loopback.close()
        }
    }

    func testWhatCameBeforeThePeersCloseCanStillBeRead() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            for number in 0..<10 { try await loopback.near.send("\(number)") }
            loopback.near.close()
            _ = await loopback.far.waitUntilClosed()
            var texts: [String] = []
            for try await datagram in loopback.far { texts.append(String(decoding: datagram, as: UTF8.self)) }
            XCTAssertEqual(texts, (0..<10).map(String.init))
            await loopback.close()
        }
    }

    func testEveryWayToEndHasItsReason() async throws {
        try await withDeadline {
            let local = try await Loopback()
            local.near.close()
            let localReason = await local.near.waitUntilClosed()
            XCTAssertEqual(localReason, .closedLocally)
            let peerReason = await local.far.waitUntilClosed()
            XCTAssertEqual(peerReason, .closedByPeer)
            // Asked again, the answer is the same.
            let again = await local.far.waitUntilClosed()
            XCTAssertEqual(again, .closedByPeer)
            await local.close()

            let client = try await Loopback()
            await client.client.close()
            let clientReason = await client.near.waitUntilClosed()
            XCTAssertEqual(clientReason, .closedLocally)
            await client.close()

            let server = try await Loopback()
            await server.server.close()
            let serverReason = await server.far.waitUntilClosed()
            XCTAssertEqual(serverReason, .closedLocally)
            await server.close()
        }
    }

    func testSendingAfterTheEndIsATypedError() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            loopback.near.close()
            _ = await loopback.far.waitUntilClosed()
            for connection in [loopback.near, loopback.far] {
                let sent = await failure { try await connection.send("late") }
                XCTAssertEqual(sent?.code, .connectionClosed)
                let tried = await failure { try connection.trySend([1]) }
                XCTAssertEqual(tried?.code, .connectionClosed)
            }
            await loopback.close()
        }
    }

    /// Forged datagrams in clear, from the peer's own address.
    func testForgedDatagramsInClearEndNothing() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let header: [UInt8] = [0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 99, 0]
            let forged: [[UInt8]] = [
                [21] + header + [2, 2, 40],  // fatal handshake_failure
                [21] + header + [2, 1, 0],  // close_notify
                [23] + header + [5] + Array("never".utf8),
                [20] + header + [1, 1],
                [22] + header + [12] + [20, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0],
            ]
            for datagram in forged {
                try loopback.relay.inject(datagram, .toServer)
                try loopback.relay.inject(datagram, .toClient)
                try await loopback.near.expectArrival(at: loopback.far)
                try await loopback.far.expectArrival(at: loopback.near)
            }
            XCTAssertEqual(loopback.far.statistics.recordsDropped, forged.count)
            XCTAssertEqual(loopback.near.statistics.recordsDropped, forged.count)
            await loopback.close()
        }
    }

    /// Sealed records with a bit of their tag turned.
    func testForgedSealedRecordsEndNothing() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            try loopback.relay.rule { datagram in
                var forged = datagram.bytes
                forged[forged.count - 1] ^= 1
                var ahead = forged
                ahead[8] = 0xFF  // a sequence number far beyond the window
                return [forged, ahead, datagram.bytes]
            }
            for number in 0..<20 {
                try await loopback.near.expectArrival(at: loopback.far, "there \(number)")
                try await loopback.far.expectArrival(at: loopback.near, "back \(number)")
            }
            await loopback.close()
        }
    }
}
