import DTLS
import MetricsTestKit
import ServiceLifecycle
import XCTest

@testable import DTLSService

/// Statistics as metrics.
final class MetricsTests: XCTestCase {
    /// Counters have the sums, however many samples were taken, and gauges what there is now.
    func testSamples() throws {
        let factory = TestMetrics()
        let metrics = DtlsMetrics(factory: factory)
        var statistics = DtlsStatistics()
        metrics.record(statistics)
        XCTAssertEqual(factory.counterTotal(label: "dtls_datagrams_total"), 0)
        statistics.datagramsReceived = 10
        statistics.datagramsSent = 7
        statistics.connectionsOpen = 3
        statistics.mostConnections = 4
        statistics.drops[.unknownPeer] = 2
        statistics.handshakesFailed[.handshakeTimedOut] = 1
        for _ in 0..<3 { metrics.record(statistics) }
        statistics.datagramsReceived = 15
        statistics.connectionsOpen = 1
        statistics.drops[.unknownPeer] = 5
        statistics.drops[.draining] = 1
        statistics.handshakesFailed = [.handshakeTimedOut: 4, .authenticationFailed: 2]
        for _ in 0..<3 { metrics.record(statistics) }

        func counted(_ label: String, _ dimensions: [(String, String)] = []) throws -> Int64 {
            try factory.expectCounter(label, dimensions).totalValue
        }
        XCTAssertEqual(try counted("dtls_datagrams_total", [("direction", "received")]), 15)
        XCTAssertEqual(try counted("dtls_datagrams_total", [("direction", "sent")]), 7)
        XCTAssertEqual(try counted("dtls_drops_total", [("reason", "unknownPeer")]), 5)
        XCTAssertEqual(try counted("dtls_drops_total", [("reason", "draining")]), 1)
        XCTAssertEqual(try counted("dtls_handshakes_failed_total", [("error", "handshakeTimedOut")]), 4)
        XCTAssertEqual(try counted("dtls_handshakes_failed_total", [("error", "authenticationFailed")]), 2)
        XCTAssertEqual(try factory.expectGauge("dtls_connections", [("state", "open")]).lastValue, 1)
        XCTAssertEqual(try factory.expectGauge("dtls_connections_most").lastValue, 4)
    }

    /// Everything that is counted has its metric: each field, set to a number of its own, is found.
    func testNothingIsForgotten() throws {
        let factory = TestMetrics()
        let metrics = DtlsMetrics(factory: factory)
        var statistics = DtlsStatistics()
        // Of connections alone, which have no metrics of their own.
        let left: Set<String> = ["roundTrip", "handshakesFailed", "drops"]
        let fields: [(String, WritableKeyPath<DtlsStatistics, Int>)] = [
            ("datagramsReceived", \.datagramsReceived), ("bytesReceived", \.bytesReceived),
            ("datagramsSent", \.datagramsSent), ("bytesSent", \.bytesSent), ("payloadsReceived", \.payloadsReceived),
            ("payloadsSent", \.payloadsSent), ("handshakesStarted", \.handshakesStarted),
            ("handshakesCompleted", \.handshakesCompleted), ("handshakesResumed", \.handshakesResumed),
            ("retransmissions", \.retransmissions), ("cookiesSent", \.cookiesSent), ("sendFailures", \.sendFailures),
            ("peerMoves", \.peerMoves), ("connectionsHandshaking", \.connectionsHandshaking),
            ("connectionsOpen", \.connectionsOpen), ("connectionsEvicted", \.connectionsEvicted),
            ("connectionsIdledOut", \.connectionsIdledOut), ("reconnections", \.reconnections),
            ("mostConnections", \.mostConnections), ("mostHandshakes", \.mostHandshakes),
            ("mostQueuedPayloads", \.mostQueuedPayloads), ("mostQueuedDatagrams", \.mostQueuedDatagrams),
        ]
        let names = Set(fields.map(\.0)).union(left)
        XCTAssertEqual(Set(Mirror(reflecting: statistics).children.compactMap(\.label)), names)
        for (index, field) in fields.enumerated() { statistics[keyPath: field.1] = 1_000 + index }
        for (index, reason) in DtlsDropReason.allCases.enumerated() { statistics.drops[reason] = 2_000 + index }
        metrics.record(statistics)
        let gauges = factory.recorders.compactMap { $0.lastValue.map { Int($0) } }
        let counted = factory.counters.map { Int($0.totalValue) } + gauges
        let wanted = fields.indices.map { 1_000 + $0 } + DtlsDropReason.allCases.indices.map { 2_000 + $0 }
        XCTAssertEqual(counted.sorted(), wanted)
    }

