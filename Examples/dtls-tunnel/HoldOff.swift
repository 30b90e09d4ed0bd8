/// When a connection may be tried again after one has failed: the longer, the more have failed in a row.
struct HoldOff {
    private static let shortest = 0.5
    private static let longest = 30.0

    /// How long it is now, in seconds.
    private(set) var seconds = 0.0
    private var failedAt: MonotonicTime?

    /// Whether an attempt may begin.
    func allows(_ now: MonotonicTime) -> Bool {
        guard let failedAt else { return true }
        return now >= failedAt + seconds
    }

    mutating func failed(begunAt begin: MonotonicTime, _ now: MonotonicTime) {
        // Of several that ran at the same time one counts.
        let isNews = failedAt.map { begin >= $0 } ?? true
        if isNews { seconds = seconds == 0 ? Self.shortest : min(seconds * 2, Self.longest) }
        failedAt = now
    }

    mutating func succeeded() {
        self = HoldOff()
    }
}
