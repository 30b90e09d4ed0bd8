public import CoreMetrics
public import DTLS
import Synchronization

/// What a server, a client or a connection counts (`DtlsStatistics`), as metrics of swift-metrics. README.md lists
/// their names.
///
/// `DtlsStatistics` has sums since the beginning and counters want what has come since the last time, so it remembers
/// what it was given: make one for each source, and give it nothing else. Sources whose metrics have the same names and
/// dimensions add up in the counters; their gauges overwrite each other, so give each source a dimension of its own.
public final class DtlsMetrics: Sendable {
    private let factory: any MetricsFactory
    private let dimensions: [(String, String)]
    private let gauges: [(gauge: Gauge, value: Reading)]
    private let counts: Mutex<Counts>

    private typealias Reading = @Sendable (DtlsStatistics) -> Int

    /// One counter, and what was counted up to the last sample.
    private struct Count {
        let counter: Counter
        var last = 0

        /// Adds what is new. A sum can be somewhat lower than the one before, while a connection ends in between; what
        /// was counted is not counted again then.
        mutating func reach(_ sum: Int) {
            guard sum > last else { return }
            counter.increment(by: sum - last)
            last = sum
        }
    }

    private struct Counts {
        var sums: [(count: Count, value: Reading)]
        var drops: [(count: Count, reason: DtlsDropReason)]
        /// Made when there is one: nobody can list all codes.
        var failures: [DtlsError.Code: Count] = [:]
    }

    /// Makes the metrics.
    ///
    /// - Parameters:
    ///   - dimensions: What all of them carry, such as `[("server", "coap")]`. Default: nothing.
    ///   - factory: Where they are made. Default: the current task's, which is the system's unless someone has set
    ///     another.
    public init(dimensions: [(String, String)] = [], factory: any MetricsFactory = MetricsSystem.factory) {
        self.factory = factory
        self.dimensions = dimensions
        func counter(_ name: String, _ own: [(String, String)] = []) -> Count {
            Count(counter: Counter(label: "dtls_\(name)_total", dimensions: dimensions + own, factory: factory))
        }
        func sum(_ name: String, _ own: [(String, String)] = [], _ value: @escaping Reading) -> (Count, Reading) {
            (counter(name, own), value)
        }
        func gauge(_ name: String, _ own: [(String, String)] = [], _ value: @escaping Reading) -> (Gauge, Reading) {
            (Gauge(label: "dtls_\(name)", dimensions: dimensions + own, factory: factory), value)
        }
        let received = [("direction", "received")]
        let sent = [("direction", "sent")]
        counts = Mutex(
            Counts(
                sums: [
                    sum("datagrams", received) { $0.datagramsReceived },
                    sum("datagrams", sent) { $0.datagramsSent },
                    sum("bytes", received) { $0.bytesReceived },
                    sum("bytes", sent) { $0.bytesSent },
                    sum("payloads", received) { $0.payloadsReceived },
                    sum("payloads", sent) { $0.payloadsSent },
                    sum("handshakes_started") { $0.handshakesStarted },
                    sum("handshakes_completed") { $0.handshakesCompleted },
                    sum("handshakes_resumed") { $0.handshakesResumed },
                    sum("retransmissions") { $0.retransmissions },
                    sum("cookies_sent") { $0.cookiesSent },
                    sum("send_failures") { $0.sendFailures },
                    sum("peer_moves") { $0.peerMoves },
                    sum("connections_evicted") { $0.connectionsEvicted },
                    sum("connections_idled_out") { $0.connectionsIdledOut },
                    sum("reconnections") { $0.reconnections },
                ],
                // All of them, so that a first drop is seen as a change from zero.
                drops: DtlsDropReason.allCases.map { (counter("drops", [("reason", "\($0)")]), $0) }
            )
        )
        gauges = [
            gauge("connections", [("state", "handshaking")]) { $0.connectionsHandshaking },
            gauge("connections", [("state", "open")]) { $0.connectionsOpen },
            gauge("connections_most") { $0.mostConnections },
            gauge("handshakes_most") { $0.mostHandshakes },
            gauge("queued_payloads_most") { $0.mostQueuedPayloads },
            gauge("queued_datagrams_most") { $0.mostQueuedDatagrams },
        ]
    }

    /// Takes a sample: counters grow by what is new, gauges become what they are now.
    public func record(_ statistics: DtlsStatistics) {
        counts.withLock { counts in
            for index in counts.sums.indices {
                counts.sums[index].count.reach(counts.sums[index].value(statistics))
            }
            for index in counts.drops.indices {
                counts.drops[index].count.reach(statistics.drops[counts.drops[index].reason])
            }
            for (code, sum) in statistics.handshakesFailed {
                counts.failures[code, default: failureCount(code)].reach(sum)
            }
        }
        for (gauge, value) in gauges { gauge.record(value(statistics)) }
    }

    private func failureCount(_ code: DtlsError.Code) -> Count {
        let dimensions = dimensions + [("error", "\(code)")]
        return Count(counter: Counter(label: "dtls_handshakes_failed_total", dimensions: dimensions, factory: factory))
    }
}
