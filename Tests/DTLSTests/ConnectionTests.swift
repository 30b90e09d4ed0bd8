import DTLSCore
import XCTest

@testable import DTLS

final class ConnectionTests: XCTestCase {
    // MARK: What it says of itself

    func testWhatAConnectionSaysOfItself() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let loopback = try await Loopback(.trusting(identity), .presenting(identity))
            let (near, far) = (loopback.near, loopback.far)
            XCTAssertEqual(near.peerAddress, loopback.server.localAddress)
            XCTAssertEqual(far.peerAddress, loopback.client.localAddress)
            XCTAssertEqual(near.localAddress, loopback.client.localAddress)
            XCTAssertEqual(far.localAddress, loopback.server.localAddress)
            for connection in [near, far] {
                XCTAssertEqual(connection.state, .open)
                XCTAssertNil(connection.closeReason)
                XCTAssertEqual(connection.negotiated.version, .v1_2)
                XCTAssertNotNil(connection.negotiated.group)
                XCTAssertNil(connection.negotiated.preSharedKeyIdentity)
                XCTAssertFalse(connection.negotiated.isResumed)
                // The default MTU of 1,200 bytes without header, and nonce and tag of the suite.
                let overhead = connection.negotiated.cipherSuite.openSSLName.contains("CHACHA20") ? 29 : 37
                XCTAssertEqual(connection.maximumPayloadSize, 1_200 - overhead - connection.connectionIDOverhead)
            }
            XCTAssertEqual(near.negotiated.cipherSuite, far.negotiated.cipherSuite)
            XCTAssertEqual(near.negotiated.peerCertificates, identity.certificateChain)
            XCTAssertEqual(far.negotiated.peerCertificates, [])
            near.close()
            XCTAssertEqual(near.state, .closed)
            XCTAssertEqual(near.closeReason, .closedLocally)
            let reason = await far.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            XCTAssertEqual(far.closeReason, .closedByPeer)
            await loopback.close()
        }
    }

    func testTheLargestPayloadFillsTheMTU() async throws {
        try await withDeadline {
            for mtu in [256, 1_200, 4_096, 65_507] {
                let configuration = DtlsConfiguration.make { $0.mtu = mtu }
                let loopback = try await Loopback(
                    .preSharedKey(nil, configuration),
                    .preSharedKey(configuration),
                    relayed: true
                )
                let payload = [UInt8](repeating: 1, count: loopback.near.maximumPayloadSize)
                try await loopback.near.send(payload)
                let received = try await loopback.far.receive()
                XCTAssertEqual(received, payload)
                let largest = try loopback.relay.recorded(.toServer).map(\.count).max()
                XCTAssertEqual(largest, min(mtu, 16_384 + 29 + loopback.near.connectionIDOverhead), "an MTU of \(mtu)")
                await loopback.close()
            }
        }
    }

    func testStatisticsCountWhatPasses() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let before = (loopback.near.statistics, loopback.far.statistics)
            for number in 0..<10 { try await loopback.near.expectArrival(at: loopback.far, "\(number)") }
            let after = (loopback.near.statistics, loopback.far.statistics)
            XCTAssertEqual(after.0.payloadsSent - before.0.payloadsSent, 10)
            XCTAssertEqual(after.0.datagramsSent - before.0.datagramsSent, 10)
            XCTAssertEqual(after.1.payloadsReceived - before.1.payloadsReceived, 10)
            XCTAssertEqual(after.1.datagramsReceived - before.1.datagramsReceived, 10)
            loopback.near.close()
            XCTAssertEqual(loopback.near.statistics.payloadsSent, 10, "the counts were lost at the end")
            await loopback.close()
        }
    }

    // MARK: Sending and receiving

    func testDatagramsArriveInOrderThroughASlowReader() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let sender = Task {
                for number in 0..<1_000 {
                    try await loopback.near.send("\(number)")
                    // No more on the way than the kernel has room for.
                    try await eventually("the server has caught up") {
                        number - loopback.far.statistics.payloadsReceived < 50
                    }
                }
            }
            for number in 0..<1_000 {
                for _ in 0..<(number % 7) { await Task.yield() }
                let text = try await loopback.far.receiveText()
                XCTAssertEqual(text, "\(number)")
            }
            try await sender.value
            XCTAssertEqual(loopback.far.statistics.payloadsDropped, 0)
            await loopback.close()
        }
    }

    func testWhatNobodyReadsIsDroppedAndCounted() async throws {
        try await withDeadline {
            // First by number, then by bytes.
            for (size, kept) in [(4, 1_024), (1_100, (1 << 20) / 1_100)] {
                let loopback = try await Loopback()
                let count = 1_100
                for number in 0..<count {
                    let header = [UInt8(number >> 8), UInt8(number & 0xFF)]
                    try await loopback.near.send(header + [UInt8](repeating: 0, count: size - 2))
                    if number % 25 == 24 {
                        try await eventually("all has come") { loopback.far.statistics.payloadsReceived == number + 1 }
                    }
                }
                XCTAssertEqual(loopback.far.statistics.payloadsDropped, count - kept)
                for number in 0..<kept {
                    let payload = try await loopback.far.receive()
                    XCTAssertEqual(payload?.prefix(2), [UInt8(number >> 8), UInt8(number & 0xFF)])
                }
                // There is room again.
                for _ in 0..<3 { try await loopback.near.send([UInt8](repeating: 1, count: 1_100)) }
                try await eventually("all has come") { loopback.far.statistics.payloadsReceived == count + 3 }
                XCTAssertEqual(loopback.far.statistics.payloadsDropped, count - kept)
                for _ in 0..<3 {
                    let payload = try await loopback.far.receive()
                    XCTAssertEqual(payload?.count, 1_100)
                }
                await loopback.close()
            }
        }
    }

    func testSeveralReadersGetDistinctDatagrams() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let readers = (0..<5).map { _ in
                Task { () -> [String] in
                    var texts: [String] = []
                    for try await datagram in loopback.far { texts.append(String(decoding: datagram, as: UTF8.self)) }
                    return texts
                }
            }
            for number in 0..<500 {
                try await loopback.near.send("\(number)")
                if number % 25 == 24 {
                    try await eventually("all has come") { loopback.far.statistics.payloadsReceived == number + 1 }
                }
            }
            loopback.near.close()
            var texts: [String] = []
            for reader in readers {
                let read = try await reader.value
                XCTAssertEqual(read.compactMap { Int($0) }, read.compactMap { Int($0) }.sorted())
                texts += read
            }
            XCTAssertEqual(texts.count, 500)
            XCTAssertEqual(Set(texts), Set((0..<500).map(String.init)))
            await loopback.close()
        }
    }

    func testFault27ConcurrentSendersEachKeepTheirOrder() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let reader = Task { () -> [[UInt8]] in
                var datagrams: [[UInt8]] = []
                for try await datagram in loopback.far {
                    datagrams.append(datagram)
                    if datagrams.count == 160 { break }
                }
                return datagrams
            }
            try await withThrowingTaskGroup { group in
                for sender in UInt8(0)..<8 {
                    group.addTask {
                        for number in UInt8(0)..<20 { try await loopback.near.send([sender, number]) }
                    }
                }
                try await group.waitForAll()
            }
            let datagrams = try await reader.value
            for sender in UInt8(0)..<8 {
                XCTAssertEqual(datagrams.filter { $0[0] == sender }.map { $0[1] }, Array(0..<20))
            }
            // On the wire the sequence numbers rise by one: no two records share one, none overtakes another.
            let numbers = try loopback.relay.recorded(.toServer).suffix(160).map { datagram in
                datagram[5..<11].reduce(0) { $0 << 8 | Int($1) }
            }
            XCTAssertEqual(numbers, Array((numbers.first ?? 0)..<((numbers.first ?? 0) + 160)))
            await loopback.close()
        }
    }

    func testAnEmptyPayloadIsRefusedAndHarmless() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let before = loopback.near.statistics
            let error = await failure { try await loopback.near.send([]) }
            XCTAssertEqual(error?.code, .unsupported)
            XCTAssertThrowsError(try loopback.near.trySend([]))
            XCTAssertEqual(loopback.near.statistics, before)
            try await loopback.near.expectArrival(at: loopback.far)
            await loopback.close()
        }
    }

    func testFault08EveryDatagramSentTwiceIsDeliveredOnce() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            try loopback.relay.rule { [$0.bytes, $0.bytes] }
            for number in 0..<50 {
                try await loopback.near.expectArrival(at: loopback.far, "there \(number)")
                try await loopback.far.expectArrival(at: loopback.near, "back \(number)")
            }
            loopback.near.close()
            let end = try await loopback.far.receive()
            XCTAssertNil(end)
            await loopback.close()
        }
    }
}