    /// A sum that is lower for once is not counted again when it is back.
    func testASumThatIsLowerForOnce() throws {
        let factory = TestMetrics()
        let metrics = DtlsMetrics(factory: factory)
        var statistics = DtlsStatistics()
        for sum in [10, 8, 10, 12] {
            statistics.payloadsSent = sum
            metrics.record(statistics)
        }
        let counter = try factory.expectCounter("dtls_payloads_total", [("direction", "sent")])
        XCTAssertEqual(counter.totalValue, 12)
        XCTAssertEqual(counter.values, [10, 2])
    }

    /// What all metrics carry comes first.
    func testDimensions() throws {
        let factory = TestMetrics()
        let metrics = DtlsMetrics(dimensions: [("server", "coap")], factory: factory)
        var statistics = DtlsStatistics()
        statistics.drops[.cookieRate] = 3
        metrics.record(statistics)
        let dimensions = [("server", "coap"), ("reason", "cookieRate")]
        XCTAssertEqual(try factory.expectCounter("dtls_drops_total", dimensions).totalValue, 3)
    }

    /// A server of several loops is counted once: its clients have sent and received the same.
    func testAServerOfSeveralLoops() async throws {
        #if !os(Linux)
            throw XCTSkip("several loops need Linux")
        #endif
        try await withDeadline {
            let server = try await Support.bindServer(loops: 3)
            let factory = TestMetrics()
            let metrics = DtlsMetrics(factory: factory)
            let service = DtlsService(server, drainsFor: .seconds(10), Support.echo)
            let sampler = DtlsMetricsService(metrics, every: .milliseconds(1)) { server.statistics }
            // The last is shut down first.
            let group = Support.group(sampler, service)
            let running = Task { try await group.run() }
            var clients: [DtlsClient] = []
            for _ in 0..<12 {
                let client = try await DtlsClient.bind(host: "127.0.0.1")
                let connection = try await client.connect(to: server.localAddress, context: Support.clientContext())
                for number in 0..<10 { try await connection.expectEcho("\(number)") }
                clients.append(client)
                connection.close()
            }
            await group.triggerGracefulShutdown()
            try await running.value

            let sums = clients.reduce(into: DtlsStatistics()) { $0.add($1.statistics) }
            func counted(_ label: String, _ direction: String) throws -> Int {
                Int(try factory.expectCounter(label, [("direction", direction)]).totalValue)
            }
            XCTAssertEqual(try counted("dtls_datagrams_total", "received"), sums.datagramsSent)
            XCTAssertEqual(try counted("dtls_bytes_total", "received"), sums.bytesSent)
            XCTAssertEqual(try counted("dtls_payloads_total", "received"), 120)
            XCTAssertEqual(try counted("dtls_payloads_total", "sent"), 120)
            XCTAssertEqual(try factory.expectCounter("dtls_handshakes_completed_total").totalValue, 12)
            XCTAssertEqual(try factory.expectGauge("dtls_connections", [("state", "open")]).lastValue, 0)
            for client in clients { await client.close() }
        }
    }

    /// The sampler ends with its task, after a last sample.
    func testTheLastSample() async throws {
        try await withDeadline {
            let factory = TestMetrics()
            let sums = Sums()
            let sampler = DtlsMetricsService(DtlsMetrics(factory: factory), every: .seconds(3_600)) { sums.next() }
            let running = Task { try await sampler.run() }
            try await eventually("the first sample") { sums.count == 1 }
            running.cancel()
            try await running.value
            XCTAssertEqual(sums.count, 2)
            XCTAssertEqual(try factory.expectCounter("dtls_cookies_sent_total").totalValue, 2)
        }
    }
}
