public import DTLS
public import ServiceLifecycle

/// A service that samples the statistics of a server, or of a client, at an interval.
///
/// A group shuts its services down from the last to the first. List it before the server's, and its last sample has
/// what the drain has brought.
public struct DtlsMetricsService: Service {
    private let metrics: DtlsMetrics
    private let interval: Duration
    private let statistics: @Sendable () -> DtlsStatistics

    /// Makes a service.
    ///
    /// - Parameters:
    ///   - metrics: Where samples go; nobody else may give it any.
    ///   - interval: How long to wait between samples. A server asks each connection, which takes some hundred
    ///     nanoseconds for each. Default: 10 seconds.
    ///   - statistics: Where samples come from, such as `{ server.statistics }`.
    public init(
        _ metrics: DtlsMetrics = DtlsMetrics(),
        every interval: Duration = .seconds(10),
        of statistics: @escaping @Sendable () -> DtlsStatistics
    ) {
        self.metrics = metrics
        self.interval = interval
        self.statistics = statistics
    }

    /// Samples until the group shuts down gracefully or the task is cancelled, and once more then.
    public func run() async throws {
        try? await cancelWhenGracefulShutdown {
            while true {
                metrics.record(statistics())
                try await Task.sleep(for: interval, clock: .continuous)
            }
        }
        metrics.record(statistics())
    }
}
